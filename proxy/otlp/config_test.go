package otlp

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg  Config
		want string // empty: valid
	}{
		"defaults":             {Config{}, ""},
		"large messages alone": {Config{MaxMessageBytes: 200 << 20}, ""},
		"small":                {Config{MaxMessageBytes: 1 << 10, MaxSpans: 1, MaxStreams: 1, MaxConnections: 1, MaxHeaderBytes: 1 << 10, ReceiveTimeout: time.Millisecond}, ""},
		"negative size":        {Config{MaxMessageBytes: -1}, "MaxMessageBytes is -1, must be between 1024 and 2147483647"},
		"negative spans":       {Config{MaxSpans: -1}, "MaxSpans is -1, must be between 1 and 2147483647"},
		"endless wait":         {Config{ReceiveTimeout: 48 * time.Hour}, "ReceiveTimeout (ns) is"},
		"little in flight":     {Config{MaxMessageBytes: 4 << 20, MaxInflightBytes: 8 << 20}, "MaxInflightBytes is 8388608, must be at least 8388610 with this MaxMessageBytes"},
		"two at a time":        {Config{MaxStreams: -1, MaxConnections: -1}, "MaxConnections is -1"},
	} {
		err := tc.cfg.Validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want %q in it", name, err, tc.want)
		}
		if _, newErr := New(tc.cfg, discard{}); (newErr == nil) != (err == nil) {
			t.Errorf("%s: New says %v", name, newErr)
		}
	}
}

func TestOneRegistererTakesOneHandler(t *testing.T) {
	t.Parallel()
	cfg := Config{Registerer: prometheus.NewRegistry()}
	if _, err := New(cfg, discard{}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, discard{}); err == nil {
		t.Error("a second handler registered the same metrics")
	}
}
