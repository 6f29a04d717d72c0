package quota_test

import (
	"testing"

	"weir/quota"
	"weir/quota/ledgertest"
)

func TestDiskKeepsTheLedgersPromises(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) (quota.Ledger, func() quota.Ledger) {
		dir := t.TempDir()
		open := func() quota.Ledger {
			l, err := quota.OpenDisk(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := open()
		return l, func() quota.Ledger {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open()
			return l
		}
	})
}
