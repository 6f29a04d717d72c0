package main

import (
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// Garbage collection settings. weir's live heap is a few megabytes, so Go's
// default collects far too often; the limit keeps the more relaxed pace from
// costing memory where there is little.
const (
	gcPercent          = 400
	memoryLimitBytes   = 88 << 20
	memoryLimitPercent = 60 // of a cgroup's limit, where that is less
)

// limitMemory sets the garbage collector's pace and limit, unless GOGC or
// GOMEMLIMIT say otherwise.
func limitMemory(logger *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := int64(memoryLimitBytes)
	if c := cgroupMemoryBytes(); c > 0 {
		limit = min(limit, c*memoryLimitPercent/100)
	}
	debug.SetMemoryLimit(limit)
	logger.Debug("memory limit set", slog.Int64("bytes", limit))
}

// cgroupMemoryBytes is the memory limit of this process's control group,
// version 2 or 1, and 0 if there is none.
func cgroupMemoryBytes() int64 {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	var least int64
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var files []string
		switch {
		case parts[1] == "":
			files = []string{"/sys/fs/cgroup" + parts[2] + "/memory.max", "/sys/fs/cgroup/memory.max"}
		case parts[1] == "memory":
			files = []string{"/sys/fs/cgroup/memory" + parts[2] + "/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
			if err == nil && n > 0 && n < 1<<60 && (least == 0 || n < least) {
				least = n
			}
		}
	}
	return least
}
