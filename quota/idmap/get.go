package idmap

import (
	"bytes"
	"fmt"
	"strings"
)

// Get sets out[i] to what is known of keys[i], all at one moment. It does not
// wait for disk writes of others. An error means that something could not be
// read; out then says nothing. Damage is no error: what was damaged is unknown,
// and one of the Problems.
func (m *Map) Get(keys []Key, out []Entry) error {
	if len(keys) != len(out) {
		return fmt.Errorf("idmap: get of %d keys into %d entries", len(keys), len(out))
	}
	var few [32]int
	missing := few[:0]
	m.mu.RLock()
	if m.closed {
		m.mu.RUnlock()
		return ErrClosed
	}
	for i, k := range keys {
		e, ok := m.active[k]
		if !ok && m.frozen != nil {
			e, ok = m.frozen.entries[k]
		}
		if out[i] = e; !ok {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 || len(m.runs) == 0 {
		m.mu.RUnlock()
		return nil
	}
	runs := m.acquire()
	m.mu.RUnlock()
	defer m.releaseAll(runs)
	for _, i := range missing {
		if err := findIn(runs, keys[i], &out[i]); err != nil {
			return err
		}
	}
	return nil
}

// findIn looks a key up in runs, newest first.
func findIn(runs []*run, k Key, e *Entry) error {
	var buf [keySize]byte
	key := appendKey(buf[:0], k)
	for _, r := range runs {
		found, ok, err := r.find(key)
		if err != nil {
			return err
		}
		if ok {
			*e = found
			return nil
		}
	}
	return nil
}

// acquire keeps the runs open for a reader; mu is held.
func (m *Map) acquire() []*run {
	for _, r := range m.runs {
		r.refs.Add(1)
	}
	return m.runs // replaced, never changed
}

func (m *Map) releaseAll(runs []*run) {
	for _, r := range runs {
		if r.release() == 1 && r.retired.Load() {
			m.wake() // its file can go
		}
	}
}

// Records returns copies of the records whose names begin with prefix.
func (m *Map) Records(prefix string) map[string][]byte {
	found := map[string][]byte{}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for name, value := range m.records {
		if strings.HasPrefix(name, prefix) {
			found[name] = append([]byte{}, value...)
		}
	}
	return found
}

// Scan calls fn with every entry of an account, in order of their ids, as they
// are at one moment during the call, until fn returns false. It reads the
// whole account from disk. fn may call the map.
func (m *Map) Scan(account uint16, fn func(Key, Entry) bool) error {
	m.mu.RLock()
	if m.closed {
		m.mu.RUnlock()
		return ErrClosed
	}
	var entries [][entrySize]byte
	add := func(k Key, e Entry) {
		entries = append(entries, [entrySize]byte(appendEntry(make([]byte, 0, entrySize), k, e)))
	}
	for k, e := range m.active {
		if k.Account == account {
			add(k, e)
		}
	}
	if m.frozen != nil {
		for k, e := range m.frozen.entries {
			if _, newer := m.active[k]; !newer && k.Account == account {
				add(k, e)
			}
		}
	}
	runs := m.acquire()
	m.mu.RUnlock()
	defer m.releaseAll(runs)

	from := appendKey(nil, Key{Account: account})
	sources := []source{newTableSource(entries)}
	for _, r := range runs {
		sources = append(sources, newRunSource(r, from))
	}
	merged, err := newMerger(sources)
	if err != nil {
		return err
	}
	for {
		b, err := merged.next()
		if err != nil || b == nil || !bytes.Equal(b[:2], from[:2]) {
			return err
		}
		if k, e := decodeEntry(b); e != (Entry{}) && !fn(k, e) {
			return nil
		}
	}
}
