package otlp

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"

	"weir/proxy"
)

func TestCallerOfMetadata(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		md   metadata.MD
		want proxy.Caller
	}{
		"nothing":              {metadata.MD{}, proxy.Caller{}},
		"all":                  {metadata.Pairs("x-api-key", "k", "x-tenant-id", "w", "langsmith-project", "p"), proxy.Caller{APIKey: "k", Workspace: "w", Project: "p"}},
		"any letter case":      {metadata.Pairs("X-API-KEY", "k", "X-Tenant-ID", "w", "LangSmith-Project", "p"), proxy.Caller{APIKey: "k", Workspace: "w", Project: "p"}},
		"white space":          {metadata.Pairs("x-api-key", "\t k ", "x-tenant-id", "  ", "langsmith-project", " my project "), proxy.Caller{APIKey: "k", Project: "my project"}},
		"bearer":               {metadata.Pairs("authorization", "Bearer tok"), proxy.Caller{APIKey: "tok"}},
		"bearer in small case": {metadata.Pairs("authorization", "  bearer   tok "), proxy.Caller{APIKey: "tok"}},
		"key before bearer":    {metadata.Pairs("authorization", "Bearer tok", "x-api-key", "k"), proxy.Caller{APIKey: "k"}},
		"bearer before blank":  {metadata.Pairs("authorization", "Bearer tok", "x-api-key", " "), proxy.Caller{APIKey: "tok"}},
		"basic":                {metadata.Pairs("authorization", "Basic dXNlcg=="), proxy.Caller{}},
		"bearer without token": {metadata.Pairs("authorization", "Bearer"), proxy.Caller{}},
		"first of two":         {metadata.Pairs("x-api-key", "k", "x-api-key", "l"), proxy.Caller{APIKey: "k"}},
		"project beyond ASCII": {metadata.Pairs("langsmith-project", "caf\u00e9 \u6771\u4eac"), proxy.Caller{Project: "caf\u00e9 \u6771\u4eac"}},
		"longest":              {metadata.Pairs("langsmith-project", strings.Repeat("p", maxProjectBytes)), proxy.Caller{Project: strings.Repeat("p", maxProjectBytes)}},
	} {
		got, err := callerOfMetadata(tc.md)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCallerWithBadHeadersIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ header, value, want string }{
		"line break in key":    {"x-api-key", "se\ncret", "header x-api-key: character 3 is not allowed, want printable ASCII without spaces"},
		"space in key":         {"x-api-key", "se cret", "header x-api-key: character 3 is not allowed, want printable ASCII without spaces"},
		"key beyond ASCII":     {"x-api-key", "secr\u00e9t", "header x-api-key: character 5 is not allowed, want printable ASCII without spaces"},
		"bad token":            {"authorization", "Bearer se\x00cret", "header authorization: character 3 is not allowed, want printable ASCII without spaces"},
		"long key":             {"x-api-key", strings.Repeat("s", maxAPIKeyBytes+1), "header x-api-key: 8193 bytes, at most 8192 are allowed"},
		"control in workspace": {"x-tenant-id", "w\x7f", "header x-tenant-id: character 2 is not allowed, want printable ASCII without spaces"},
		"long workspace":       {"x-tenant-id", strings.Repeat("w", 257), "header x-tenant-id: 257 bytes, at most 256 are allowed"},
		"escape in project":    {"langsmith-project", "\u6771\x1b[31m", "header langsmith-project: character 2 is not allowed, want printable UTF-8 text"},
		"project not UTF-8":    {"langsmith-project", "caf\xe9", "header langsmith-project: character 4 is not allowed, want printable UTF-8 text"},
		"reordering project":   {"langsmith-project", "a\u202eb", "header langsmith-project: character 2 is not allowed, want printable UTF-8 text"},
	} {
		got, err := callerOfMetadata(metadata.Pairs(tc.header, tc.value))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got  %v\nwant %s", name, err, tc.want)
		}
		if got != (proxy.Caller{}) {
			t.Errorf("%s: got a caller, %+v", name, got)
		}
	}
}
