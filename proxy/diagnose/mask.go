package diagnose

import (
	"regexp"
	"strings"
	"unicode"
)

// maxShownBytes is how much of what a person wrote a message repeats.
const maxShownBytes = 200

// anyKey matches whatever has the shape of a LangSmith key (LangSmith docs:
// create-account-api-key; ls__ is the form retired in 2024).
var anyKey = regexp.MustCompile(`(lsv2_(?:pt|sk)_|ls__)[0-9A-Za-z_]{6,}`)

// MaskKeys hides whatever in a text has the shape of a LangSmith key, whosever
// it is: only its prefix stays.
func MaskKeys(text string) string { return anyKey.ReplaceAllString(text, "${1}…") }

// shown is a piece of what a person wrote, fit for a message: without keys, on
// one line, bounded.
func shown(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, MaskKeys(text))
	if len(text) > maxShownBytes {
		text = strings.ToValidUTF8(text[:maxShownBytes], "") + "…"
	}
	return text
}
