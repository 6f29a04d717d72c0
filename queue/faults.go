package queue

import (
	"fmt"
	"runtime/debug"
)

// guardFaults runs fn and turns a panic, or a memory fault in a mapped file
// that is shorter than its database believes, into an error matching
// ErrDamaged.
func guardFaults(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("reading failed (%v): %w", r, ErrDamaged)
		}
	}()
	return fn()
}
