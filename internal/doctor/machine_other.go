//go:build !unix

package doctor

// writable says nothing where access depends on more than a mode.
func writable(string) error { return nil }

func openFileLimit() (uint64, bool) { return 0, false }
