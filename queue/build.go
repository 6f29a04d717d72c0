package queue

import (
	"fmt"
	"slices"
)

// laneRun is the exports of one lane in a group that stand at one place.
type laneRun struct {
	lane  LaneID
	place Place
	parts []*exportPart
}

// build turns the group's requests into the entries of one transaction for the
// active segment. It may be called again, for another segment.
func (q *Queue) build(g *group) {
	clear(g.frames)
	clear(g.lanes)
	g.events, g.frames, g.entries, g.values = g.events[:0], g.frames[:0], g.entries[:0], g.values[:0]
	q.mu.Lock()
	seq := q.active.next
	nowMS := max(q.cfg.now().UnixMilli(), q.st.newestMS, q.active.floorMS)
	q.mu.Unlock()
	q.resolvePartLanes(g)
	for _, c := range g.changes {
		g.events = append(g.events, c.events...)
		for i := range c.parts {
			q.buildPart(g, c, &c.parts[i], seq)
			seq++
		}
	}
	for _, run := range q.laneRuns(g) {
		for rest := run.parts; len(rest) > 0; {
			n := frameLen(rest, q.cfg.FrameBytes)
			q.buildFrame(g, rest[:n], newFrame{seq: seq, header: frameHeader{
				lane: run.lane, place: run.place, acceptedAtMS: nowMS, zstd: true, accepted: true,
			}})
			seq++
			rest = rest[n:]
		}
	}
	g.addExportEvents()
	for i := range g.frames {
		g.entries = append(g.entries, entry{key32(keyFrame, g.frames[i].seq), g.frames[i].value})
	}
	if len(g.events) > 0 {
		g.entries = append(g.entries, entry{key32(keyJournal, q.active.journal), encodeJournal(seq, g.events)})
	}
}

// addExportEvents journals what exports are besides frames: the blobs they
// take, and for each reason the items that are dropped.
func (g *group) addExportEvents() {
	from := len(g.events)
	for _, r := range g.appends {
		for i := range r.parts {
			if e := r.parts[i].export; e.Dropped != "" {
				g.addDiscarded(from, e)
			}
		}
	}
	for _, r := range g.appends {
		for i := range r.parts {
			if e := r.parts[i].export; e.Dropped == "" {
				for _, b := range e.Blobs {
					g.events = append(g.events, b.noteEvent())
				}
			}
		}
	}
}

// addDiscarded counts a dropped export into the event for its reason, which is
// not before from.
func (g *group) addDiscarded(from int, e *Export) {
	for i := from; i < len(g.events); i++ {
		if g.events[i].text == e.Dropped {
			g.events[i].items += int64(e.Items)
			return
		}
	}
	g.events = append(g.events, event{kind: eventDiscarded, items: int64(e.Items), text: e.Dropped})
}

// laneRuns sorts the group's exports by lane and place, in the order they came,
// and journals lanes not seen before. Requests that would pass the bound on
// lanes, or the share of the cap they need, are refused and leave the group.
func (q *Queue) laneRuns(g *group) []laneRun {
	var runs []laneRun
	g.measured = false
	at := make(map[bucket]int, 4)
	kept := g.appends[:0]
	for _, r := range g.appends {
		if err := q.admit(g, r); err != nil {
			q.metrics.refused(err)
			r.done <- err
			continue
		}
		for i := range r.parts {
			p := &r.parts[i]
			if p.export.Dropped != "" {
				continue
			}
			b := bucket{g.lanes[p.at.lane], p.stands}
			n, ok := at[b]
			if !ok {
				n = len(runs)
				at[b] = n
				runs = append(runs, laneRun{lane: b.lane, place: b.place})
			}
			runs[n].parts = append(runs[n].parts, p)
		}
		kept = append(kept, r)
	}
	clear(g.appends[len(kept):])
	g.appends = kept
	return runs
}

// admit finds the lanes and places of a request's parts, and room for those
// that stand in a case. After an error the group is as before.
func (q *Queue) admit(g *group, r *appendRequest) error {
	need, err := q.standParts(g, r)
	if err != nil {
		return err
	}
	from := len(g.events)
	for i := range r.parts {
		p := &r.parts[i]
		if p.export.Dropped != "" {
			continue
		}
		if _, ok := g.lanes[p.at.lane]; ok {
			continue
		}
		if err := q.resolveLane(g, p.at.lane); err != nil {
			for _, e := range g.events[from:] {
				delete(g.lanes, string(e.data))
			}
			g.events = g.events[:from]
			return err
		}
	}
	for i := range need {
		g.left[i] -= need[i]
	}
	return nil
}

// standParts finds where a request's parts stand now. A place is written into
// a frame only while its case is open: the number of a case that is opened in
// the same transaction could not be told from it.
func (q *Queue) standParts(g *group, r *appendRequest) (need shareBytes, err error) {
	for i := range r.parts {
		p := &r.parts[i]
		p.stands = Pending
		if p.at.place == Pending { // no lock for what is the rule
			continue
		}
		q.mu.Lock()
		p.stands = q.st.standing(p.at.place)
		share := q.st.shareOf(p.stands)
		if !g.measured {
			g.left, g.measured = q.sharesLeftLocked(), true
		}
		q.mu.Unlock()
		need[share] += p.storedBytes()
		if share != shareNone && need[share] > g.left[share] {
			return need, fullShareError(share, q.shareMax(share))
		}
	}
	return need, nil
}

// resolveLane finds a lane by its descriptor, or numbers it.
func (q *Queue) resolveLane(g *group, descriptor string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.st.byName[descriptor]; l != nil {
		g.lanes[descriptor] = l.id
		return nil
	}
	if q.lanesWithLocked(g) >= q.cfg.MaxLanes {
		inGroup := map[LaneID]bool{}
		for _, id := range g.lanes {
			inGroup[id] = true
		}
		q.st.pruneLanes(func(id LaneID) bool { return inGroup[id] || q.inFlight[id] > 0 })
	}
	if q.lanesWithLocked(g) >= q.cfg.MaxLanes {
		return &FullError{Reason: "lanes", Detail: fmt.Sprintf(
			"%d combinations of key, workspace and project have data waiting, the most there may be; use fewer or raise max_lanes", q.cfg.MaxLanes)}
	}
	id := q.st.nextLane
	q.st.nextLane++
	g.lanes[descriptor] = id
	g.events = append(g.events, event{kind: eventLane, lane: id, data: []byte(descriptor)})
	return nil
}

// lanesWithLocked counts the lanes there will be once the group is committed.
// mu is held.
func (q *Queue) lanesWithLocked(g *group) int {
	n := len(q.st.lanes)
	for _, id := range g.lanes {
		if q.st.lanes[id] == nil {
			n++
		}
	}
	return n
}

// resolvePartLanes finds the lanes of parts that go to another lane than the
// frame's own. Changes of which one cannot be had fail and leave the group.
func (q *Queue) resolvePartLanes(g *group) {
	g.changes = slices.DeleteFunc(g.changes, func(c *change) bool {
		for i := range c.parts {
			name := c.parts[i].Lane
			if _, have := g.lanes[name]; name == "" || have {
				continue
			}
			if err := q.resolveLane(g, name); err != nil {
				c.done <- err
				return true
			}
		}
		return false
	})
}

// frameLen is how many of the exports share a frame: at least one.
func frameLen(parts []*exportPart, frameBytes int64) int {
	var raw int64
	for i, p := range parts {
		raw += int64(len(p.export.Payload))
		if i > 0 && raw > frameBytes {
			return i
		}
	}
	return len(parts)
}

// buildFrame adds one frame of exports. Small ones are joined and compressed
// here; large ones come compressed. zstd frames concatenate.
func (q *Queue) buildFrame(g *group, parts []*exportPart, f newFrame) {
	g.zstd, g.raw = g.zstd[:0], g.raw[:0]
	var rawBytes, items int
	joinFrom := 0
	flush := func(upTo int) {
		switch n := upTo - joinFrom; {
		case n == 1: // no need to join
			g.zstd = q.enc.EncodeAll(parts[joinFrom].export.Payload, g.zstd)
		case n > 1:
			g.raw = g.raw[:0]
			for _, p := range parts[joinFrom:upTo] {
				g.raw = append(g.raw, p.export.Payload...)
			}
			g.zstd = q.enc.EncodeAll(g.raw, g.zstd)
		}
	}
	for i, p := range parts {
		rawBytes += len(p.export.Payload)
		items += p.export.Items
		if p.zstd != nil {
			flush(i)
			g.zstd = append(g.zstd, p.zstd...)
			joinFrom = i + 1
		}
	}
	flush(len(parts))
	f.header.items, f.header.rawBytes = uint32(items), uint32(rawBytes)
	g.addFrame(f, g.distinctTraces(parts), g.zstd)
}

// buildPart adds a frame that takes the place of part of an older one.
func (q *Queue) buildPart(g *group, c *change, p *Part, seq uint32) {
	g.zstd = q.enc.EncodeAll(p.Payload, g.zstd[:0])
	lane := c.lane
	if p.Lane != "" {
		lane = g.lanes[p.Lane]
	}
	g.addFrame(newFrame{seq: seq, header: frameHeader{
		zstd: true, lane: lane, place: q.standing(p.Place), acceptedAtMS: c.atMS,
		items: uint32(p.Items), rawBytes: uint32(len(p.Payload)),
	}}, p.Traces, g.zstd)
}

// addFrame encodes the frame into the group's scratch. A later growth of the
// scratch leaves earlier values where they are.
func (g *group) addFrame(f newFrame, traces []TraceID, payload []byte) {
	f.header.traces, f.header.payloadBytes = uint32(len(traces)), uint32(len(payload))
	start := len(g.values)
	g.values = appendFrame(g.values, f.header, traces, payload)
	f.value = g.values[start:len(g.values):len(g.values)]
	g.frames = append(g.frames, f)
}

// distinctTraces is the union of the exports' trace ids.
func (g *group) distinctTraces(parts []*exportPart) []TraceID {
	if len(parts) == 1 {
		return parts[0].export.Traces
	}
	g.ids = g.ids[:0]
	clear(g.seen)
	for _, p := range parts {
		for _, id := range p.export.Traces {
			if _, ok := g.seen[id]; !ok {
				g.seen[id] = struct{}{}
				g.ids = append(g.ids, id)
			}
		}
	}
	return g.ids
}
