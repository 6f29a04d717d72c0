package smith

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// maxOffset is how far the clock may be moved, either way.
const maxOffset = 200 * 365 * 24 * time.Hour

// movable is a clock that can be moved and otherwise goes on as its base does.
type movable struct {
	base   func() time.Time
	offset atomic.Int64 // a time.Duration
}

func (c *movable) now() time.Time { return c.base().Add(time.Duration(c.offset.Load())) }

// Now is the time by the server's clock.
func (s *Server) Now() time.Time { return s.cfg.Now() }

// SetClockOffset moves the server's clock by d from Config.Now, where it goes
// on from; 0 moves it back. Everything follows: arrival times, the Date header,
// the start-time window and the windows of limits. What waits, such as a
// fault's latency, goes by the real clock. More than 200 years are an error.
func (s *Server) SetClockOffset(d time.Duration) error {
	if d > maxOffset || d < -maxOffset {
		return fmt.Errorf("move the clock by %s: that is more than 200 years", d)
	}
	s.clock.offset.Store(int64(d))
	return nil
}

// SetClock moves the server's clock to a time, as SetClockOffset does.
func (s *Server) SetClock(to time.Time) error {
	return s.SetClockOffset(to.Sub(s.clock.base()))
}

// clockView is the clock in the control API. To set it, one of both is given.
type clockView struct {
	Now    *time.Time `json:"now"`
	Offset *string    `json:"offset"`
}

func (s *Server) controlGetClock(w http.ResponseWriter, _ *http.Request) error {
	now, offset := s.Now().UTC(), time.Duration(s.clock.offset.Load()).String()
	writeControl(w, http.StatusOK, clockView{Now: &now, Offset: &offset})
	return nil
}

func (s *Server) controlSetClock(w http.ResponseWriter, r *http.Request) error {
	var body clockView
	if err := readControl(r, &body); err != nil {
		return err
	}
	if (body.Now == nil) == (body.Offset == nil) {
		return badRequest(`write either {"offset":"36h"} or {"now":"2026-12-01T00:00:00Z"}`)
	}
	var err error
	if body.Now != nil {
		err = s.SetClock(*body.Now)
	} else {
		var d time.Duration
		if d, err = time.ParseDuration(*body.Offset); err == nil {
			err = s.SetClockOffset(d)
		} else {
			err = fmt.Errorf("offset %q is not a duration, such as 36h or -90m", *body.Offset)
		}
	}
	if err != nil {
		return badRequest("%v", err)
	}
	w.Header().Set("Date", s.Now().UTC().Format(http.TimeFormat))
	return s.controlGetClock(w, r)
}
