package native

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What a decoded message takes beside its bytes, rounded up: two bytes on the
// wire can be an element of a list, a Struct is a map, and a run or a feedback
// has room for all its fields.
const (
	messageBytes = 128
	largeBytes   = 512
	fieldBytes   = 32
)

// maxNestingLevels bounds messages within messages; protobuf's own bound is
// 10,000.
const maxNestingLevels = 1000

var errTooHeavy = errors.New("it takes too much memory")

// weigh estimates what a message takes in memory once it is decoded, without
// decoding it. It stops with errTooHeavy beyond limit.
func weigh(message []byte, d protoreflect.MessageDescriptor, limit int64) (int64, error) {
	w := scale{limit: limit}
	err := w.message(message, d, 0)
	return w.total, err
}

type scale struct{ total, limit int64 }

func (w *scale) add(n int64) error {
	if w.total += n; w.total > w.limit {
		return errTooHeavy
	}
	return nil
}

func (w *scale) message(b []byte, d protoreflect.MessageDescriptor, level int) error {
	if level > maxNestingLevels {
		return fmt.Errorf("messages are nested more than %d levels deep", maxNestingLevels)
	}
	own := int64(messageBytes)
	switch d.FullName() {
	case "google.protobuf.Struct", "weir.v1.Run", "weir.v1.Feedback":
		own = largeBytes
	}
	if err := w.add(own); err != nil {
		return err
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		field := d.Fields().ByNumber(num)
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return protowire.ParseError(n)
		}
		if field != nil && field.Kind() == protoreflect.MessageKind && typ == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(b) // it was well formed just now
			if err := w.message(inner, field.Message(), level+1); err != nil {
				return err
			}
		} else if err := w.add(fieldBytes + int64(n)); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
