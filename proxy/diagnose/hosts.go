package diagnose

import (
	"regexp"
	"strings"
)

// APIHost is the host of LangSmith's API whose user interface is at host; empty
// if host is none of LangSmith's user interfaces (LangSmith docs: cloud).
func APIHost(host string) string {
	region, ok := strings.CutSuffix("."+strings.ToLower(host), ".smith.langchain.com")
	switch region {
	case "":
		if ok {
			return "api.smith.langchain.com"
		}
	case ".eu", ".apac", ".aws", ".dev", ".beta":
		return region[1:] + ".api.smith.langchain.com"
	}
	return ""
}

var uuid = regexp.MustCompile(`(?i)^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$`)

// isUUID reports whether s is a UUID, with or without hyphens.
func isUUID(s string) bool { return uuid.MatchString(s) }
