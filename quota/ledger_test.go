package quota_test

import (
	"testing"

	"weir/quota"
	"weir/quota/ledgertest"
)

func TestMemoryKeepsTheLedgersPromises(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) (quota.Ledger, func() quota.Ledger) { return quota.NewMemory(), nil })
}
