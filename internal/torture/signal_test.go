package torture_test

import (
	"os"
	"syscall"
)

// Signals by what they ask of weir.
var (
	hangup    os.Signal = syscall.SIGHUP
	terminate os.Signal = syscall.SIGTERM
)
