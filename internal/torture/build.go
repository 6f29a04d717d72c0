package torture

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Build builds weir from the module around the working directory into dir, and
// returns the binary's path. With race it is built with the race detector,
// which makes it about ten times slower.
func Build(ctx context.Context, dir string, race bool) (string, error) {
	if race {
		return build(ctx, filepath.Join(dir, "weir-race"), "-race")
	}
	return build(ctx, filepath.Join(dir, "weir"))
}

// BuildMovable is Build of a weir whose clock can be moved: by the duration in
// the file that the variable WEIR_TEST_CLOCK names.
func BuildMovable(ctx context.Context, dir string) (string, error) {
	return build(ctx, filepath.Join(dir, "weir-movable"), "-tags", "testclock")
}

func build(ctx context.Context, bin string, flags ...string) (string, error) {
	args := append(append([]string{"build"}, flags...), "-o", bin, "weir/cmd/weir")
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // a test's own arguments
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build weir: %w\n%s", err, out)
	}
	return bin, nil
}
