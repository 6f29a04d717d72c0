package proxy

import (
	"fmt"
	"time"
)

// request is an empty request of the lane, with its credentials resolved.
func (f *Forwarder) request(s *sending) (*Request, error) {
	dest := f.dest.Load()
	r := &Request{
		Protocol:  s.lane.Protocol,
		Upstream:  dest.UpstreamURL,
		Workspace: resolve(s.lane.Workspace, refWorkspace, dest.Workspace),
		Project:   resolve(s.lane.Project, refProject, dest.Project),
	}
	s.as = f.accounts.callerOf(s.lane)
	if other, ok := f.standIn(s.as); ok && s.lane.Credential != refKey {
		s.as = other
		r.APIKey, _ = f.accounts.key(other)
		return r, nil
	}
	if s.lane.Credential == refKey {
		r.APIKey = dest.APIKey
		return r, nil
	}
	key, err := f.vault.Key(s.lane.Credential)
	if err != nil {
		return nil, fmt.Errorf("send data of lane %d: %w: restore the sealing key file of the data directory", s.lease.Lane, err)
	}
	r.APIKey = key
	return r, nil
}

// standIn is another key of the same tenant, to send under in place of a caller's
// that is refused: its successor. Both must be known to be that tenant's, because the
// upstream has taken them.
func (f *Forwarder) standIn(c caller) (other caller, ok bool) {
	refused, wasTaken := f.history.refusedKey(c)
	if !refused || !wasTaken {
		return caller{}, false
	}
	for _, other := range f.history.takenSince(c) {
		if _, have := f.accounts.key(other); have && f.accounts.sameTenant(c, other) {
			return other, true
		}
	}
	return caller{}, false
}

// wakeKeys tries what waits because of its key. What the upstream or a limit has
// wait goes on waiting.
func (f *Forwarder) wakeKeys() {
	f.mu.Lock()
	for _, r := range f.lanes {
		r.releaseFrom = time.Time{}
	}
	f.mu.Unlock()
	f.waits.wakeRefusedKeys()
	f.poke()
}
