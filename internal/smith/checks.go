package smith

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

// Wording is which generation of the service words a refusal.
type Wording uint8

// The wordings.
const (
	// WordingCurrent is the Go service's {"error": ...}, since about 2025.
	WordingCurrent Wording = iota
	// WordingOld is the Python service's {"detail": ...}, which some endpoints
	// and self-hosted installations still say.
	WordingOld
)

var wordingNames = []string{"current", "old"}

// String returns the name that UnmarshalText takes.
func (w Wording) String() string { return enumName(wordingNames, w) }

// MarshalText implements encoding.TextMarshaler.
func (w Wording) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText takes current or old.
func (w *Wording) UnmarshalText(text []byte) error {
	return parseEnum("wording", wordingNames, text, w)
}

// RevokedKey is the answer to a key that was revoked.
type RevokedKey uint8

// The answers to a revoked key.
const (
	// Revoked403 says the same as of a key that never existed.
	Revoked403 RevokedKey = iota
	// Revoked401 says the same as without a key.
	Revoked401
)

var revokedNames = []string{"403", "401"}

// String returns the name that UnmarshalText takes.
func (r RevokedKey) String() string { return enumName(revokedNames, r) }

// MarshalText implements encoding.TextMarshaler.
func (r RevokedKey) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes 403 or 401.
func (r *RevokedKey) UnmarshalText(text []byte) error {
	return parseEnum("answer to a revoked key", revokedNames, text, r)
}

// Check is whether something in the data fails its whole request.
type Check uint8

// The possibilities of a check.
const (
	// CheckOff takes it.
	CheckOff Check = iota
	// Check400 refuses the whole request with 400.
	Check400
	// Check422 refuses the whole request with 422.
	Check422
)

var checkNames = []string{"off", "400", "422"}

// String returns the name that UnmarshalText takes.
func (c Check) String() string { return enumName(checkNames, c) }

// MarshalText implements encoding.TextMarshaler.
func (c Check) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes off, 400 or 422.
func (c *Check) UnmarshalText(text []byte) error { return parseEnum("check", checkNames, text, c) }

// status is the one that the check answers with.
func (c Check) status() int {
	if c == Check400 {
		return http.StatusBadRequest
	}
	return http.StatusUnprocessableEntity
}

// checkRunValues holds runs to the checks that the switches ask for. The 422s
// have been published, from the Python service (langchain 17950, langsmith-sdk
// 637); the words about NUL bytes are our guess, as nobody has seen them.
func checkRunValues(ops []op, sw *Switches) error {
	if !sw.checksValues() {
		return nil
	}
	for i := range ops {
		o := &ops[i]
		if o.kind > OpPatch {
			continue
		}
		if name := o.object.Text("name"); sw.NameMax > 0 && utf8.RuneCountInString(name) > sw.NameMax {
			text := fmt.Sprintf("['%s', 'items', 'properties', 'name', 'maxLength']: %s is longer than %d characters",
				o.kind, pythonQuoted(name), sw.NameMax)
			return &pythonError{http.StatusUnprocessableEntity, text}
		}
		for _, m := range o.object {
			if sw.BigIntegers != CheckOff && hasBigInteger(m.Value) {
				return &pythonError{sw.BigIntegers.status(), "int too big to convert"}
			}
			if sw.NULBytes != CheckOff && hasNUL(m.Value) {
				return &refusal{sw.NULBytes.status(), fmt.Sprintf("run %s: %s has a NUL character", o.id, m.Name)}
			}
		}
	}
	return nil
}

// checksValues reports whether any run has to be looked into.
func (sw *Switches) checksValues() bool {
	return sw.NameMax > 0 || sw.BigIntegers != CheckOff || sw.NULBytes != CheckOff
}

// pythonQuoted is a string as Python's repr shows it.
func pythonQuoted(s string) string {
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `\'`) + "'"
}

// hasBigInteger reports whether a valid JSON value holds an integer that fits
// into no 64 bits, signed or not.
func hasBigInteger(raw json.RawMessage) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		n, ok := t.(json.Number)
		if !ok || strings.ContainsAny(string(n), ".eE") {
			continue
		}
		if v, ok := new(big.Int).SetString(string(n), 10); ok && !v.IsInt64() && !v.IsUint64() {
			return true
		}
	}
}

// hasNUL reports whether a string or a name in a valid JSON value has a NUL.
func hasNUL(raw json.RawMessage) bool {
	if !bytes.Contains(raw, []byte(`\u0000`)) {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	for {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		if s, ok := t.(string); ok && strings.Contains(s, "\x00") {
			return true
		}
	}
}

// checkSpanNULs refuses the first span with a NUL in its name or attributes.
func checkSpanNULs(resources []*tracepb.ResourceSpans, c Check) error {
	for _, r := range resources {
		for _, scope := range r.GetScopeSpans() {
			for _, sp := range scope.GetSpans() {
				if strings.Contains(sp.GetName(), "\x00") || attributesHaveNUL(sp.GetAttributes()) {
					return &refusal{c.status(), fmt.Sprintf("span %x has a NUL character", sp.GetSpanId())}
				}
			}
		}
	}
	return nil
}

func attributesHaveNUL(list []*commonpb.KeyValue) bool {
	for _, kv := range list {
		if strings.Contains(kv.GetKey(), "\x00") || valueHasNUL(kv.GetValue()) {
			return true
		}
	}
	return false
}

func valueHasNUL(v *commonpb.AnyValue) bool {
	return strings.Contains(v.GetStringValue(), "\x00") || attributesHaveNUL(v.GetKvlistValue().GetValues()) ||
		slices.ContainsFunc(v.GetArrayValue().GetValues(), valueHasNUL)
}
