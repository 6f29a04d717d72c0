//go:build testclock

package main

import (
	"os"
	"strings"
	"sync"
	"time"
)

// now is the machine's clock, moved by the duration in the file that
// WEIR_TEST_CLOCK names. It is looked at about twenty times a second.
func now() time.Time {
	at := time.Now()
	moved.mu.Lock()
	defer moved.mu.Unlock()
	if at.Sub(moved.read) >= 50*time.Millisecond {
		moved.read = at
		if b, err := os.ReadFile(os.Getenv("WEIR_TEST_CLOCK")); err == nil {
			if d, err := time.ParseDuration(strings.TrimSpace(string(b))); err == nil {
				moved.by = d
			}
		}
	}
	return at.Add(moved.by)
}

var moved struct {
	mu   sync.Mutex // guards what follows
	by   time.Duration
	read time.Time
}
