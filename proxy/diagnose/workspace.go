package diagnose

import (
	"fmt"
	"regexp"
)

// LangSmith answers other text than a UUID in X-Tenant-Id with 401 "UUID header
// value was not a valid UUID" (LangChain forum 2524). Whether it takes one
// without hyphens is not known.
var (
	uuid     = regexp.MustCompile(`(?i)^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	bareUUID = regexp.MustCompile(`(?i)^[0-9a-f]{32}$`)
)

// CheckWorkspace looks at a workspace id as a person wrote it. None is fine.
// Blanks and quotes around it are forgiven, as LangSmith's SDKs forgive them.
func CheckWorkspace(raw string) []Flaw {
	if raw == "" {
		return nil
	}
	id, flaws := unwrap(raw, "id")
	for i := range flaws {
		flaws[i].Code = WorkspaceNotUUID
	}
	if id == "" || uuid.MatchString(id) {
		return flaws
	}
	if bareUUID.MatchString(id) {
		return append(flaws, Flaw{
			Code: WorkspaceNotUUID, Says: "is a UUID without hyphens", Remedy: "Write it with hyphens, as Settings > Workspaces shows it.",
		})
	}
	return append(flaws, Flaw{
		Code: WorkspaceNotUUID, Sure: true,
		Says: fmt.Sprintf("is not a UUID (%q), and LangSmith refuses all else", shown(id)),
		Remedy: "Set LANGSMITH_WORKSPACE_ID to the id that Settings > Workspaces shows, not to the name; " +
			"with a key of a single workspace, remove it.",
	})
}
