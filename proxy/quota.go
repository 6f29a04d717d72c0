package proxy

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"weir/queue"
	"weir/quota"
)

// Quota is what an Acceptor and a Forwarder share to keep within LangSmith's
// limits: the guard, for whom data counts, and what is held.
type Quota struct {
	guard    *quota.Guard
	dest     atomic.Pointer[Destination]
	accounts *accounts
	holds    *holds
	dividers map[Protocol]Divider

	// pressed is set when the hold was full, stranded when something may stand in
	// it of a trace that is not held any more.
	pressed  atomic.Bool
	stranded atomic.Bool
	holdWake chan struct{} // cap 1: releases, or what is held too long, may be due
}

// press says that there is no room in the hold.
func (q *Quota) press() {
	q.pressed.Store(true)
	q.pokeHold()
}

// inHold looks once more at traces of which something has just been put into the
// hold. If the guard has let go of one since it was asked, the release may have
// been over before this was there, and nobody would look there for it.
func (q *Quota) inHold(lane Lane, ids []TraceID) {
	if len(ids) == 0 {
		return
	}
	err := q.accounts.with(lane, func(account string) error {
		states, err := q.guard.States(account, ids)
		if err != nil {
			return fmt.Errorf("look at what is held: %w", err)
		}
		if slices.ContainsFunc(states, leavesHold) {
			q.strand()
		}
		return nil
	})
	if err != nil {
		q.strand() // to be sure
	}
}

// strand has the hold looked through for what has no business there.
func (q *Quota) strand() {
	q.stranded.Store(true)
	q.pokeHold()
}

func (q *Quota) pokeHold() {
	select {
	case q.holdWake <- struct{}{}:
	default:
	}
}

// QuotaConfig is what a Quota is made of.
type QuotaConfig struct {
	// Guard decides. Nil: there is no limit, and nothing is remembered.
	Guard *quota.Guard
	// Queue and Vault are those of the pipeline.
	Queue *queue.Queue
	Vault *Vault
	// Destination is weir's own key, workspace and project.
	Destination Destination
	// Dividers cut payloads, by protocol.
	Dividers map[Protocol]Divider
}

// NewQuota returns a Quota for one pipeline.
func NewQuota(cfg QuotaConfig) (*Quota, error) {
	if cfg.Queue == nil || cfg.Vault == nil {
		return nil, errors.New("quota: Queue and Vault are needed")
	}
	if cfg.Guard == nil {
		var err error
		if cfg.Guard, err = quota.Open(quota.NewMemory(), quota.Config{}); err != nil {
			return nil, err
		}
	}
	q := &Quota{guard: cfg.Guard, holds: newHolds(cfg.Queue), dividers: cfg.Dividers, holdWake: make(chan struct{}, 1)}
	q.dest.Store(&cfg.Destination)
	q.accounts = newAccounts(cfg.Guard, cfg.Queue, cfg.Vault, q.dest.Load)
	return q, nil
}

// setDestination replaces weir's own key, workspace and project.
func (q *Quota) setDestination(d *Destination) {
	q.dest.Store(d)
	q.accounts.changed()
}

// defaultHoldMaxAge is how long data is held: over the month's turn, and a few
// days more for the share of the new month's limit.
const defaultHoldMaxAge = 40 * 24 * time.Hour
