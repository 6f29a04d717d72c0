package diagnose

import (
	"slices"
	"strings"
)

// APIHost is the host of LangSmith's API whose user interface is at host; empty
// if host is none of LangSmith's user interfaces.
func APIHost(host string) string {
	region, ok := strings.CutSuffix("."+strings.ToLower(host), cloudDomain)
	region = strings.TrimPrefix(region, ".")
	switch {
	case ok && region == "":
		return "api" + cloudDomain
	case ok && slices.Contains(uiRegions, region):
		return region + ".api" + cloudDomain
	default:
		return ""
	}
}

// isUUID reports whether s is a UUID, with or without hyphens.
func isUUID(s string) bool { return uuid.MatchString(s) || bareUUID.MatchString(s) }
