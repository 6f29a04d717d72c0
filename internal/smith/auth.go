package smith

import (
	"net/http"
	"slices"
	"strings"
)

// APIKey is a key as it was sent. Printing or logging it shows a hint only.
type APIKey string

// String returns the first five and last two characters; less of a short key.
func (k APIKey) String() string {
	const head, tail, least = 5, 2, 12
	switch {
	case k == "":
		return ""
	case len(k) < least:
		return "…"
	}
	return string(k[:head]) + "…" + string(k[len(k)-tail:])
}

// GoString implements fmt.GoStringer, so that %#v does not show the key either.
func (k APIKey) GoString() string { return k.String() }

// caller is who sent a request, once that is settled.
type caller struct {
	key     APIKey
	tenant  string
	orgRead bool
}

// authenticate finds the key and workspace of a request, or the refusal.
//
// What is known of the service: no key is 401 and an unknown one 403, whatever
// region or spelling is wrong (LangSmith SDK issues 1412 and 2112); a workspace
// that is not a UUID is 401; the order of the checks is our guess.
func (s *Server) authenticate(r *http.Request, e *endpoint) (caller, *reply) {
	sw := s.currentSwitches()
	refuse := func(status int, body string) (caller, *reply) {
		if old, ok := oldBodies[body]; ok && sw.AuthWording == WordingOld {
			body = old
		}
		a := literal(status, body)
		return caller{}, &a
	}
	key, bearer := credential(r.Header)
	if key == "" {
		return refuse(http.StatusUnauthorized, bodyUnauthorized)
	}
	known, ok := s.lookup(key)
	switch {
	case bearer && (known.listed && !known.Bearer || strings.HasPrefix(key, "lsv2_")):
		// An API key in the OAuth header counts as no key at all.
		return refuse(http.StatusUnauthorized, bodyUnauthorized)
	case !bearer && !known.listed && strings.HasPrefix(key, "ls__"):
		return refuse(http.StatusUnauthorized, bodyLegacyKey)
	}
	workspace := strings.TrimSpace(r.Header.Get("X-Tenant-Id"))
	if workspace != "" && !isUUID(workspace) {
		return refuse(http.StatusUnauthorized, bodyBadWorkspaceID)
	}
	if known.revoked && sw.RevokedKey == Revoked401 {
		return refuse(http.StatusUnauthorized, bodyUnauthorized)
	}
	if !ok || known.Bearer && !bearer {
		return refuse(http.StatusForbidden, bodyForbidden)
	}
	if known.OrgScoped && workspace == "" && !e.org {
		if e.family == familyPython {
			return refuse(http.StatusForbidden, bodyOrgScopedPython)
		}
		return refuse(http.StatusForbidden, bodyOrgScopedGo)
	}
	tenant, reaches := known.reach(workspace)
	if !reaches || (e.ingest || e.write) && known.ReadOnly {
		return refuse(http.StatusForbidden, bodyForbidden)
	}
	if known.NoPlan && (e.ingest || e.write) {
		return refuse(http.StatusForbidden, bodyNoPlan)
	}
	return caller{key: APIKey(key), tenant: tenant, orgRead: known.OrgRead}, nil
}

// standing is what is known of a key: its description where it has one.
type standing struct {
	Key

	listed  bool
	revoked bool
}

// credential returns the key a request carries and whether it came as a bearer
// token. The x-api-key header wins where both are there.
func credential(h http.Header) (key string, bearer bool) {
	if key = h.Get("X-Api-Key"); key != "" {
		return key, false
	}
	const scheme = "bearer "
	auth := h.Get("Authorization")
	if len(auth) > len(scheme) && strings.EqualFold(auth[:len(scheme)], scheme) {
		return strings.TrimSpace(auth[len(scheme):]), true
	}
	return "", false
}

// reach returns the workspace a request lands in, given the one it names.
func (k standing) reach(workspace string) (tenant string, ok bool) {
	tenant = k.Tenant
	if tenant == "" {
		tenant = DefaultTenant
	}
	if workspace == "" || strings.EqualFold(workspace, tenant) {
		return tenant, true
	}
	if !k.listed || k.OrgScoped && len(k.Workspaces) == 0 {
		return strings.ToLower(workspace), true
	}
	for _, w := range k.Workspaces {
		if strings.EqualFold(w, workspace) {
			return w, true
		}
	}
	return "", false
}

// lookup returns what is known of a key, and whether it is taken at all.
func (s *Server) lookup(key string) (standing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, listed := s.keys[key]
	switch {
	case listed && k == nil:
		return standing{revoked: true}, false
	case listed:
		return standing{Key: *k, listed: true}, true
	default:
		return standing{}, s.cfg.AllowAnyKey
	}
}

// SetKey makes a key known, or changes what is known about it. The next
// request sees it.
func (s *Server) SetKey(key string, k Key) {
	k.Workspaces = slices.Clone(k.Workspaces)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = &k
}

// SetKeys makes these the only keys that are known, in one step; those that
// were are unknown from now on, not revoked. Whether keys that are not known
// are taken stays as New was told.
func (s *Server) SetKeys(keys map[string]Key) {
	known := make(map[string]*Key, len(keys))
	for name, k := range keys {
		k.Workspaces = slices.Clone(k.Workspaces)
		known[name] = &k
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = known
}

// RemoveKey revokes a key, also where any key is taken. SetKey brings it back.
func (s *Server) RemoveKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = nil
}

// isUUID reports whether s is a UUID in its hyphenated or bare form.
func isUUID(s string) bool {
	_, ok := parseUUID(s)
	return ok
}
