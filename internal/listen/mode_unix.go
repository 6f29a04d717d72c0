//go:build unix

package listen

import (
	"io/fs"
	"syscall"
)

// chmodSocket sets the mode of a socket before it has a file.
func chmodSocket(fd uintptr, mode fs.FileMode) error { return syscall.Fchmod(int(fd), uint32(mode)) }
