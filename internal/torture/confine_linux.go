package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MemoryGroup is a control group with a memory limit, of either version.
type MemoryGroup struct {
	dir string
	v2  bool
}

// NewMemoryGroup makes a group with a limit. Close removes it again.
func NewMemoryGroup(name string, limitBytes int64) (*MemoryGroup, error) {
	g := &MemoryGroup{dir: "/sys/fs/cgroup/memory/" + name}
	limit := "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/memory/cgroup.procs"); err != nil {
		g.dir, g.v2, limit = "/sys/fs/cgroup/"+name, true, "memory.max"
		// The controller may have to be switched on for children; if it
		// cannot be, writing the limit says so.
		_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0o600)
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // a control group's mode is ignored
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, limit), []byte(strconv.FormatInt(limitBytes, 10)), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("limit the memory of a control group: %w", err), g.Close())
	}
	if g.v2 { // swap must not make up for memory
		_ = os.WriteFile(filepath.Join(g.dir, "memory.swap.max"), []byte("0"), 0o600)
	}
	return g, nil
}

// wrap makes a command that joins the group before it becomes name.
func (g *MemoryGroup) wrap(name string, args []string) (string, []string) {
	const script = `echo $$ > "$1" && shift && exec "$@"`
	return "/bin/sh", append([]string{"-c", script, "sh", filepath.Join(g.dir, "cgroup.procs"), name}, args...)
}

// PeakBytes is the most memory the group has had, page cache included.
func (g *MemoryGroup) PeakBytes() (int64, error) {
	name := "memory.max_usage_in_bytes"
	if g.v2 {
		name = "memory.peak"
	}
	b, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0, fmt.Errorf("read the peak of a control group: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// OOMKills is how many processes of the group the kernel has killed for lack
// of memory.
func (g *MemoryGroup) OOMKills() (int, error) {
	name := "memory.oom_control"
	if g.v2 {
		name = "memory.events"
	}
	b, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0, fmt.Errorf("read the kills of a control group: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.Atoi(strings.TrimSpace(n))
		}
	}
	return 0, nil // older kernels of version 1 do not count; the process's end tells
}

// Close removes the group, whose processes must have ended.
func (g *MemoryGroup) Close() error {
	if err := unix.Rmdir(g.dir); err != nil {
		return fmt.Errorf("remove a control group: %w", err)
	}
	return nil
}

// FileSystem is a small mounted file system.
type FileSystem struct {
	Dir   string
	image string // of ext4
}

// MountTmpfs mounts a tmpfs of a size on dir.
func MountTmpfs(dir string, sizeBytes int64) (*FileSystem, error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", sizeBytes)); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return &FileSystem{Dir: dir}, nil
}

// MountExt4 makes an ext4 file system of a size in the file image and mounts
// it on dir, by a loop device.
func MountExt4(image, dir string, sizeBytes int64) (*FileSystem, error) {
	f, err := os.Create(image)
	if err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	if err := errors.Join(f.Truncate(sizeBytes), f.Close()); err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", image},
		{"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil { //nolint:gosec,noctx // our own arguments; seconds at most
			return nil, fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	return &FileSystem{Dir: dir, image: image}, nil
}

// Fill writes a file until not a byte is left, and returns its path and size.
func (f *FileSystem) Fill(name string) (path string, n int64, err error) {
	path = filepath.Join(f.Dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return path, 0, fmt.Errorf("fill a file system: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for block := make([]byte, 256<<10); len(block) > 0; {
		wrote, err := file.Write(block)
		n += int64(wrote)
		switch {
		case errors.Is(err, unix.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			return path, n, fmt.Errorf("fill a file system: %w", err)
		}
	}
	return path, n, nil
}

// Unmount takes the file system away.
func (f *FileSystem) Unmount() error {
	if err := unix.Unmount(f.Dir, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", f.Dir, err)
	}
	return nil
}

// DiskBytes is what the files below dir occupy on disk.
func DiskBytes(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if errors.Is(err, os.ErrNotExist) {
				return nil // removed meanwhile
			}
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == nil {
			total += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return total, nil
}
