package proxy

import (
	"fmt"

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
		if m.Project == "" && (op.Kind == runs.Create && !op.NoProject || op.Kind == runs.Update) {
			m.Project = op.Project()
		}
	}
	return ids, marks
}

// RunsDivider cuts payloads of run operations. Its zero value is ready.
type RunsDivider struct{}

// Slice implements Divider.
func (RunsDivider) Slice(payload []byte, from, to int) (Piece, error) {
	var out runsPiece
	n := 0
	err := runs.ScanStored(payload, func(op runs.Op, stored []byte) error {
		if n >= from && n < to {
			out.add(&op, stored)
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
	return out.Piece, nil
}

// Split implements Divider. An operation that does not name its trace belongs to
// the run before it of the same id, if there is one in the payload (an
// attachment and its run), else part is asked about the run's own id: that of a
// root run is the trace's.
func (RunsDivider) Split(payload []byte, n int, part func(TraceID) int) ([]Piece, error) {
	out := make([]runsPiece, n)
	of := map[runs.ID]int{} // pieces of the runs so far
	err := runs.ScanStored(payload, func(op runs.Op, stored []byte) error {
		k, known := of[op.ID]
		if !op.Trace.IsZero() {
			k, known = part(TraceID(op.Trace)), true
		}
		if !known {
			k = part(TraceID(op.ID))
		}
		if !op.ID.IsZero() {
			of[op.ID] = k
		}
		out[k].add(&op, stored)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read run operations: %w", err)
	}
	pieces := make([]Piece, n)
	for k := range out {
		pieces[k] = out[k].Piece
	}
	return pieces, nil
}

// runsPiece is a piece being put together.
type runsPiece struct {
	Piece

	seen map[TraceID]struct{}
}

// add appends an operation as it is stored.
func (p *runsPiece) add(op *runs.Op, stored []byte) {
	p.Payload = runs.AppendStored(p.Payload, stored)
	p.Items++
	if id := TraceID(op.Trace); !op.Trace.IsZero() {
		if _, have := p.seen[id]; !have {
			if p.seen == nil {
				p.seen = map[TraceID]struct{}{}
			}
			p.seen[id] = struct{}{}
			p.Traces = append(p.Traces, id)
		}
	}
	if op.Blob != "" {
		p.Blobs = append(p.Blobs, op.Blob)
	}
}
