// Package idmap is a placeholder until its branch is merged.
package idmap

import "sync"

type Key struct {
	Account uint16
	ID      [16]byte
}
type Entry struct {
	State, Flags uint8
	Project      uint16
	Month        uint16
}
type Batch struct {
	Keys    []Key
	Entries []Entry
	Records map[string][]byte
	Sync    bool
}

var _ sync.Mutex
