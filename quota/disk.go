package quota

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"weir/quota/idmap"
)

// OpenDisk opens or creates the ledger in a directory, which it then owns. The
// caller sees to it that no other process has it. What is damaged is set aside
// and logged; the ledger is then not Whole.
func OpenDisk(dir string, logger *slog.Logger) (Ledger, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	var month atomic.Uint32
	m, err := idmap.Open(idmap.Config{Dir: dir, Logger: logger, Keep: func(_ idmap.Key, e idmap.Entry) bool {
		return keep(e, Month(month.Load()))
	}})
	if err != nil {
		return nil, fmt.Errorf("open the quota ledger in %s: %w", dir, err)
	}
	for _, p := range m.Problems() {
		logger.Error("the quota ledger is damaged; what it still has is used, and the data on disk is counted again", "problem", p)
	}
	start := m.Start()
	b, err := newBook(m, start != idmap.StartNew && start != idmap.StartPowerCut && len(m.Problems()) == 0)
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	b.turned = func(to Month) { month.Store(uint32(to)) }
	for _, a := range b.accounts {
		if uint32(a.Month) > month.Load() {
			b.turned(a.Month)
		}
	}
	return b, nil
}

// keep reports whether an entry is still of use: what a trace was in an earlier
// month is forgotten a month later, unless there is data of it.
func keep(e idmap.Entry, now Month) bool {
	switch State(e.State) {
	case Counted, Dropped, Follower:
		return Month(e.Month)+1 >= now
	default:
		return true
	}
}
