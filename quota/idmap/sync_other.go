//go:build !linux

package idmap

import "os"

// syncData makes a file's content and length durable.
func syncData(f *os.File) error { return f.Sync() }

// syncDirectory makes a directory's names durable where the system can.
func syncDirectory(f *os.File) error {
	_ = f.Sync() // not supported for directories everywhere
	return nil
}

// bootID names the current boot of the machine; here it is not known, and
// every start without a clean mark counts as one after a power cut.
func bootID() string { return "" }

// reserve does nothing: there is no way that all systems have.
func reserve(*os.File, int64) error { return nil }
