package callerheaders

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"weir/proxy"
)

// TokenHeader is a header for the ingest token alone. It may also come where
// senders put a key: as x-api-key, which is all that LangSmith's SDKs can send,
// or as "Authorization: Bearer TOKEN".
const TokenHeader = "x-weir-token"

// TokenPrefix begins tokens that cannot be taken for a key of LangSmith's: one
// that is wrong, or out of date, is refused instead of being sent on.
const TokenPrefix = "weir_"

// Challenge is the WWW-Authenticate header of a refusal over HTTP.
const Challenge = `Bearer realm="weir"`

// The stable words of TokenError.Reason, for metrics.
const (
	// ReasonTokenMissing: neither a key nor a token came.
	ReasonTokenMissing = "token_missing"
	// ReasonTokenWrong: a token came, and it is another.
	ReasonTokenWrong = "token_wrong"
)

// TokenError refuses a request that would use weir's own key without having
// shown that it may.
type TokenError struct {
	Reason string // one of the Reason constants
}

// Error implements error. It is for the caller and holds no secret.
func (e *TokenError) Error() string {
	if e.Reason == ReasonTokenWrong {
		return "the ingest token sent is not this weir's; is it the one of its ingest_token_file, without quotes?"
	}
	return "the request has no LangSmith key of its own, and to send under weir's it needs weir's ingest token: " +
		"as x-api-key (LANGSMITH_API_KEY), as Authorization: Bearer TOKEN or as " + TokenHeader + " (OTEL_EXPORTER_OTLP_HEADERS)"
}

// Door says who may use weir's own key at a listener: whoever gets through to
// it, or who has the ingest token. A caller with a LangSmith key of its own
// needs no token. The token is for weir: no Caller ever holds it.
//
// A nil Door lets everybody in. Methods may be called from any number of
// goroutines.
type Door struct {
	token *atomic.Pointer[[sha256.Size]byte] // nil in it: there is none
	asks  bool
}

// NewDoor returns a door that asks for token, or nobody if it is empty.
func NewDoor(token string) *Door {
	d := &Door{token: new(atomic.Pointer[[sha256.Size]byte]), asks: true}
	d.SetToken(token)
	return d
}

// Trusting returns the same door for a listener whose callers are known to be
// let in: it asks nobody, and takes the token out of requests all the same.
func (d *Door) Trusting() *Door { return &Door{token: d.token} }

// SetToken has the door, and those made from it, ask for another token from now
// on, or for none if it is empty.
func (d *Door) SetToken(token string) {
	if token == "" {
		d.token.Store(nil)
		return
	}
	// Digests have one length whatever the caller sends, so that the time of
	// a comparison says nothing about the token.
	d.token.Store(new(sha256.Sum256([]byte(token))))
}

// Read is the package's Read for callers at this door. A *TokenError says that
// they may not in.
func (d *Door) Read(get func(name string) string) (proxy.Caller, error) {
	if d.digest() == nil && !mayHoldToken(get) {
		return Read(get)
	}
	var seen tokens
	caller, err := Read(func(name string) string {
		value := get(name)
		if isCredential(name) && d.isToken(&seen, name, value) {
			return ""
		}
		return value
	})
	if err != nil || caller.APIKey != "" {
		return caller, err
	}
	d.isToken(&seen, TokenHeader, get(TokenHeader))
	// Read has not looked at it where x-api-key holds a key.
	d.isToken(&seen, headerAuthorization, get(headerAuthorization))
	return caller, d.admit(seen)
}

// Strip takes the token out of the header of a request that is passed on. It
// reports whether weir's own key may be lent to it. A *TokenError says that all
// it has is a token that is not this weir's.
func (d *Door) Strip(header http.Header) (mayBorrow bool, err error) {
	var seen tokens
	others := false
	for _, name := range []string{headerAPIKey, headerAuthorization, headerServiceKey} {
		values := header.Values(name)
		kept := slices.DeleteFunc(slices.Clone(values), func(value string) bool { return d.isToken(&seen, name, value) })
		others = others || len(kept) > 0
		switch {
		case len(kept) == len(values):
		case len(kept) == 0:
			header.Del(name)
		default:
			header[http.CanonicalHeaderKey(name)] = kept
		}
	}
	for _, value := range header.Values(TokenHeader) {
		d.isToken(&seen, TokenHeader, value)
	}
	header.Del(TokenHeader)
	err = d.admit(seen)
	if seen.wrong && !others {
		return err == nil, err
	}
	return err == nil, nil
}

// tokens is what was seen among a request's headers.
type tokens struct {
	right bool // a token that is this weir's
	wrong bool // one that is another
}

// admit lets in who may use weir's own key.
func (d *Door) admit(seen tokens) error {
	switch {
	case d == nil || !d.asks || d.digest() == nil || seen.right:
		return nil
	case seen.wrong:
		return &TokenError{Reason: ReasonTokenWrong}
	default:
		return &TokenError{Reason: ReasonTokenMissing}
	}
}

// digest is that of the token, nil if there is none.
func (d *Door) digest() *[sha256.Size]byte {
	if d == nil {
		return nil
	}
	return d.token.Load()
}

// isToken tells whether the value of a header is a token and not a key, and
// notes whether it is the right one.
func (d *Door) isToken(seen *tokens, name, value string) bool {
	value = tokenText(name, value)
	if value == "" {
		return false
	}
	if want := d.digest(); want != nil {
		got := sha256.Sum256([]byte(value))
		if subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
			seen.right = true
			return true
		}
	}
	if name == TokenHeader || strings.HasPrefix(value, TokenPrefix) {
		seen.wrong = true
		return true
	}
	return false
}

// tokenText is what a header's value would be as a token: in Authorization with
// or without a scheme, for people forget it.
func tokenText(name, value string) string {
	value = strings.TrimSpace(value)
	if name == headerAuthorization {
		if _, rest, ok := strings.Cut(value, " "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return value
}

// mayHoldToken tells whether a header holds what looks like a token.
func mayHoldToken(get func(name string) string) bool {
	return strings.HasPrefix(tokenText(headerAPIKey, get(headerAPIKey)), TokenPrefix) ||
		strings.HasPrefix(tokenText(headerAuthorization, get(headerAuthorization)), TokenPrefix)
}

// isCredential tells whether Read takes a caller's key from a header.
func isCredential(name string) bool { return name == headerAPIKey || name == headerAuthorization }
