package main

import (
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseBytes(t *testing.T) {
	tests := []struct {
		text string
		want int64 // -1: refused
	}{
		{"0", 0},
		{"1", 1},
		{"1B", 1},
		{"10GiB", 10 << 30},
		{"10 gib", 10 << 30},
		{"500MB", 500_000_000},
		{"1.5KiB", 1536},
		{"2TB", 2_000_000_000_000},
		{"1kb", 1000},
		{"9007199254740993", 9007199254740993}, // more than a float64 holds
		{"", -1},
		{"B", -1},
		{"GiB", -1},
		{"-1", -1},
		{"-1MiB", -1},
		{"1.5", -1},
		{"10G", -1},
		{"10k", -1},
		{"1e3", -1},
		{"0x10", -1},
		{"1_000", -1},
		{"NaN", -1},
		{"inf", -1},
		{"infGiB", -1},
		{"99999999TiB", -1},
		{"9223372036854775808", -1},
		{"1 2", -1},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := parseBytes(tt.text)
			if err != nil {
				got = -1
			}
			if got != tt.want {
				t.Errorf("parseBytes(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestFormatsParseBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "bytes")
		unit := rapid.SampledFrom(byteUnits).Draw(t, "unit")
		if factor := int64(unit.bytes); n < math.MaxInt64/factor {
			n *= factor
		}
		// Whole numbers of a unit up to 2^53 are exact.
		if got, err := parseBytes(formatBytes(n)); err != nil || (got != n && n < 1<<53) {
			t.Errorf("parseBytes(%q) = %d, %v; want %d", formatBytes(n), got, err, n)
		}
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "duration"))
		if got, err := time.ParseDuration(formatDuration(d)); err != nil || got != d {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", formatDuration(d), got, err, d)
		}
	})
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		text  string
		want  string // "": refused
		local bool
	}{
		{"127.0.0.1:4317", "127.0.0.1:4317", true},
		{" localhost:0 ", "localhost:0", true},
		{"[::1]:4317", "[::1]:4317", true},
		{"[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", true},
		{":4317", ":4317", false},
		{"0.0.0.0:4317", "0.0.0.0:4317", false},
		{"[::]:4317", "[::]:4317", false},
		{"192.168.1.2:4317", "192.168.1.2:4317", false},
		{"localhost.example.com:4317", "localhost.example.com:4317", false},
		{"unix:/run/weir.sock", "unix:/run/weir.sock", true},
		{"unix:///run/weir.sock", "unix:/run/weir.sock", true},
		{"off", "off", true},
		{"OFF", "off", true},
		{"", "off", true},
		{"4317", "", false},
		{"127.0.0.1", "", false},
		{"127.0.0.1:65536", "", false},
		{"127.0.0.1:-1", "", false},
		{"127.0.0.1:grpc", "", false},
		{"::1:4317", "", false},
		{"http://127.0.0.1:4317", "", false},
		{"unix:", "", false},
		{"*:4317", "", false},
		{"a b:1", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			var addr listenAddr
			v := addrValue{to: &addr}
			if err := v.parse(tt.text); (err != nil) != (tt.want == "") {
				t.Fatalf("parse: %v", err)
			}
			if tt.want == "" {
				return
			}
			if v.String() != tt.want || addr.local() != tt.local {
				t.Errorf("%s, local %v; want %s, %v", v, addr.local(), tt.want, tt.local)
			}
		})
	}
}

func TestSecretsShowNoMoreThanTheirEnds(t *testing.T) {
	const long = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"
	for text, want := range map[secret]string{"": "", "short": "…", "fifteen-letters": "…", long: "lsv2_…89"} {
		if got := text.String(); got != want {
			t.Errorf("%d characters show as %q, want %q", len(text), got, want)
		}
	}
	s := &settings{APIKey: long, AdminToken: "a-token"}
	var log strings.Builder
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("settings", slog.Any("key", s.APIKey), slog.Any("struct", struct{ Key secret }{s.APIKey}))
	for name, text := range map[string]string{
		"%v": fmt.Sprintf("%v", s), "%+v": fmt.Sprintf("%+v", *s), "%#v": fmt.Sprintf("%#v", *s), "%q": fmt.Sprintf("%q", s.APIKey), "slog": log.String(),
	} {
		if strings.Contains(text, "0123456789") || strings.Contains(text, "a-token") {
			t.Errorf("%s shows a secret: %s", name, text)
		}
	}
}

func TestHumanUnits(t *testing.T) {
	durations := map[time.Duration]string{
		-time.Second: "<1s", 0: "<1s", 999 * time.Millisecond: "<1s", time.Second: "1s", 59 * time.Second: "59s",
		time.Minute: "1m", 125 * time.Second: "2m 5s", time.Hour: "1h", 3*time.Hour + 12*time.Minute: "3h 12m",
		24 * time.Hour: "1d", 76 * time.Hour: "3d 4h", 400 * 24 * time.Hour: "400d",
	}
	for d, want := range durations {
		if got := humanDuration(d); got != want {
			t.Errorf("humanDuration(%v) = %q, want %q", d, got, want)
		}
	}
	sizes := map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 1536: "1.50 KiB", 20 << 20: "20.0 MiB", 300 << 30: "300 GiB", 1 << 62: "4096 PiB"}
	for n, want := range sizes {
		if got := humanBytes(n); got != want {
			t.Errorf("humanBytes(%d) = %q, want %q", n, got, want)
		}
	}
	counts := map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"}
	for n, want := range counts {
		if got := humanCount(n); got != want {
			t.Errorf("humanCount(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestTableAlignsColouredText(t *testing.T) {
	columns := []column{{title: "N", right: true}, {title: "EMPTY"}, {title: "NAME"}, {title: "NOTE"}}
	rows := [][]cell{
		{{text: "1", style: red}, {}, {text: "zoë", style: green}, {}},
		{{}, {}, {text: "x"}, {text: "last"}},
		{{text: "1000"}, {}, {}, {text: "n", style: bold}},
	}
	const want = "   N  NAME  NOTE\n   1  zoë\n      x     last\n1000        n\n"
	var plainText, coloured strings.Builder
	writeTable(&plainText, columns, rows, false)
	writeTable(&coloured, columns, rows, true)
	if diff := cmp.Diff(want, plainText.String()); diff != "" {
		t.Errorf("table differs (-want +got):\n%s", diff)
	}
	stripped := coloured.String()
	for _, s := range []style{red, green, bold, dim, resetStyle} {
		stripped = strings.ReplaceAll(stripped, string(s), "")
	}
	if diff := cmp.Diff(want, stripped); diff != "" {
		t.Errorf("coloured table differs but for its colours (-want +got):\n%s", diff)
	}
}
