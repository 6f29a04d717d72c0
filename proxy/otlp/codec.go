package otlp

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// rawMessage is a request that stays the bytes it came as.
type rawMessage struct {
	// buf holds the message in one piece, and a reference to it that free
	// gives back.
	buf mem.Buffer
}

func (m *rawMessage) bytes() []byte {
	if m.buf == nil {
		return nil
	}
	return m.buf.ReadOnlyData()
}

func (m *rawMessage) free() {
	if m.buf != nil {
		m.buf.Free()
		m.buf = nil
	}
}

// rawReply is a response that is serialized already.
type rawReply struct{ bytes []byte }

// codec passes rawMessage and rawReply through and leaves every other type to
// protobuf, so that health, reflection and other services can share a server.
// grpc-go takes its name for the content type, which is why it says proto.
type codec struct{ proto encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Name implements encoding.CodecV2.
func (codec) Name() string { return proto.Name }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	reply, ok := v.(*rawReply)
	if !ok {
		return c.proto.Marshal(v)
	}
	if len(reply.bytes) == 0 {
		return nil, nil
	}
	return mem.BufferSlice{mem.SliceBuffer(reply.bytes)}, nil
}

// Unmarshal implements encoding.CodecV2. A message that came in one piece is
// kept by reference; a longer one, which comes in about one piece per 16 KiB,
// is copied once into a buffer of grpc-go's pool.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*rawMessage)
	if !ok {
		return c.proto.Unmarshal(data, v)
	}
	m.free()
	m.buf = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}
