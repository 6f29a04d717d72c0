package proxy

import "weir/proxy/diagnose"

// KeyHint returns what may be shown of an API key: its first five and last two
// characters ("lsv2_…ab"), enough to tell two keys apart and too little to use.
// Keys too short for that are hidden whole ("…"); no key gives the empty string.
func KeyHint(key string) string { return diagnose.Hint(key) }
