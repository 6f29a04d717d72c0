package upstream

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanHidesTheKeyHoweverItIsWritten(t *testing.T) {
	odd := "sk-with/odd+chars&<quotes>\"and more"
	quoted, err := json.Marshal(odd)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, key, in, want string
	}{
		{"nothing to hide", testKey, "Forbidden", "Forbidden"},
		{"the key", testKey, "bad key " + testKey + "!", "bad key lsv2_…yz!"},
		{"twice", testKey, testKey + testKey, "lsv2_…yzlsv2_…yz"},
		{"cut off at the end", testKey, "key=" + testKey[:20], "key=lsv2_…yz"},
		{"as much as may be shown", testKey, "key=" + testKey[:5], "key=" + testKey[:5]},
		{"in a URL", odd, "/x?k=" + url.QueryEscape(odd), "/x?k=sk-wi…re"},
		{"in JSON", odd, `{"k":` + string(quoted) + `}`, `{"k":"sk-wi…re"}`},
		{"somebody else's", testKey, "key lsv2_sk_aaaabbbbccccdddd is known", "key lsv2_sk_… is known"},
		{"an old one", testKey, "key ls__0123456789abcdef is old", "key ls__… is old"},
		{"no key sent", "", "key lsv2_sk_aaaabbbbccccdddd is known", "key lsv2_sk_… is known"},
		{"a key too short to be one", "a", "an apple", "an apple"},
		{"escape sequences", testKey, "\x1b[31mred\x00\u009b", "\uFFFD[31mred\uFFFD\uFFFD"},
		{"invalid UTF-8", testKey, "a\xffb", "a\uFFFDb"},
		{"line breaks stay", testKey, "a\r\n\tb", "a\r\n\tb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := newRedactor(tt.key).clean(tt.in, 1000); got != tt.want {
				t.Errorf("clean(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestCleanCutsBetweenCharacters(t *testing.T) {
	in := strings.Repeat("é€😀", 50)
	for limit := range 40 {
		got := redactor{}.clean(in, limit)
		if len(got) > limit || !utf8.ValidString(got) || !strings.HasPrefix(in, got) {
			t.Fatalf("clean to %d bytes = %q", limit, got)
		}
		if len(got) < limit-3 {
			t.Errorf("clean to %d bytes kept only %d", limit, len(got))
		}
	}
}
