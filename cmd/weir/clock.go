//go:build !testclock

package main

import "time"

// now is weir's clock. Builds for tests have one that can be moved.
func now() time.Time { return time.Now() }
