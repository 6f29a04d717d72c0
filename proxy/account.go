package proxy

import (
	"fmt"
	"strings"
	"sync"

	"weir/proxy/runs"
	"weir/queue"
	"weir/quota"
)

// Whom LangSmith meters is the tenant behind a key (a workspace). Which one that
// is, a key does not say; it is asked once and kept as a note of the queue. A
// request that names its workspace says it itself. Until it is known, what a key
// sends counts for an account of that key's own, which shares the limit of all
// others there are, and is united with the tenant's once that is known.

const tenantNotes = "tenant/"

// caller is what a tenant is asked for: a key, by fingerprint, at an upstream.
type caller struct {
	upstream   string
	credential string // a fingerprint; empty: no key at all
	workspace  string // as the request names it
}

// accounts tells for whom data counts. Its methods may be called from any number
// of goroutines.
type accounts struct {
	guard *quota.Guard
	q     *queue.Queue
	vault *Vault
	dest  func() *Destination

	// mu guards what follows. It is held for reading while an account is in use,
	// so that no account is united with another under the one who uses it.
	mu      sync.RWMutex
	byLane  map[Lane]string   // without protocol and project
	callers map[string]caller // one for each account in use
	open    map[caller]bool   // those whose tenant is not known
	tenants map[caller]string
}

func newAccounts(g *quota.Guard, q *queue.Queue, v *Vault, dest func() *Destination) *accounts {
	return &accounts{
		guard: g, q: q, vault: v, dest: dest,
		byLane: map[Lane]string{}, callers: map[string]caller{}, open: map[caller]bool{}, tenants: map[caller]string{},
	}
}

// with calls fn with the account of a lane's data.
func (a *accounts) with(lane Lane, fn func(account string) error) error {
	lane.Protocol, lane.Project = 0, ""
	for {
		if known, err := a.withKnown(lane, fn); known {
			return err
		}
		a.find(lane)
	}
}

// withKnown calls fn if the lane's account is known.
func (a *accounts) withKnown(lane Lane, fn func(account string) error) (known bool, err error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	account, known := a.byLane[lane]
	if !known {
		return false, nil
	}
	return true, fn(account)
}

// name is the account of a lane's data, as it is now.
func (a *accounts) name(lane Lane) (account string) {
	_ = a.with(lane, func(name string) error { account = name; return nil })
	return account
}

// maxUnknownCallers bounds the callers whose tenant is not known and that have
// an account of their own.
const maxUnknownCallers = 256

// find finds out the account of a lane, beginning one if need be.
func (a *accounts) find(lane Lane) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.byLane) >= maxCachedLanes {
		clear(a.byLane)
	}
	c := a.callerOf(lane)
	account := a.account(c)
	if _, known := a.callers[account.Name]; !known && account.Provisional && lane.Credential != refKey && len(a.open) >= maxUnknownCallers {
		// Whoever makes up keys must not make as many accounts. What is not known
		// shares a limit anyway.
		account.Name, c.credential = c.upstream+" other keys", ""
	}
	a.guard.Use(account)
	a.byLane[lane] = account.Name
	if _, known := a.callers[account.Name]; !known && len(a.callers) < maxCachedLanes {
		a.callers[account.Name] = c
	}
	if account.Provisional && c.credential != "" && c.workspace == "" && len(a.open) < maxCachedLanes {
		a.open[c] = true
	}
}

// callerOf resolves a lane's references.
func (a *accounts) callerOf(lane Lane) caller {
	dest := a.dest()
	c := caller{
		upstream: dest.UpstreamURL, credential: lane.Credential,
		workspace: strings.ToLower(strings.TrimSpace(resolve(lane.Workspace, refWorkspace, dest.Workspace))),
	}
	if lane.Credential == refKey {
		c.credential = ""
		if dest.APIKey != "" {
			c.credential = a.vault.Fingerprint(dest.APIKey)
		}
	}
	return c
}

// own is weir's own key and workspace.
func (a *accounts) own() caller {
	return a.callerOf(Lane{Credential: refKey, Workspace: refWorkspace})
}

// sameTenant reports whether two callers are known to belong to one tenant:
// LangSmith has said so of both keys. A workspace that a caller names is its own
// word, and does not count.
func (a *accounts) sameTenant(c, other caller) bool {
	if c.workspace != "" || other.workspace != "" {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	tenant := a.tenant(c)
	return tenant != "" && tenant == a.tenant(other)
}

// account is the account of a caller. mu is held.
func (a *accounts) account(c caller) quota.Account {
	tenant := a.tenant(c)
	if tenant != "" {
		return quota.Account{Name: c.upstream + " " + tenant, Upstream: c.upstream}
	}
	key := c.credential
	if key == "" {
		key = "no key"
	}
	if c.workspace != "" {
		key += " workspace " + clip(c.workspace, 64)
	}
	return quota.Account{Name: c.upstream + " " + key, Upstream: c.upstream, Provisional: true}
}

// tenant is the tenant of a caller, empty if it is not known. mu is held.
func (a *accounts) tenant(c caller) string {
	if id, err := runs.ParseID(c.workspace); err == nil {
		return id.String()
	}
	if tenant, ok := a.tenants[c]; ok {
		return tenant
	}
	name := tenantNotes + c.upstream + " " + c.credential
	tenant := string(a.q.Notes(name)[name])
	if tenant != "" {
		a.tenants[c] = tenant
	}
	return tenant
}

// unknown lists the callers whose tenant is not known, and could be asked for.
func (a *accounts) unknown() []caller {
	a.mu.RLock()
	defer a.mu.RUnlock()
	out := make([]caller, 0, len(a.open))
	for c := range a.open {
		out = append(out, c)
	}
	return out
}

// caller is one whose requests count for an account, with its key.
func (a *accounts) caller(account string) (c caller, key string, ok bool) {
	a.mu.RLock()
	c, ok = a.callers[account]
	a.mu.RUnlock()
	if !ok {
		return c, "", false
	}
	key, ok = a.key(c)
	return c, key, ok
}

// key is a caller's key.
func (a *accounts) key(c caller) (string, bool) {
	if own := a.dest().APIKey; own != "" && a.vault.Fingerprint(own) == c.credential {
		return own, true
	}
	key, err := a.vault.Key(c.credential)
	return key, err == nil
}

// learn notes the tenant of a caller, and counts for it what was counted for
// the caller alone. It returns the names of the account before and after.
func (a *accounts) learn(c caller, tenant string) (before, after string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before = a.account(c).Name
	a.tenants[c] = tenant
	into := a.account(c)
	if err := a.guard.Unite(before, into); err != nil {
		delete(a.tenants, c) // it is asked again
		return before, into.Name, fmt.Errorf("unite the accounts of one tenant: %w", err)
	}
	clear(a.byLane)
	delete(a.open, c)
	delete(a.callers, before)
	a.callers[into.Name] = c
	// Last: with the note and without this, nobody would ask again, and the
	// caller's own account would stand for ever.
	if err := a.q.SetNote(tenantNotes+c.upstream+" "+c.credential, []byte(tenant)); err != nil {
		return before, into.Name, fmt.Errorf("keep the tenant of a key: %w", err)
	}
	return before, into.Name, nil
}

// changed forgets what depends on weir's own key and workspace.
func (a *accounts) changed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.byLane)
	clear(a.callers)
	clear(a.open)
}

// all lists the accounts in use.
func (a *accounts) all() []string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	out := make([]string, 0, len(a.callers))
	for name := range a.callers {
		out = append(out, name)
	}
	return out
}

// tenantOf is the tenant of an account, empty if it is not known.
func (a *accounts) tenantOf(account string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.callers[account]
	if !ok {
		return ""
	}
	return a.tenant(c)
}
