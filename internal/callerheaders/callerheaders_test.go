package callerheaders

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/proxy"
)

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestReadFindsTheCaller(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		md   http.Header
		want proxy.Caller
	}{
		"nothing":              {nil, proxy.Caller{}},
		"all":                  {header("x-api-key", "k", "x-tenant-id", "w", "langsmith-project", "p"), proxy.Caller{APIKey: "k", Workspace: "w", Project: "p"}},
		"any letter case":      {header("X-API-KEY", "k", "X-Tenant-ID", "w", "LangSmith-Project", "p"), proxy.Caller{APIKey: "k", Workspace: "w", Project: "p"}},
		"white space":          {header("x-api-key", "\t k ", "x-tenant-id", "  ", "langsmith-project", " my project "), proxy.Caller{APIKey: "k", Project: "my project"}},
		"bearer":               {header("authorization", "Bearer tok"), proxy.Caller{APIKey: "Bearer tok"}},
		"bearer in small case": {header("authorization", "  bearer   tok "), proxy.Caller{APIKey: "Bearer tok"}},
		"key before bearer":    {header("authorization", "Bearer tok", "x-api-key", "k"), proxy.Caller{APIKey: "k"}},
		"bearer before blank":  {header("authorization", "Bearer tok", "x-api-key", " "), proxy.Caller{APIKey: "Bearer tok"}},
		"basic":                {header("authorization", "Basic dXNlcg=="), proxy.Caller{}},
		"bearer without token": {header("authorization", "Bearer"), proxy.Caller{}},
		"first of two":         {header("x-api-key", "k", "x-api-key", "l"), proxy.Caller{APIKey: "k"}},
		"project beyond ASCII": {header("langsmith-project", "caf\u00e9 \u6771\u4eac"), proxy.Caller{Project: "caf\u00e9 \u6771\u4eac"}},
		"longest":              {header("langsmith-project", strings.Repeat("p", maxProjectBytes)), proxy.Caller{Project: strings.Repeat("p", maxProjectBytes)}},
	} {
		got, err := Read(tc.md.Get)
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
		got, err := Read(header(tc.header, tc.value).Get)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got  %v\nwant %s", name, err, tc.want)
		}
		if got != (proxy.Caller{}) {
			t.Errorf("%s: got a caller, %+v", name, got)
		}
	}
}
