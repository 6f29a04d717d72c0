package queue

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// LockedError says that another process has the data directory.
type LockedError struct {
	Dir   string
	PID   int
	Owner string
	Since time.Time
}

// Error implements error.
func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
		if e.Owner != "" {
			who += " (" + e.Owner + ")"
		}
		who += ", running since " + e.Since.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop that one, or give this one its own data directory", e.Dir, who)
}

// dirLock is the exclusive claim on a data directory; it ends with the process.
type dirLock struct{ f *os.File }

type lockContent struct {
	PID   int       `json:"pid"`
	Owner string    `json:"owner"`
	Since time.Time `json:"since"`
}

func acquireLock(dir, owner string) (*dirLock, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	ok, err := lockFile(f)
	if err != nil || !ok {
		defer func() { _ = f.Close() }()
		if err != nil {
			return nil, err
		}
		return nil, lockedError(dir, path)
	}
	// What the file says is advice to people; the lock is the descriptor. On a
	// full disk the advice may be missing.
	if b, err := json.Marshal(lockContent{PID: os.Getpid(), Owner: strings.TrimSpace(owner), Since: time.Now()}); err == nil {
		if err := f.Truncate(0); err == nil {
			_, _ = f.WriteAt(append(b, '\n'), 0)
		}
	}
	return &dirLock{f: f}, nil
}

func lockedError(dir, path string) *LockedError {
	e := &LockedError{Dir: dir}
	if b, err := os.ReadFile(path); err == nil {
		var c lockContent
		if json.Unmarshal(b, &c) == nil {
			e.PID, e.Owner, e.Since = c.PID, c.Owner, c.Since
		}
	}
	return e
}

// release ends the claim. The file stays: removing it would let two processes
// lock two files of one name.
func (l *dirLock) release() { _ = l.f.Close() }
