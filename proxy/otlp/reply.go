package otlp

import (
	"context"
	"net/http"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"weir/internal/callerheaders"
	"weir/proxy"
)

// reply acknowledges an export, in the encoding of the request (OTLP
// specification, OTLP/HTTP Response).
func (p *post) reply(receipt proxy.Receipt) {
	switch {
	case receipt.Warning != "":
		p.write(http.StatusOK, warned(receipt.Warning))
	case p.json:
		p.writeBytes(http.StatusOK, []byte("{}"))
	default:
		p.writeBytes(http.StatusOK, nil) // a message without fields
	}
}

// refuse answers with a google.rpc.Status, in the encoding of the request.
func (p *post) refuse(ctx context.Context, err error) {
	r := p.h.turnAway(ctx, p.origin, err)
	if after := r.retryAfterSeconds(); after != "" {
		p.w.Header().Set("Retry-After", after)
	}
	if r.token {
		p.w.Header().Set("WWW-Authenticate", callerheaders.Challenge)
	}
	p.write(r.http, r.proto())
}

func (p *post) write(code int, m proto.Message) {
	marshal := proto.Marshal
	if p.json {
		marshal = protojson.Marshal
	}
	body, err := marshal(m)
	if err != nil {
		// The code says the essential, and the texts were made valid UTF-8,
		// which is all that can fail.
		body = nil
	}
	p.writeBytes(code, body)
}

func (p *post) writeBytes(code int, body []byte) {
	header := p.w.Header()
	header.Set("Content-Type", mediaProtobuf)
	if p.json {
		header.Set("Content-Type", mediaJSON)
	}
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	p.w.WriteHeader(code)
	_, _ = p.w.Write(body) // a sender that has gone will ask again
}
