package quota

import "weir/quota/idmap"

// store is where a book keeps its entries: the one seam below the ledger, which
// a test can make fail. idmap.Map is one.
type store interface {
	Get(keys []idmap.Key, out []idmap.Entry) error
	Apply(b *idmap.Batch) error
	Sync() error
	Record(name string) []byte
	Records(prefix string) map[string][]byte
	Scan(account uint16, fn func(idmap.Key, idmap.Entry) bool) error
	Close() error
}
