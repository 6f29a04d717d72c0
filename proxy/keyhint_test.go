package proxy

import "testing"

func TestKeyHintShowsTooLittleToUse(t *testing.T) {
	tests := []struct{ name, key, want string }{
		{"none", "", ""},
		{"a LangSmith key", "lsv2_pt_0123456789abcdefghijklmnopqrstuvwxyz", "lsv2_…yz"},
		{"short", "lsv2_pt_12345", "…"},
		{"just short", "123456789012345", "…"},
		{"just long enough", "1234567890123456", "12345…56"},
		{"not ASCII", "äöüßéèêëàâáåãæøœ", "äöüßé…øœ"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := KeyHint(tt.key); got != tt.want {
				t.Errorf("KeyHint = %q, want %q", got, tt.want)
			}
		})
	}
}
