package quota

import (
	"maps"
	"strings"
	"sync"

	"weir/quota/idmap"
)

// NewMemory returns a ledger that is kept in memory and is gone with the
// process: for tests, and as the measure of the others.
func NewMemory() Ledger {
	b, err := newBook(&memoryStore{entries: map[idmap.Key]idmap.Entry{}, records: map[string][]byte{}}, false)
	if err != nil {
		panic("quota: an empty store: " + err.Error()) // nothing is read
	}
	return b
}

// memoryStore is a store of maps.
type memoryStore struct {
	mu      sync.Mutex // guards the maps
	entries map[idmap.Key]idmap.Entry
	records map[string][]byte
}

func (m *memoryStore) Get(keys []idmap.Key, out []idmap.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, k := range keys {
		out[i] = m.entries[k]
	}
	return nil
}

func (m *memoryStore) Apply(b *idmap.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, k := range b.Keys {
		if b.Entries[i] == (idmap.Entry{}) {
			delete(m.entries, k)
			continue
		}
		m.entries[k] = b.Entries[i]
	}
	for name, v := range b.Records {
		if v == nil {
			delete(m.records, name)
			continue
		}
		m.records[name] = append([]byte{}, v...)
	}
	return nil
}

func (m *memoryStore) Sync() error { return nil }

func (m *memoryStore) Record(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[name]
}

func (m *memoryStore) Records(prefix string) map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]byte{}
	for name, v := range m.records {
		if strings.HasPrefix(name, prefix) {
			out[name] = v
		}
	}
	return out
}

func (m *memoryStore) Scan(account uint16, fn func(idmap.Key, idmap.Entry) bool) error {
	m.mu.Lock()
	all := maps.Clone(m.entries)
	m.mu.Unlock()
	for k, e := range all {
		if k.Account == account && !fn(k, e) {
			break
		}
	}
	return nil
}

func (m *memoryStore) Close() error { return nil }
