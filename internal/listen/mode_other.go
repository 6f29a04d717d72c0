//go:build !unix

package listen

import (
	"errors"
	"io/fs"
)

// chmodSocket has no counterpart here.
func chmodSocket(uintptr, fs.FileMode) error { return errors.ErrUnsupported }
