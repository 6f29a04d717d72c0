//go:build !unix

package main

import "os"

// resizes tells nothing here; the next tick sees the size.
func resizes() (resized <-chan os.Signal, unsubscribe func()) { return nil, func() {} }
