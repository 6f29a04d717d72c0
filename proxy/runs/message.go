package runs

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Operations are kept as a message in the wire format of Protocol Buffers, so
// that two concatenated are one with the operations of both:
//
//	message Operations { repeated Operation operations = 1; }
//
//	message Operation {
//	  uint32 kind = 1;
//	  bytes id = 2;            // 16 bytes; absent: not known
//	  bytes trace = 3;         // 16 bytes; absent: not known
//	  bytes body = 4;
//	  bytes inputs = 5;        // JSON values; absent is not the same as empty
//	  bytes outputs = 6;
//	  bytes events = 7;
//	  bytes extra = 8;
//	  bytes error = 9;
//	  bytes serialized = 10;
//	  string name = 11;
//	  string content_type = 12;
//	  bytes data = 13;
//	  string blob = 14;
//	  uint64 blob_bytes = 15;
//	  string method = 16;
//	  string path = 17;
//	  bool no_project = 18;
//	}
//
// docs/format.md has the same for people. Fields are added, never reused; a
// reader passes over those it does not know.
const (
	numOperation protowire.Number = 1

	numKind        protowire.Number = 1
	numID          protowire.Number = 2
	numTrace       protowire.Number = 3
	numBody        protowire.Number = 4
	numFirstField  protowire.Number = 5
	numLastField                    = numFirstField + NumFields - 1
	numName        protowire.Number = 11
	numContentType protowire.Number = 12
	numData        protowire.Number = 13
	numBlob        protowire.Number = 14
	numBlobBytes   protowire.Number = 15
	numMethod      protowire.Number = 16
	numPath        protowire.Number = 17
	numNoProject   protowire.Number = 18
)

// errMalformed marks bytes that are no operations.
var errMalformed = errors.New("the stored operations are malformed")

// Append appends op in its stored form.
func Append(dst []byte, op *Op) []byte {
	dst = protowire.AppendTag(dst, numOperation, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(op.storedBytes()))
	dst = appendUint(dst, numKind, uint64(op.Kind))
	if !op.ID.IsZero() {
		dst = appendBytes(dst, numID, op.ID[:])
	}
	if !op.Trace.IsZero() {
		dst = appendBytes(dst, numTrace, op.Trace[:])
	}
	if op.Body != nil {
		dst = appendBytes(dst, numBody, op.Body)
	}
	for i, f := range op.Fields {
		if f != nil {
			dst = appendBytes(dst, numFirstField+protowire.Number(i), f)
		}
	}
	dst = appendText(dst, numName, op.Name)
	dst = appendText(dst, numContentType, op.ContentType)
	if op.Data != nil {
		dst = appendBytes(dst, numData, op.Data)
	}
	dst = appendText(dst, numBlob, op.Blob)
	dst = appendUint(dst, numBlobBytes, uint64(op.BlobBytes))
	dst = appendText(dst, numMethod, op.Method)
	dst = appendText(dst, numPath, op.Path)
	if op.NoProject {
		dst = appendUint(dst, numNoProject, 1)
	}
	return dst
}

func appendBytes(dst []byte, n protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, n, protowire.BytesType), b)
}

func appendText(dst []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, n, protowire.BytesType), s)
}

func appendUint(dst []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), v)
}

// storedBytes is the length of op's message without its own tag and length.
func (op *Op) storedBytes() int {
	bytesField := func(n protowire.Number, length int) int {
		return protowire.SizeTag(n) + protowire.SizeBytes(length)
	}
	text := func(n protowire.Number, s string) int {
		if s == "" {
			return 0
		}
		return bytesField(n, len(s))
	}
	number := func(n protowire.Number, v uint64) int {
		if v == 0 {
			return 0
		}
		return protowire.SizeTag(n) + protowire.SizeVarint(v)
	}
	size := number(numKind, uint64(op.Kind)) + number(numBlobBytes, uint64(op.BlobBytes)) +
		text(numName, op.Name) + text(numContentType, op.ContentType) + text(numBlob, op.Blob) +
		text(numMethod, op.Method) + text(numPath, op.Path)
	if !op.ID.IsZero() {
		size += bytesField(numID, len(op.ID))
	}
	if !op.Trace.IsZero() {
		size += bytesField(numTrace, len(op.Trace))
	}
	if op.Body != nil {
		size += bytesField(numBody, len(op.Body))
	}
	for i, f := range op.Fields {
		if f != nil {
			size += bytesField(numFirstField+protowire.Number(i), len(f))
		}
	}
	if op.Data != nil {
		size += bytesField(numData, len(op.Data))
	}
	if op.NoProject {
		size += number(numNoProject, 1)
	}
	return size
}

// Scan calls fn for each operation of a stored message, in order. The Op is
// fn's to keep; its slices refer to payload. It returns fn's first error, or
// that payload holds no operations.
func Scan(payload []byte, fn func(Op) error) error {
	return eachStored(payload, func(stored []byte) error {
		op, err := parse(stored)
		if err != nil {
			return err
		}
		return fn(op)
	})
}

// ScanStored is Scan that also yields the operation's stored form, for
// AppendStored: what this weir does not know of it goes along.
func ScanStored(payload []byte, fn func(op Op, stored []byte) error) error {
	return eachStored(payload, func(stored []byte) error {
		op, err := parse(stored)
		if err != nil {
			return err
		}
		return fn(op, stored)
	})
}

// AppendStored appends an operation in the form that ScanStored yields.
func AppendStored(dst, stored []byte) []byte { return appendBytes(dst, numOperation, stored) }

// eachStored calls fn with the stored form of each operation, without its tag
// and length.
func eachStored(payload []byte, fn func(stored []byte) error) error {
	for len(payload) > 0 {
		num, typ, n := protowire.ConsumeTag(payload)
		if n < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
		}
		payload = payload[n:]
		if num != numOperation || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, payload); n < 0 {
				return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
			}
			payload = payload[n:]
			continue
		}
		stored, n := protowire.ConsumeBytes(payload)
		if n < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
		}
		payload = payload[n:]
		if err := fn(stored); err != nil {
			return err
		}
	}
	return nil
}

// parse reads one operation.
func parse(b []byte) (Op, error) {
	var op Op
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return op, fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, vn := protowire.ConsumeVarint(b)
			n = vn
			op.setNumber(num, v)
		case protowire.BytesType:
			v, vn := protowire.ConsumeBytes(b)
			n = vn
			if vn >= 0 && !op.setBytes(num, slices.Clip(v)) {
				return op, fmt.Errorf("%w: an id of %d bytes", errMalformed, len(v))
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return op, fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
		}
		b = b[n:]
	}
	if op.Kind < Create || op.Kind > Call {
		return op, fmt.Errorf("%w: operation of kind %d", errMalformed, op.Kind)
	}
	return op, nil
}

func (op *Op) setNumber(num protowire.Number, v uint64) {
	switch num {
	case numKind:
		if v > uint64(Call) {
			v = 0 // of a later version: parse refuses it
		}
		op.Kind = Kind(v)
	case numBlobBytes:
		op.BlobBytes = int64(v)
	case numNoProject:
		op.NoProject = v != 0
	default: // of a later version
	}
}

func (op *Op) setBytes(num protowire.Number, v []byte) (ok bool) {
	switch {
	case num == numID:
		return copy(op.ID[:], v) == len(v) && len(v) == len(op.ID)
	case num == numTrace:
		return copy(op.Trace[:], v) == len(v) && len(v) == len(op.Trace)
	case num == numBody:
		op.Body = v
	case num >= numFirstField && num <= numLastField:
		op.Fields[num-numFirstField] = v
	case num == numName:
		op.Name = string(v)
	case num == numContentType:
		op.ContentType = string(v)
	case num == numData:
		op.Data = v
	case num == numBlob:
		op.Blob = string(v)
	case num == numMethod:
		op.Method = string(v)
	case num == numPath:
		op.Path = string(v)
	default: // of a later version
	}
	return true
}
