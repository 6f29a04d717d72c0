package main

import (
	"errors"
	"path/filepath"

	"weir/proxy"
	"weir/proxy/otlp"
	"weir/quota"
)

// dividers cut stored payloads, by protocol.
func dividers() map[proxy.Protocol]proxy.Divider {
	return map[proxy.Protocol]proxy.Divider{
		proxy.ProtocolOTLP: otlp.Divider{},
		proxy.ProtocolRuns: proxy.RunsDivider{},
	}
}

// ledgerDir is where the ledger is, below the data directory.
const ledgerDir = "quota"

// openQuota opens the ledger of traces and the guard before it. Nobody else has
// the data directory: the queue is open.
func (w *weir) openQuota(vault *proxy.Vault) (*proxy.Quota, error) {
	s := w.settings
	ledger, err := quota.OpenDisk(filepath.Join(s.DataDir, ledgerDir), w.log)
	if err != nil {
		return nil, err
	}
	guard, err := quota.Open(ledger, quota.Config{Rules: s.quotaRules(), Logger: w.log, Now: now})
	if err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	w.guard = guard
	return proxy.NewQuota(proxy.QuotaConfig{
		Guard: guard, Queue: w.queue, Vault: vault, Destination: destination(s), Dividers: dividers(),
	})
}
