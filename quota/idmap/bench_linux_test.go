package idmap

import (
	"testing"

	"golang.org/x/sys/unix"
)

func freeBytes(b *testing.B, dir string) int64 {
	b.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		b.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}
