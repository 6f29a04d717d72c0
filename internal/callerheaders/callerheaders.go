// Package callerheaders reads from the headers of a request whose data it is,
// the same for every protocol that weir takes.
package callerheaders

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"weir/proxy"
)

// The request headers (gRPC: metadata) that say where data belongs, as
// LangSmith's own endpoint reads them (LangSmith docs: trace-with-opentelemetry).
const (
	headerAPIKey        = "x-api-key"
	headerAuthorization = "authorization"
	headerWorkspace     = "x-tenant-id"
	headerProject       = "langsmith-project"
	headerServiceKey    = "x-service-key" // of requests that are passed on
)

// Bounds on what those headers may hold. An OAuth access token, which may come
// in place of a key, is by far the longest.
const (
	maxAPIKeyBytes    = 8 << 10
	maxWorkspaceBytes = 256
	maxProjectBytes   = 1 << 10
)

// BearerPrefix begins the APIKey of a caller that sent an OAuth token in the
// Authorization header, which is where it has to go again. No key has a space
// in it, so that the two cannot be taken for each other.
const BearerPrefix = "Bearer "

// Read reads a Caller from headers. get returns the first value of a header
// given in lower case, empty if it has none. The error is a *HeaderError.
func Read(get func(name string) string) (proxy.Caller, error) {
	key, keyHeader := strings.TrimSpace(get(headerAPIKey)), headerAPIKey
	if key == "" {
		key, keyHeader = bearer(get(headerAuthorization)), headerAuthorization
	}
	caller := proxy.Caller{
		APIKey:    key,
		Workspace: strings.TrimSpace(get(headerWorkspace)),
		Project:   strings.TrimSpace(get(headerProject)),
	}
	for _, h := range []struct {
		name, value string
		maxBytes    int
		printable   func(rune) bool
		want        string
	}{
		{keyHeader, caller.APIKey, maxAPIKeyBytes, graphicASCII, "printable ASCII without spaces"},
		{headerWorkspace, caller.Workspace, maxWorkspaceBytes, graphicASCII, "printable ASCII without spaces"},
		{headerProject, caller.Project, maxProjectBytes, printableText, "printable UTF-8 text"},
	} {
		if len(h.value) > h.maxBytes {
			return proxy.Caller{}, &HeaderError{Header: h.name, Detail: fmt.Sprintf("%d bytes, at most %d are allowed", len(h.value), h.maxBytes)}
		}
		for i, r := range h.value {
			if !h.printable(r) {
				// The value may be a secret: only where it is wrong is said.
				return proxy.Caller{}, &HeaderError{Header: h.name, Detail: fmt.Sprintf("character %d is not allowed, want %s", utf8.RuneCountInString(h.value[:i])+1, h.want)}
			}
		}
	}
	if key != "" && keyHeader == headerAuthorization {
		caller.APIKey = BearerPrefix + key
	}
	return caller, nil
}

// bearer returns the token of an Authorization header of that scheme.
func bearer(value string) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func graphicASCII(r rune) bool { return r > ' ' && r < 0x7f }

// printableText refuses what would corrupt a header, a log or a terminal. A
// range loop turns invalid UTF-8 into RuneError, which is refused with it.
func printableText(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }

// HeaderError says which header is wrong, never what is in it.
type HeaderError struct {
	Header string // in lower case
	Detail string
}

// Error implements error.
func (e *HeaderError) Error() string { return "header " + e.Header + ": " + e.Detail }
