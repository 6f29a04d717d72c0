package otlp

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	tracecollector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var _ interface{ JSON([]byte) ([]byte, error) } = Divider{}

// JSON implements proxy.Renderer: the payload as OTLP's JSON, ids in hexadecimal
// (OTLP specification: JSON protobuf encoding). Fields that this weir does not
// know are left out.
func (Divider) JSON(payload []byte) ([]byte, error) {
	var m tracecollector.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotOTLP, err)
	}
	raw, err := protojson.Marshal(&m)
	if err != nil {
		return nil, fmt.Errorf("show spans as JSON: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("show spans as JSON: %w", err)
	}
	idsAsHex(v)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("show spans as JSON: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// idsAsHex turns the ids of spans and links, which protojson has in base64, into
// hexadecimal digits.
func idsAsHex(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			idsAsHex(item)
		}
	case map[string]any:
		for name, item := range v {
			text, isText := item.(string)
			if !isText || name != "traceId" && name != "spanId" && name != "parentSpanId" {
				idsAsHex(item)
				continue
			}
			if id, err := base64.StdEncoding.DecodeString(text); err == nil {
				v[name] = hex.EncodeToString(id)
			}
		}
	}
}
