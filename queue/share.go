package queue

import "fmt"

// share is a part of the cap that some of what is kept back has to itself.
type share uint8

const (
	shareNone share = iota // what is pending: it has the whole cap
	shareKept              // quarantine and damage
	shareHeld              // holds
	shares    = 3
)

// shareBytes counts bytes by share.
type shareBytes [shares]int64

func (s *shareBytes) add(o shareBytes) {
	for i := range s {
		s[i] += o[i]
	}
}

// shareOf is the share of the cap that a place belongs to.
func (st *state) shareOf(p Place) share {
	if p == Pending {
		return shareNone
	}
	switch c := st.cases[p]; {
	case c == nil: // it is pending now
		return shareNone
	case c.kind == CaseHold:
		return shareHeld
	default:
		return shareKept
	}
}

// shareMax is how many bytes a share has.
func (q *Queue) shareMax(s share) int64 {
	switch s {
	case shareHeld:
		return int64(float64(q.cfg.MaxBytes) * q.cfg.HeldShare)
	case shareKept:
		return int64(float64(q.cfg.MaxBytes) * q.cfg.KeptShare)
	default:
		return q.cfg.MaxBytes
	}
}

// sharesLeftLocked is by how much each share may grow; negative if it is over.
// What is pending has no share. mu is held.
func (q *Queue) sharesLeftLocked() (left shareBytes) {
	for s := range left {
		left[s] = q.shareMax(share(s)) - q.st.shareBytes[s]
	}
	return left
}

// roomToKeep reports whether each share may grow by what it needs.
func (q *Queue) roomToKeep(need shareBytes) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.sharesLeftLocked()
	for _, s := range []share{shareKept, shareHeld} {
		if need[s] > 0 && need[s] > left[s] {
			return false
		}
	}
	return true
}

func fullShareError(s share, maxBytes int64) *FullError {
	if s == shareHeld {
		return &FullError{Reason: "held_full", Detail: fmt.Sprintf(
			"what the quota guard holds back has reached its share of the buffer, %s; release or discard some of it, or raise buffer_max", sizeText(maxBytes))}
	}
	return &FullError{Reason: "kept_full", Detail: fmt.Sprintf(
		"what is kept in quarantine has reached its share of the buffer, %s; release or discard some of it, or raise buffer_max", sizeText(maxBytes))}
}

// standing is where what was put at p stands now.
func (q *Queue) standing(p Place) Place {
	if p == Pending {
		return Pending
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.st.standing(p)
}
