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
	name, args := "weir", []string{"build"}
	if race {
		name, args = "weir-race", append(args, "-race")
	}
	bin := filepath.Join(dir, name)
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", bin, "weir/cmd/weir")...) //nolint:gosec // a test's own arguments
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build weir: %w\n%s", err, out)
	}
	return bin, nil
}
