package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Sizes of a segment's database. MemTableSize bounds what one segment can
// index; the value log never rolls, because a segment is sealed long before
// (a roll would create a sparse file, and a full disk then kills the process
// with SIGBUS: Badger writes through mmap).
const (
	memTableBytes = 8 << 20
	valueLogBytes = 160 << 20
	inlineBytes   = 1 << 10 // values up to this size live in the write-ahead log

	// What a segment takes before it is sealed, leaving room in the memtable
	// for settlements: a full disk or a full segment never stops settling.
	indexSealBytes = 5 << 20
	indexHardBytes = 7 << 20

	// indexEntryBytes is what an entry costs in the memtable beyond its key
	// and value: a skip list node and the log's framing, rounded up.
	indexEntryBytes = 160
)

// entry is one key and value of a transaction.
type entry struct {
	key, value []byte
}

// indexCost is what the entry takes of the memtable and write-ahead log.
func (e entry) indexCost() int64 {
	n := int64(len(e.key) + indexEntryBytes)
	if len(e.value) < inlineBytes {
		n += int64(len(e.value))
	}
	return n
}

// logCost is what the entry takes of the value log.
func (e entry) logCost() int64 {
	if len(e.value) < inlineBytes {
		return 0
	}
	return int64(len(e.key) + len(e.value) + 64)
}

// store is one segment's database: the seam between the queue and Badger, and
// the one place where a test can make storage fail.
type store interface {
	// Commit writes the entries in one transaction and returns nil only once
	// they are synced. After an error the store takes no more commits.
	Commit(entries []entry) error
	// View calls fn with the value of key, valid during the call only. It
	// returns errNotFound if there is none.
	View(key []byte, fn func(value []byte) error) error
	// Scan calls fn for every key with the prefix, in order; the slices are
	// valid during the call only.
	Scan(prefix []byte, fn func(key, value []byte) error) error
	// Close flushes and releases the store. A store that took commits writes
	// its index to a table on the way, so the caller makes sure of free space.
	Close() error
}

var errNotFound = errors.New("key not found")

// storeMode says how a segment's database is opened.
type storeMode uint8

const (
	storeCreate  storeMode = iota // new directory, to be written
	storeRecover                  // existing directory, perhaps not closed cleanly
	storeRead                     // existing directory, closed cleanly: nothing is written
)

// openStore opens the database in dir.
type openStore func(dir string, mode storeMode, cfg storeConfig) (store, error)

type storeConfig struct {
	sync   bool
	logger *slog.Logger
}

// openBadger is the openStore of production.
func openBadger(dir string, mode storeMode, cfg storeConfig) (store, error) {
	if mode == storeRecover {
		if err := removeEmptyLogs(dir); err != nil {
			return nil, err
		}
	}
	s := &badgerStore{dir: dir}
	opt := badger.DefaultOptions(dir).
		WithLogger(&badgerLog{logger: cfg.logger, dir: dir, failed: &s.failed}).
		WithSyncWrites(cfg.sync).
		WithMemTableSize(memTableBytes).
		WithNumMemtables(2).
		WithValueThreshold(inlineBytes).
		WithValueLogFileSize(valueLogBytes).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithDetectConflicts(false).
		WithNumCompactors(2).
		WithMetricsEnabled(false).
		WithReadOnly(mode == storeRead)
	db, err := badger.Open(opt)
	if err != nil {
		return nil, fmt.Errorf("open segment database %s: %w", dir, err)
	}
	s.db = db
	return s, nil
}

// removeEmptyLogs deletes 0-byte write-ahead and value logs. A kill between
// creating such a file and sizing it leaves one behind, holding nothing, and
// makes the next Open fail (badger#2207).
func removeEmptyLogs(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read segment directory: %w", err)
	}
	for _, de := range names {
		if !strings.HasSuffix(de.Name(), ".mem") && !strings.HasSuffix(de.Name(), ".vlog") {
			continue
		}
		info, err := de.Info()
		if err != nil {
			return fmt.Errorf("stat %s: %w", filepath.Join(dir, de.Name()), err)
		}
		if info.Size() == 0 {
			if err := os.Remove(filepath.Join(dir, de.Name())); err != nil {
				return fmt.Errorf("remove empty log: %w", err)
			}
		}
	}
	return nil
}

type badgerStore struct {
	dir string
	db  *badger.DB

	// failed is set by an error Badger only logs: the sync of its value log
	// runs in a deferred call whose error is not returned. It is checked
	// before a commit is acknowledged.
	failed atomic.Pointer[string]
}

// Commit implements store.
func (s *badgerStore) Commit(entries []entry) error {
	if msg := s.failed.Load(); msg != nil {
		return fmt.Errorf("segment %s failed earlier: %s", s.dir, *msg)
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, e := range entries {
		if err := txn.Set(e.key, e.value); err != nil {
			return fmt.Errorf("write to segment %s: %w", s.dir, err)
		}
	}
	if err := txn.Commit(); err != nil {
		msg := err.Error()
		s.failed.CompareAndSwap(nil, &msg)
		return fmt.Errorf("commit to segment %s: %w", s.dir, err)
	}
	if msg := s.failed.Load(); msg != nil {
		return fmt.Errorf("sync segment %s: %s", s.dir, *msg)
	}
	return nil
}

// View implements store.
func (s *badgerStore) View(key []byte, fn func([]byte) error) error {
	return s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return errNotFound
		}
		if err != nil {
			return fmt.Errorf("read segment %s: %w", s.dir, err)
		}
		return item.Value(fn)
	})
}

// Scan implements store.
func (s *badgerStore) Scan(prefix []byte, fn func(key, value []byte) error) error {
	return s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			if err := item.Value(func(v []byte) error { return fn(item.Key(), v) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close implements store.
func (s *badgerStore) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close segment %s: %w", s.dir, err)
	}
	return nil
}

// badgerLog passes Badger's log on: its errors trip the store's failed flag,
// its information is debug noise to weir's user.
type badgerLog struct {
	logger *slog.Logger
	dir    string
	failed *atomic.Pointer[string]
}

// Errorf implements badger.Logger.
func (l *badgerLog) Errorf(format string, args ...any) {
	msg := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.failed.CompareAndSwap(nil, &msg)
	l.logger.Error("segment database error", "segment", filepath.Base(l.dir), "error", msg)
}

// Warningf implements badger.Logger.
func (l *badgerLog) Warningf(format string, args ...any) {
	l.logger.Warn("segment database warning", "segment", filepath.Base(l.dir),
		"message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Infof implements badger.Logger.
func (l *badgerLog) Infof(string, ...any) {}

// Debugf implements badger.Logger.
func (l *badgerLog) Debugf(string, ...any) {}
