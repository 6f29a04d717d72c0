package otlp

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"weir/proxy"
)

// Field numbers on the way from a request to its spans, per
// opentelemetry/proto/collector/trace/v1 and trace/v1. Resource and scope
// spans share a shape: what they describe, the repeated field below, a URL.
const (
	fieldResourceSpans = 1 // of ExportTraceServiceRequest
	fieldScopeSpans    = 2 // of ResourceSpans
	fieldSpans         = 2 // of ScopeSpans
)

// errNotOTLP marks stored bytes that are no OTLP message.
var errNotOTLP = errors.New("payload is not an OTLP trace request")

// Divider cuts stored OTLP payloads between spans. Its zero value is ready.
type Divider struct{}

// Slice implements proxy.Divider. The piece repeats the resource and the scope
// of its spans, and copies everything else of theirs as it is.
func (Divider) Slice(payload []byte, from, to int) (proxy.Piece, error) {
	c := cutter{wants: func(span int) bool { return span >= from && span < to }}
	out, err := c.level(nil, payload, fieldResourceSpans, 0)
	if err != nil {
		return proxy.Piece{}, err
	}
	if want := to - from; want < 1 || c.taken != want {
		return proxy.Piece{}, fmt.Errorf("spans %d to %d of a payload with %d: %w", from, to, c.span, errNotOTLP)
	}
	var sum Summary
	if err := Scan(out, 0, &sum); err != nil {
		return proxy.Piece{}, fmt.Errorf("%w: %w", errNotOTLP, err)
	}
	return proxy.Piece{Payload: out, Items: c.taken, Traces: sum.TraceIDs}, nil
}

// Split implements proxy.Divider. A piece repeats the resource and the scope of
// its spans, and copies everything else of theirs as it is. The work is the
// payload's size for each piece that has spans.
func (Divider) Split(payload []byte, n int, part func(proxy.TraceID) int) ([]proxy.Piece, error) {
	pieces := make([]proxy.Piece, n)
	of := make([]int, 0, 64) // piece by span
	sets := make([]idSet, n)
	var sum Summary
	sum.scan.each = func(id proxy.TraceID) {
		k := part(id)
		of = append(of, k)
		pieces[k].Items++
		sets[k].add(&pieces[k].Traces, id)
	}
	if err := Scan(payload, 0, &sum); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotOTLP, err)
	}
	for k := range pieces {
		switch pieces[k].Items {
		case 0:
			continue
		case len(of):
			pieces[k].Payload = payload
			continue
		}
		c := cutter{wants: func(span int) bool { return of[span] == k }}
		out, err := c.level(nil, payload, fieldResourceSpans, 0)
		if err != nil {
			return nil, err
		}
		if c.taken != pieces[k].Items {
			return nil, fmt.Errorf("%d spans of a trace, %d were found: %w", pieces[k].Items, c.taken, errNotOTLP)
		}
		pieces[k].Payload = out
	}
	return pieces, nil
}

// cutter copies some of the spans of a payload.
type cutter struct {
	wants func(span int) bool
	span  int // number of the next span
	taken int
}

// below is the field that leads further down from each level: request,
// resource spans, scope spans.
var below = [...]protowire.Number{fieldResourceSpans, fieldScopeSpans, fieldSpans}

// level copies one message to dst, descending into the field that leads to
// spans, and leaving out entries of it in which no span is taken.
func (c *cutter) level(dst, msg []byte, down protowire.Number, depth int) ([]byte, error) {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", errNotOTLP, protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(num, typ, msg[n:])
		if size < 0 {
			return nil, fmt.Errorf("%w: %w", errNotOTLP, protowire.ParseError(size))
		}
		field := msg[:n+size]
		value := msg[n : n+size]
		msg = msg[n+size:]
		if num != down || typ != protowire.BytesType {
			dst = append(dst, field...)
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		if depth == len(below)-1 {
			if c.take() {
				dst = append(dst, field...)
			}
			continue
		}
		before := c.taken
		part, err := c.level(nil, inner, below[depth+1], depth+1)
		if err != nil {
			return nil, err
		}
		if c.taken > before {
			dst = protowire.AppendTag(dst, num, protowire.BytesType)
			dst = protowire.AppendBytes(dst, part)
		}
	}
	return dst, nil
}

// take counts a span and decides whether it is wanted.
func (c *cutter) take() bool {
	in := c.wants(c.span)
	c.span++
	if in {
		c.taken++
	}
	return in
}
