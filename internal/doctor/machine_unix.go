//go:build unix

package doctor

import (
	"math"

	"golang.org/x/sys/unix"
)

// writable returns why this user cannot write into dir.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// openFileLimit is how many files a process of this user may open. Go raises
// the soft limit to the hard one at start, so the hard one counts.
func openFileLimit() (uint64, bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return min(uint64(limit.Max), math.MaxInt64), true //nolint:unconvert // it is signed on FreeBSD
}
