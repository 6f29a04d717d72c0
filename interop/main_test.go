//go:build interop

package interop

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		code = 1
	}
	os.Exit(code)
}

// run builds what the tests run, runs them, and looks for what they left.
func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "weir-interop-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if tools, err = prepare(context.Background(), dir); err != nil {
		return 1, err
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		err = goleak.Find()
	}
	return code, err
}
