//go:build !linux

package torture

// MemoryGroup is a control group with a memory limit; Linux has them.
type MemoryGroup struct{}

func (*MemoryGroup) wrap(name string, args []string) (string, []string) { return name, args }
