package proxy

import (
	"cmp"
	"time"
)

// rememberTooLarge is for how long requests stay below a size that was refused:
// an ingress is seldom changed, and a guess that was wrong should not last.
const rememberTooLarge = time.Hour

// shrink makes a lane's requests smaller than one of rawBytes that was too large.
func (f *Forwarder) shrink(r *laneRun, rawBytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.maxRawBytes = min(max(rawBytes/2, 1), cmp.Or(r.maxRawBytes, f.cfg.MaxRequestBytes))
	r.tooLarge, r.tooLargeAt = min(rawBytes, cmp.Or(r.tooLarge, rawBytes)), f.cfg.Now()
}

// growLocked lets a lane's requests grow back slowly, but for an hour not to a
// size that was refused. mu is held.
func (f *Forwarder) growLocked(r *laneRun) {
	if r.tooLarge > 0 && f.cfg.Now().Sub(r.tooLargeAt).Abs() > rememberTooLarge {
		r.tooLarge = 0
	}
	if r.maxRawBytes == 0 {
		return
	}
	most := f.cfg.MaxRequestBytes
	if r.tooLarge > 0 {
		most = min(most, r.tooLarge-r.tooLarge/16-1)
	}
	r.maxRawBytes = max(min(r.maxRawBytes+r.maxRawBytes/16+1, most), 1)
	if r.maxRawBytes >= f.cfg.MaxRequestBytes {
		r.maxRawBytes = 0
	}
}

// requestBytes is how large the lane's requests may be.
func (f *Forwarder) requestBytes(r *laneRun) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.maxRawBytes > 0 {
		return min(r.maxRawBytes, f.cfg.MaxRequestBytes)
	}
	return f.cfg.MaxRequestBytes
}
