package proxy

const (
	// minHintedKey is the shortest key of which some characters are shown:
	// of a shorter one the seven that KeyHint shows would be most of it.
	minHintedKey = 16

	// keyHead and keyTail are how many characters of a key may be shown.
	keyHead, keyTail = 5, 2
)

// KeyHint returns what may be shown of an API key: its first five and last two
// characters ("lsv2_…ab"), enough to tell two keys apart and too little to use.
// Keys too short for that are hidden whole ("…"); no key gives the empty string.
func KeyHint(key string) string {
	if key == "" {
		return ""
	}
	runes := []rune(key)
	if len(runes) < minHintedKey {
		return "…"
	}
	return string(runes[:keyHead]) + "…" + string(runes[len(runes)-keyTail:])
}
