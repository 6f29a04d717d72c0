package queue

import "fmt"

// laneRun is the requests of one lane in a group.
type laneRun struct {
	lane     LaneID
	requests []*appendRequest
}

// build turns the group's requests into the entries of one transaction for the
// active segment. It may be called again, for another segment.
func (q *Queue) build(g *group) {
	clear(g.frames)
	g.events, g.frames, g.entries, g.values = g.events[:0], g.frames[:0], g.entries[:0], g.values[:0]
	q.mu.Lock()
	seq := q.active.next
	q.mu.Unlock()
	for _, c := range g.changes {
		g.events = append(g.events, c.events...)
		for i := range c.parts {
			q.buildPart(g, c, &c.parts[i], seq)
			seq++
		}
	}
	nowMS := q.cfg.now().UnixMilli()
	for _, run := range q.laneRuns(g) {
		for rest := run.requests; len(rest) > 0; {
			n := frameLen(rest, q.cfg.FrameBytes)
			q.buildFrame(g, run.lane, rest[:n], newFrame{seq: seq, header: frameHeader{acceptedAtMS: nowMS}})
			seq++
			rest = rest[n:]
		}
	}
	for _, r := range g.appends {
		for _, b := range r.export.Blobs {
			g.events = append(g.events, b.noteEvent())
		}
	}
	for i := range g.frames {
		g.entries = append(g.entries, entry{key32(keyFrame, g.frames[i].seq), g.frames[i].value})
	}
	if len(g.events) > 0 {
		g.entries = append(g.entries, entry{key32(keyJournal, q.active.journal), encodeJournal(seq, g.events)})
	}
}

// laneRuns sorts the group's exports by lane, in the order they came, and
// journals lanes not seen before. Exports that would pass the bound on lanes
// are refused and leave the group.
func (q *Queue) laneRuns(g *group) []laneRun {
	var runs []laneRun
	clear(g.lanes)
	at := make(map[string]int, 4)
	kept := g.appends[:0]
	for _, r := range g.appends {
		i, ok := at[r.lane]
		if !ok {
			lane, err := q.resolveLane(g, r.lane)
			if err != nil {
				q.metrics.refused(err)
				r.done <- err
				continue
			}
			i = len(runs)
			at[r.lane] = i
			runs = append(runs, laneRun{lane: lane})
		}
		runs[i].requests = append(runs[i].requests, r)
		kept = append(kept, r)
	}
	clear(g.appends[len(kept):])
	g.appends = kept
	return runs
}

// resolveLane finds a lane by its descriptor, or numbers it.
func (q *Queue) resolveLane(g *group, descriptor string) (LaneID, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.st.byName[descriptor]; l != nil {
		g.lanes[descriptor] = l.id
		return l.id, nil
	}
	if q.lanesWithLocked(g) >= q.cfg.MaxLanes {
		inGroup := map[LaneID]bool{}
		for _, id := range g.lanes {
			inGroup[id] = true
		}
		q.st.pruneLanes(func(id LaneID) bool { return inGroup[id] || q.inFlight[id] > 0 })
	}
	if q.lanesWithLocked(g) >= q.cfg.MaxLanes {
		return 0, &FullError{Reason: "lanes", Detail: fmt.Sprintf(
			"%d combinations of key, workspace and project have data waiting, the most there may be; use fewer or raise max_lanes", q.cfg.MaxLanes)}
	}
	id := q.st.nextLane
	q.st.nextLane++
	g.lanes[descriptor] = id
	g.events = append(g.events, event{kind: eventLane, lane: id, data: []byte(descriptor)})
	return id, nil
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

// frameLen is how many of the requests share a frame: at least one.
func frameLen(requests []*appendRequest, frameBytes int64) int {
	var raw int64
	for i, r := range requests {
		raw += int64(len(r.export.Payload))
		if i > 0 && raw > frameBytes {
			return i
		}
	}
	return len(requests)
}

// buildFrame adds one frame of a lane's requests. Small exports are joined and
// compressed here; large ones come compressed. zstd frames concatenate.
func (q *Queue) buildFrame(g *group, lane LaneID, requests []*appendRequest, f newFrame) {
	f.header.lane, f.header.zstd, f.header.accepted = lane, true, true
	g.zstd, g.raw = g.zstd[:0], g.raw[:0]
	var rawBytes, items int
	joinFrom := 0
	flush := func(upTo int) {
		switch n := upTo - joinFrom; {
		case n == 1: // no need to join
			g.zstd = q.enc.EncodeAll(requests[joinFrom].export.Payload, g.zstd)
		case n > 1:
			g.raw = g.raw[:0]
			for _, r := range requests[joinFrom:upTo] {
				g.raw = append(g.raw, r.export.Payload...)
			}
			g.zstd = q.enc.EncodeAll(g.raw, g.zstd)
		}
	}
	for i, r := range requests {
		rawBytes += len(r.export.Payload)
		items += r.export.Items
		if r.zstd != nil {
			flush(i)
			g.zstd = append(g.zstd, r.zstd...)
			joinFrom = i + 1
		}
	}
	flush(len(requests))
	f.header.items, f.header.rawBytes = uint32(items), uint32(rawBytes)
	g.addFrame(f, g.distinctTraces(requests), g.zstd)
}

// buildPart adds a frame that takes the place of part of an older one.
func (q *Queue) buildPart(g *group, c *change, p *Part, seq uint32) {
	g.zstd = q.enc.EncodeAll(p.Payload, g.zstd[:0])
	g.addFrame(newFrame{seq: seq, header: frameHeader{
		zstd: true, lane: c.lane, place: p.Place, acceptedAtMS: c.atMS,
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

// distinctTraces is the union of the requests' trace ids.
func (g *group) distinctTraces(requests []*appendRequest) []TraceID {
	if len(requests) == 1 {
		return requests[0].export.Traces
	}
	g.ids = g.ids[:0]
	clear(g.seen)
	for _, r := range requests {
		for _, id := range r.export.Traces {
			if _, ok := g.seen[id]; !ok {
				g.seen[id] = struct{}{}
				g.ids = append(g.ids, id)
			}
		}
	}
	return g.ids
}
