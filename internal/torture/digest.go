package torture

import (
	"errors"
	"fmt"
	"hash/maphash"

	"google.golang.org/protobuf/encoding/protowire"

	"weir/internal/smith"
)

// Field numbers of opentelemetry.proto.collector.trace.v1 and trace.v1.
const (
	fieldResourceSpans = 1 // ExportTraceServiceRequest
	fieldResource      = 1 // ResourceSpans
	fieldScopeSpans    = 2
	fieldScope         = 1 // ScopeSpans
	fieldSpans         = 2
	fieldTraceID       = 1 // Span
	fieldSpanID        = 2
)

// digest is a span's identity and a hash of everything that belongs to it:
// its own bytes, and those of the resource and scope around it.
type digest struct {
	id  smith.SpanID
	sum uint64
}

// digestSeed is that of one process: digests are compared, never stored.
var digestSeed = maphash.MakeSeed()

// digests lists the spans of a serialized OTLP export in their order. It looks
// at the bytes as they stand, so that a re-encoding on the way is noticed.
func digests(payload []byte) ([]digest, error) {
	var out []digest
	err := fields(payload, func(num protowire.Number, group []byte) error {
		if num != fieldResourceSpans {
			return nil
		}
		around, scopes, err := split(group, fieldScopeSpans)
		if err != nil {
			return err
		}
		for _, scope := range scopes {
			inner, spans, err := split(scope, fieldSpans)
			if err != nil {
				return err
			}
			for _, span := range spans {
				d, err := digestSpan(span, around, inner)
				if err != nil {
					return err
				}
				out = append(out, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("digest an OTLP export: %w", err)
	}
	return out, nil
}

// digestSpan hashes a span with what surrounds it.
func digestSpan(span, resource, scope []byte) (digest, error) {
	var d digest
	err := fields(span, func(num protowire.Number, v []byte) error {
		switch num {
		case fieldTraceID:
			copy(d.id.Trace[:], v)
		case fieldSpanID:
			copy(d.id.Span[:], v)
		}
		return nil
	})
	var h maphash.Hash
	h.SetSeed(digestSeed)
	for _, part := range [][]byte{resource, scope, span} {
		var size [8]byte
		for i := range size {
			size[i] = byte(len(part) >> (8 * i))
		}
		_, _ = h.Write(size[:]) // never fails
		_, _ = h.Write(part)
	}
	d.sum = h.Sum64()
	return d, err
}

// split parts a message into the repeated field num and all the rest.
func split(msg []byte, num protowire.Number) (rest []byte, values [][]byte, err error) {
	for len(msg) > 0 {
		n, typ, tagLen := protowire.ConsumeTag(msg)
		if tagLen < 0 {
			return nil, nil, protowire.ParseError(tagLen)
		}
		valueLen := protowire.ConsumeFieldValue(n, typ, msg[tagLen:])
		if valueLen < 0 {
			return nil, nil, protowire.ParseError(valueLen)
		}
		if n == num && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(msg[tagLen:])
			values = append(values, v)
		} else {
			rest = append(rest, msg[:tagLen+valueLen]...)
		}
		msg = msg[tagLen+valueLen:]
	}
	return rest, values, nil
}

// errWire is a field of a type that OTLP does not use there.
var errWire = errors.New("unexpected wire type")

// fields visits the length-delimited fields of a message.
func fields(msg []byte, visit func(protowire.Number, []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return protowire.ParseError(n)
		}
		msg = msg[n:]
		if n = protowire.ConsumeFieldValue(num, typ, msg); n < 0 {
			return protowire.ParseError(n)
		}
		if typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(msg)
			if err := visit(num, v); err != nil {
				return err
			}
		} else if typ == protowire.StartGroupType {
			return fmt.Errorf("field %d: %w", num, errWire)
		}
		msg = msg[n:]
	}
	return nil
}
