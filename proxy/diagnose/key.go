package diagnose

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// KeyKind is the kind of an API key, as its first characters tell it.
type KeyKind string

// The kinds of keys.
const (
	KeyNone     KeyKind = "none"     // there is no key
	KeyPersonal KeyKind = "personal" // lsv2_pt_: a person's token
	KeyService  KeyKind = "service"  // lsv2_sk_: the only kind that can span an organisation
	KeyV1       KeyKind = "legacy"   // ls__: refused since 22 October 2024 (LangSmith docs: administration-overview)
	KeyUnknown  KeyKind = "unknown"
)

const (
	personalPrefix = "lsv2_pt_"
	servicePrefix  = "lsv2_sk_"
	legacyPrefix   = "ls__"

	// shortKey is the length below which a key of today's form looks cut off:
	// those seen in public are 51 characters long. No document says so.
	shortKey = 40

	// hintedKey is the shortest key of which some characters are shown: of a
	// shorter one the seven that Hint shows would be most of it.
	hintedKey = 16

	// hintHead and hintTail are how many characters of a key may be shown.
	hintHead, hintTail = 5, 2
)

// Flaw is something wrong with what a person wrote: a key, an endpoint, a
// workspace id. It repeats no more of a key than Hint does, and nothing of a
// URL's user information, query or fragment.
type Flaw struct {
	Code Code
	// Sure says that it cannot work like this; otherwise it is unusual, and
	// only LangSmith's answer tells.
	Sure bool
	// Says is what is wrong, without its subject: "has quotes around it".
	Says string
	// Remedy is what to do, as a sentence, which ends in a full stop unless it
	// ends in a URL.
	Remedy string
}

// Key is the shape of an API key: what can be told of it without showing or
// using it. The zero value stands for no key that is known of.
type Key struct {
	Kind KeyKind
	// Length is in characters.
	Length int
	// Hint is what may be shown, see Hint.
	Hint string
	// Flaws are in the order of their weight.
	Flaws []Flaw
}

// ShapeOf looks at a key as it was written or sent, unchanged. It never fails
// and keeps nothing of the key beyond Hint.
func ShapeOf(key string) Key {
	k := Key{Kind: kindOf(key), Length: utf8.RuneCountInString(key), Hint: Hint(key)}
	if key == "" {
		return k
	}
	for _, rule := range keyRules {
		if rule.matches(key) {
			k.Flaws = append(k.Flaws, rule.flaw)
			if rule.last {
				break
			}
		}
	}
	return k
}

// Sure reports whether the key has a flaw with which it cannot work.
func (k Key) Sure() bool {
	for _, f := range k.Flaws {
		if f.Sure {
			return true
		}
	}
	return false
}

// String describes the key for a person: its hint, kind and length.
func (k Key) String() string {
	switch k.Kind {
	case KeyNone, "":
		return "no key"
	case KeyUnknown:
		return fmt.Sprintf("%s, of unknown kind, %d characters", k.Hint, k.Length)
	default:
		return fmt.Sprintf("%s, %s key, %d characters", k.Hint, k.Kind, k.Length)
	}
}

// Hint returns what may be shown of an API key: its first five and last two
// characters ("lsv2_…ab"), enough to tell two keys apart and too little to use.
// Keys too short for that are hidden whole ("…"); no key gives the empty string.
// What cannot be printed is shown as "?".
func Hint(key string) string {
	if key == "" {
		return ""
	}
	runes := []rune(key)
	if len(runes) < hintedKey {
		return "…"
	}
	shown := string(runes[:hintHead]) + "…" + string(runes[len(runes)-hintTail:])
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, shown)
}

func kindOf(key string) KeyKind {
	bare := bareKey(key)
	switch {
	case bare == "":
		return KeyNone
	case strings.HasPrefix(bare, personalPrefix):
		return KeyPersonal
	case strings.HasPrefix(bare, servicePrefix):
		return KeyService
	case strings.HasPrefix(bare, legacyPrefix):
		return KeyV1
	default:
		return KeyUnknown
	}
}

// bareKey is a key without what people leave around it.
func bareKey(key string) string {
	key = strings.Trim(key, " \t\r\n\"'`")
	if hasBearer(key) {
		key = strings.TrimSpace(key[len(bearer):])
	}
	return key
}

const bearer = "bearer "

func hasBearer(key string) bool {
	return len(key) >= len(bearer) && strings.EqualFold(key[:len(bearer)], bearer)
}

// keyRule tells one flaw.
type keyRule struct {
	matches func(key string) bool
	// last says that the rules below have nothing to add.
	last bool
	flaw Flaw
}

const makeKey = "Make a key at Settings > API Keys and set LANGSMITH_API_KEY to it."

// keyRules are in the order of weight. They come from keys that people reported
// to have sent (langsmith-sdk issues 637, 721 and 1201, and others).
var keyRules = []keyRule{
	{func(k string) bool { return strings.TrimSpace(k) == "" }, true, Flaw{
		KeyMissing, true, "is blank", makeKey,
	}},
	{isPlaceholder, true, Flaw{
		KeyPlaceholder, true, "is a placeholder or a piece of code, not a key", makeKey,
	}},
	{func(k string) bool { return strings.ContainsAny(k, "\r\n") }, false, Flaw{
		KeyMalformed, true, "has a line break in it", "Write the key on one line, with nothing after it.",
	}},
	{func(k string) bool { return strings.ContainsAny(k, "\"'`") }, false, Flaw{
		KeyMalformed, true, "has quotes in it", "Write the key without quotes.",
	}},
	{func(k string) bool { return hasBearer(strings.Trim(k, " \t\r\n\"'`")) }, false, Flaw{
		KeyInWrongHeader, true, `begins with "Bearer "`, `Write the key alone, without "Bearer ".`,
	}},
	{hasBlanks, false, Flaw{
		KeyMalformed, true, "has blanks in it", "Write the key without blanks.",
	}},
	{notASCII, false, Flaw{
		KeyMalformed, true, "has a character that is in no key (outside ASCII, or not printable)",
		"Copy the key again, as plain text.",
	}},
	{func(k string) bool { return kindOf(k) == KeyV1 }, true, Flaw{
		KeyLegacy, true, "is a key of the old form ls__, which LangSmith no longer takes",
		"Make a new key (lsv2_pt_ or lsv2_sk_) at Settings > API Keys and set LANGSMITH_API_KEY to it.",
	}},
	{lostHead, true, Flaw{
		KeyMalformed, true, "its first characters are missing: keys begin with lsv2_pt_ or lsv2_sk_",
		"Copy the key again, from its first character.",
	}},
	{isForeign, true, Flaw{
		KeyMalformed, true, "looks like a key of another service",
		"Set LANGSMITH_API_KEY to a key of LangSmith; those begin with lsv2_pt_ or lsv2_sk_.",
	}},
	{isPrefixOnly, true, Flaw{
		KeyMalformed, true, "is cut off: only the beginning of a key is there", "Copy the key again, to its last character.",
	}},
	{func(k string) bool { return strings.HasPrefix(bareKey(k), "lsv2_") && len(bareKey(k)) < shortKey }, true, Flaw{
		KeyMalformed, false, "is shorter than LangSmith's keys are, and may be cut off", "Copy the key again, to its last character.",
	}},
	{func(k string) bool { return !strings.HasPrefix(bareKey(k), "lsv2_") }, true, Flaw{
		KeyMalformed, false, "does not look like a key of LangSmith: those begin with lsv2_pt_ or lsv2_sk_", makeKey,
	}},
}

// placeholders are pieces of texts that stand where a key should be. None can
// be in a key of today's form, whose characters are hexadecimal digits.
var placeholders = []string{
	"<", ">", "your", "xxxx", "key-here", "key_here", "userdata.get(", "os.getenv", "os.environ", "process.env", "${", "$(",
	"changeme", "change-me", "change_me", "replace", "placeholder", "...", "…", "****",
}

// isPlaceholder also takes a variable's name as one.
func isPlaceholder(key string) bool {
	low := strings.ToLower(key)
	for _, p := range placeholders {
		if strings.Contains(low, p) {
			return true
		}
	}
	bare := strings.TrimPrefix(bareKey(low), "$")
	return bare == "langsmith_api_key" || bare == "langchain_api_key"
}

func hasBlanks(key string) bool {
	if bare := strings.TrimLeft(key, " \t"); hasBearer(bare) {
		key = bare[len(bearer):]
	}
	return strings.ContainsAny(key, " \t") || strings.ContainsRune(key, '\u00a0')
}

func notASCII(key string) bool {
	return strings.ContainsFunc(key, func(r rune) bool {
		return r > '~' || r < ' ' && r != '\t' && r != '\r' && r != '\n'
	})
}

// lostHead reports whether characters are missing before a known form: the
// text begins with the rest of a prefix. A mere sk_ is another service's.
func lostHead(key string) bool {
	bare := bareKey(key)
	for _, prefix := range []string{personalPrefix, servicePrefix} {
		for cut := 1; cut <= len("lsv2"); cut++ {
			if strings.HasPrefix(bare, prefix[cut:]) {
				return true
			}
		}
	}
	return strings.HasPrefix(bare, "pt_")
}

// isPrefixOnly reports whether a key has no more than the prefix, or not even
// that.
func isPrefixOnly(key string) bool {
	bare := bareKey(key)
	return len(bare) >= len("ls") && (strings.HasPrefix(personalPrefix, bare) || strings.HasPrefix(servicePrefix, bare))
}

// foreignPrefixes begin the keys of services that people use beside LangSmith,
// as their documentation shows them.
var foreignPrefixes = []string{
	"sk-", "pk-", "sk_", "pk_", // OpenAI, Anthropic, OpenRouter, Langfuse, payment services
	"gsk_", "hf_", "xai-", "AIza", "tvly-", "pplx-", "nvapi-", "r8_",
	"ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA",
}

func isForeign(key string) bool {
	bare := bareKey(key)
	for _, prefix := range foreignPrefixes {
		if strings.HasPrefix(bare, prefix) {
			return true
		}
	}
	return false
}
