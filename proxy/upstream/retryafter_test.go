package upstream

import (
	"net/http"
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	skewed := now.Add(-72 * time.Hour) // the server's clock
	tests := []struct {
		name  string
		value string
		date  time.Time
		want  time.Duration
		ok    bool
	}{
		{"absent", "", time.Time{}, 0, false},
		{"blank", "  ", time.Time{}, 0, false},
		{"seconds", "7", time.Time{}, 7 * time.Second, true},
		{"seconds with blanks", " 7 ", time.Time{}, 7 * time.Second, true},
		{"zero", "0", time.Time{}, 0, true},
		{"leading zeros", "007", time.Time{}, 7 * time.Second, true},
		{"a fraction", "1.5", time.Time{}, 1500 * time.Millisecond, true},
		{"negative", "-5", time.Time{}, 0, false},
		{"signed", "+5", time.Time{}, 0, false},
		{"just the bound", "3600", time.Time{}, time.Hour, true},
		{"beyond the bound", "3601", time.Time{}, time.Hour, true},
		{"beyond int64", "99999999999999999999999999", time.Time{}, time.Hour, true},
		{"beyond float64", "1" + string(make9s(400)), time.Time{}, time.Hour, true},
		{"words", "soon", time.Time{}, 0, false},
		{"a unit", "5s", time.Time{}, 0, false},
		{"a list", "5, 6", time.Time{}, 0, false},
		{"exponent", "1e3", time.Time{}, 0, false},
		{"hexadecimal", "0x10", time.Time{}, 0, false},
		{"underscores", "1_0", time.Time{}, 0, false},
		{"two points", "1.2.3", time.Time{}, 0, false},
		{"date by our clock", now.Add(90 * time.Second).Format(http.TimeFormat), time.Time{}, 90 * time.Second, true},
		{"date by the server's clock", skewed.Add(90 * time.Second).Format(http.TimeFormat), skewed, 90 * time.Second, true},
		{"date in the past", now.Add(-time.Minute).Format(http.TimeFormat), now, 0, true},
		{"date far ahead", now.AddDate(5, 0, 0).Format(http.TimeFormat), now, time.Hour, true},
		{"date beyond a duration", "Fri, 31 Dec 9999 23:59:59 GMT", now, time.Hour, true},
		{"obsolete RFC 850 date", "Monday, 23-Nov-26 12:00:30 GMT", now, 30 * time.Second, true},
		{"obsolete asctime date", "Mon Nov 23 12:00:30 2026", now, 30 * time.Second, true},
		{"ISO date", "2026-11-23T12:00:30Z", now, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := ParseRetryAfter(tt.value, tt.date, now)
			if got != tt.want || ok != tt.ok {
				t.Errorf("ParseRetryAfter(%.40q) = %v, %v, want %v, %v", tt.value, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func make9s(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = '9'
	}
	return b
}
