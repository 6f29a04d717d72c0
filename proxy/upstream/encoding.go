package upstream

import (
	"fmt"
	"strings"
)

// Encoding is a request content encoding, or the choice of one.
type Encoding string

// The encodings weir can be told to send OTLP requests in.
const (
	// EncodingAuto lets weir choose: gzip, which every documented client of
	// the endpoint uses (LangSmith docs: trace-with-opentelemetry), until a
	// trace sent in zstd was read back (see Client.Prove). Whether LangSmith Cloud takes zstd on its OTLP
	// endpoint has not been verified, and a 200 would not prove it, for the
	// endpoint answers before it looks.
	EncodingAuto Encoding = "auto"
	// EncodingZstd sends stored frames as they are.
	EncodingZstd Encoding = "zstd"
	// EncodingGzip sends one gzip member a request.
	EncodingGzip Encoding = "gzip"
	// EncodingIdentity sends plain protobuf without a Content-Encoding.
	EncodingIdentity Encoding = "identity"
)

// fallbacks lists the real encodings from the one that costs weir least to the
// one every server takes. A refused encoding gives way to the next.
var fallbacks = []Encoding{EncodingZstd, EncodingGzip, EncodingIdentity}

// ParseEncoding reads the name of an encoding, in any letter case; the empty
// string means auto.
func ParseEncoding(s string) (Encoding, error) {
	switch e := Encoding(strings.ToLower(strings.TrimSpace(s))); e {
	case "":
		return EncodingAuto, nil
	case EncodingAuto, EncodingZstd, EncodingGzip, EncodingIdentity:
		return e, nil
	default:
		return "", fmt.Errorf("OTLP encoding %q is unknown; use auto, zstd, gzip or identity", shorten(s))
	}
}

// header returns the Content-Encoding header's value, empty for none.
func (e Encoding) header() string {
	if e == EncodingIdentity {
		return ""
	}
	return string(e)
}
