package upstream

import (
	"encoding/json"
	"net/url"
	"strings"

	"weir/proxy"
	"weir/proxy/diagnose"
)

const (
	// hidden stands for the part of a secret that is not shown.
	hidden = "…"

	// minRedactedKey is the shortest key that is searched for in texts. What
	// is shorter is a typing error, no secret, and would tear holes into
	// every message that happens to contain those letters.
	minRedactedKey = 4

	// minRedactedPrefix is the shortest beginning of a key that is hidden
	// where a text was cut off inside the key: one more than proxy.KeyHint shows.
	minRedactedPrefix = 6
)

// redactor removes one request's key, and whatever else looks like a key, from
// texts that other people wrote. The zero value only does the latter.
type redactor struct {
	key      string
	hint     string
	spelling []string // the key as it is and as URLs and JSON write it
}

// newRedactor returns the redactor for a request sent with key. Of a bearer
// key it is the token that is secret, with or without the scheme before it.
func newRedactor(key string) redactor {
	if t, ok := token(key); ok {
		key = t
	}
	r := redactor{key: key, hint: proxy.KeyHint(key)}
	if len(key) < minRedactedKey {
		return r
	}
	r.spelling = append(r.spelling, key)
	add := func(s string) {
		if s != key && s != "" {
			r.spelling = append(r.spelling, s)
		}
	}
	add(url.QueryEscape(key))
	add(url.PathEscape(key))
	if quoted, err := json.Marshal(key); err == nil {
		add(strings.Trim(string(quoted), `"`))
	}
	return r
}

// text returns s without the key: each occurrence becomes the key's hint.
// A beginning of the key at the end of s counts as an occurrence, because
// texts get cut.
func (r redactor) text(s string) string {
	if len(r.key) >= minRedactedKey {
		for _, spelling := range r.spelling {
			s = strings.ReplaceAll(s, spelling, r.hint)
		}
		for n := min(len(r.key)-1, len(s)); n >= minRedactedPrefix; n-- {
			if strings.HasSuffix(s, r.key[:n]) {
				s = s[:len(s)-n] + r.hint
				break
			}
		}
		if strings.Contains(s, r.key) {
			// Only a key made of its own hint gets here. Say nothing then.
			return hidden
		}
	}
	return diagnose.MaskKeys(s)
}

// clean returns s fit to be kept and shown: without the key, printable, and at
// most maxBytes long.
func (r redactor) clean(s string, maxBytes int) string {
	// Again after printable, whose replacements could in theory complete a key.
	return cut(r.text(printable(r.text(s), maxBytes)), maxBytes)
}

// printable returns s as text that is safe to keep as JSON and to show on a
// terminal: valid UTF-8 without control characters other than tab and line
// breaks, cut to at most maxBytes.
func printable(s string, maxBytes int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '\t', c == '\n', c == '\r':
			return c
		case c < 0x20, c >= 0x7f && c < 0xa0:
			return '\uFFFD'
		default:
			return c
		}
	}, s)
	return cut(s, maxBytes)
}

// cut shortens s to at most maxBytes without splitting a character.
func cut(s string, maxBytes int) string {
	if len(s) <= maxBytes {
		return s
	}
	for maxBytes > 0 && s[maxBytes]&0xc0 == 0x80 {
		maxBytes--
	}
	return s[:maxBytes]
}
