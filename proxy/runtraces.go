package proxy

import (
	"fmt"
	"slices"

	"weir/proxy/runs"
)

// TracesOf are the distinct traces of run operations, with what these say of
// them. An operation that does not name its trace is passed over.
func TracesOf(ops []runs.Op) (ids []TraceID, marks []TraceMark) {
	at := make(map[TraceID]int, 8)
	for i := range ops {
		op := &ops[i]
		if op.Trace.IsZero() {
			continue
		}
		n, have := at[TraceID(op.Trace)]
		if !have {
			n = len(ids)
			at[TraceID(op.Trace)] = n
			ids = append(ids, TraceID(op.Trace))
			marks = append(marks, TraceMark{Follows: true})
		}
		m := &marks[n]
		if op.Kind == runs.Create || op.Kind == runs.Update {
			// An update may come first, when an SDK sends its create again.
			m.Follows = false
		}
		if e := op.Fields[runs.Error]; len(e) > 0 && string(e) != "null" && string(e) != `""` {
			m.Failed = true
		}
		if m.Project == "" && op.Kind == runs.Create && !op.NoProject {
			m.Project = op.Project()
		}
	}
	return ids, marks
}

// RunsDivider cuts payloads of run operations. Its zero value is ready.
type RunsDivider struct{}

// Slice implements Divider.
func (RunsDivider) Slice(payload []byte, from, to int) (Piece, error) {
	var out Piece
	n := 0
	err := runs.Scan(payload, func(op runs.Op) error {
		if n >= from && n < to {
			out.add(&op)
		}
		n++
		return nil
	})
	if err != nil {
		return Piece{}, fmt.Errorf("read run operations: %w", err)
	}
	if out.Items != to-from || to <= from {
		return Piece{}, fmt.Errorf("operations %d to %d of a payload with %d: there are no such", from, to, n)
	}
	return out, nil
}

// Split implements Divider. An operation that does not name its trace belongs to
// the run before it of the same id, if there is one in the payload (an
// attachment and its run), else part is asked about the run's own id: that of a
// root run is the trace's.
func (RunsDivider) Split(payload []byte, n int, part func(TraceID) int) ([]Piece, error) {
	pieces := make([]Piece, n)
	of := map[runs.ID]int{} // pieces of the runs so far
	err := runs.Scan(payload, func(op runs.Op) error {
		k, known := of[op.ID]
		if !op.Trace.IsZero() {
			k, known = part(TraceID(op.Trace)), true
		}
		if !known {
			k = part(TraceID(op.ID))
		}
		of[op.ID] = k
		pieces[k].add(&op)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read run operations: %w", err)
	}
	return pieces, nil
}

// add appends an operation to a piece.
func (p *Piece) add(op *runs.Op) {
	p.Payload = runs.Append(p.Payload, op)
	p.Items++
	if id := TraceID(op.Trace); !op.Trace.IsZero() && !slices.Contains(p.Traces, id) {
		p.Traces = append(p.Traces, id)
	}
	if op.Blob != "" {
		p.Blobs = append(p.Blobs, op.Blob)
	}
}
