package main

import (
	"log/slog"

	"weir/proxy"
)

// secret is a key or token. However it is printed, logged or marshalled, it
// shows no more than enough to recognise it; reveal gives the text itself.
type secret string

// reveal returns the secret's text, to be sent and never to be shown.
func (s secret) reveal() string { return string(s) }

// String returns the secret's first five and last two characters, or only
// dots where that would give away too much of it.
func (s secret) String() string { return proxy.KeyHint(string(s)) }

// GoString implements fmt.GoStringer, for %#v.
func (s secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, for JSON and the like.
func (s secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
