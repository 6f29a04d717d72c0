package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"weir/internal/hostguard"
	"weir/proxy/upstream"
)

// value is one setting's place in a settings struct together with its grammar.
// It is what the flag, the environment variable and the YAML field share.
type value interface {
	// parse replaces the value. Its error says only what is wrong with text,
	// as expect says what would be right, unless it is a helpfulError.
	parse(text string) error
	// String returns the value in a form parse takes back.
	String() string
	// expect names what parse takes, as the object of "give ...".
	expect() string
	// shape says which kinds of YAML node may hold the value.
	shape() yamlShape
}

// yamlShape is a set of the kinds of YAML node that may hold a value.
type yamlShape uint8

const (
	shapeText yamlShape = 1 << iota
	shapeInt
	shapeFloat // with or without a fraction
	shapeBool
	shapeList
	shapeMap
)

// textValue is free text that ends up in an HTTP header or a path.
type textValue struct {
	to *string
	// what is the noun for messages: "a project name".
	what string
}

func (v textValue) String() string   { return *v.to }
func (v textValue) expect() string   { return v.what }
func (v textValue) shape() yamlShape { return shapeText }

func (v textValue) parse(text string) error {
	if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
		return fmt.Errorf("%s holds a control character", quoted(text))
	}
	*v.to = strings.TrimSpace(text)
	return nil
}

// pathValue is the path of a file or directory. The loader makes it absolute.
type pathValue struct {
	textValue
}

// secretValue is a key or token. Its text appears in no message.
type secretValue struct {
	to   *secret
	what string
}

func (v secretValue) String() string   { return v.to.String() }
func (v secretValue) expect() string   { return v.what }
func (v secretValue) shape() yamlShape { return 0 }

func (v secretValue) parse(text string) error {
	text = strings.Trim(strings.TrimSpace(text), `"'`)
	for _, r := range text {
		if r <= ' ' || r > '~' {
			return errors.New("it holds a space, a line break or a character outside ASCII (the value is not shown)")
		}
	}
	*v.to = secret(text)
	return nil
}

// boolValue is a switch.
type boolValue struct{ to *bool }

func (v boolValue) String() string   { return strconv.FormatBool(*v.to) }
func (v boolValue) expect() string   { return "true or false" }
func (v boolValue) shape() yamlShape { return shapeBool }

func (v boolValue) parse(text string) error {
	switch strings.ToLower(text) {
	case "true", "1":
		*v.to = true
	case "false", "0":
		*v.to = false
	default:
		return fmt.Errorf("%s is neither true nor false", quoted(text))
	}
	return nil
}

// intValue is a whole number between low and high, both included.
type intValue struct {
	to        *int
	low, high int
}

func (v intValue) String() string   { return strconv.Itoa(*v.to) }
func (v intValue) shape() yamlShape { return shapeInt }
func (v intValue) expect() string {
	return fmt.Sprintf("a whole number from %d to %d", v.low, v.high)
}

func (v intValue) parse(text string) error {
	n, err := strconv.Atoi(text)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s is out of range", text)
	case err != nil:
		return fmt.Errorf("%s is not a whole number", quoted(text))
	case n < v.low:
		return fmt.Errorf("%d is too small", n)
	case n > v.high:
		return fmt.Errorf("%d is too large", n)
	}
	*v.to = n
	return nil
}

// bytesValue is a size in bytes between low and high, both included.
type bytesValue struct {
	to        *int64
	low, high int64
}

func (v bytesValue) String() string   { return formatBytes(*v.to) }
func (v bytesValue) shape() yamlShape { return shapeText | shapeInt }
func (v bytesValue) expect() string {
	return fmt.Sprintf("a size from %s to %s, written like 10GiB, 500MB or a plain number of bytes",
		formatBytes(v.low), formatBytes(v.high))
}

func (v bytesValue) parse(text string) error {
	n, err := parseBytes(text)
	switch {
	case err != nil:
		return err
	case n < v.low:
		return fmt.Errorf("%s is too small", text)
	case n > v.high:
		return fmt.Errorf("%s is too large", text)
	}
	*v.to = n
	return nil
}

// byteUnits are the units of sizes, longest first so that a suffix match
// finds the right one.
var byteUnits = []struct {
	name  string
	bytes float64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"KB", 1e3},
	{"B", 1},
}

// parseBytes reads a size: a whole number of bytes, or a decimal number with
// a unit in any letter case. Bare K, M, G and T are refused, because people
// disagree about whether they count in 1000 or 1024.
func parseBytes(text string) (int64, error) {
	number, factor := strings.TrimSpace(text), 1.0
	for _, unit := range byteUnits {
		if cut, ok := cutSuffixFold(number, unit.name); ok {
			number, factor = strings.TrimSpace(cut), unit.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && factor == 1 && n >= 0 {
		return n, nil
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil && strings.ContainsAny(strings.ToUpper(number[max(0, len(number)-1):]), "KMGT") {
		last := strings.ToUpper(number[len(number)-1:])
		return 0, fmt.Errorf("%s leaves open whether it counts in 1000 (%sB) or 1024 (%siB)", quoted(text), last, last)
	}
	n *= factor
	switch {
	case err != nil || math.IsNaN(n) || strings.ContainsAny(number, "xXpPeE_"):
		return 0, fmt.Errorf("%s is not a size", quoted(text))
	case n < 0:
		return 0, fmt.Errorf("%s is negative", quoted(text))
	case n >= math.MaxInt64:
		return 0, fmt.Errorf("%s is too large", quoted(text))
	case n != math.Trunc(n):
		return 0, fmt.Errorf("%s is not a whole number of bytes", quoted(text))
	}
	return int64(n), nil
}

func cutSuffixFold(text, suffix string) (string, bool) {
	at := len(text) - len(suffix)
	if at < 0 || !strings.EqualFold(text[at:], suffix) {
		return text, false
	}
	return text[:at], true
}

// formatBytes writes n exactly, in the largest unit that divides it, so that
// parseBytes gives n back.
func formatBytes(n int64) string {
	for _, unit := range byteUnits {
		if size := int64(unit.bytes); n != 0 && n%size == 0 {
			return strconv.FormatInt(n/size, 10) + unit.name
		}
	}
	return "0B"
}

// durationValue is a span of time between low and high, both included.
type durationValue struct {
	to        *time.Duration
	low, high time.Duration
}

func (v durationValue) String() string   { return formatDuration(*v.to) }
func (v durationValue) shape() yamlShape { return shapeText | shapeInt }
func (v durationValue) expect() string {
	return fmt.Sprintf("a duration from %s to %s with its unit, written like 200ms, 30s or 1m30s",
		formatDuration(v.low), formatDuration(v.high))
}

func (v durationValue) parse(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		if _, numErr := strconv.ParseFloat(text, 64); numErr == nil {
			return fmt.Errorf("%s has no unit", text)
		}
		return fmt.Errorf("%s is not a duration", quoted(text))
	}
	switch {
	case d < v.low:
		return fmt.Errorf("%s is too short", text)
	case d > v.high:
		return fmt.Errorf("%s is too long", text)
	}
	*v.to = d
	return nil
}

// formatDuration writes d without the zero parts time.Duration's own form
// ends in: 1m0s is 1m.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// choiceValue is one of a few words.
type choiceValue struct {
	to      *string
	allowed []string
}

func (v choiceValue) String() string   { return *v.to }
func (v choiceValue) expect() string   { return "one of " + strings.Join(v.allowed, ", ") }
func (v choiceValue) shape() yamlShape { return shapeText }

func (v choiceValue) parse(text string) error {
	word := strings.ToLower(strings.TrimSpace(text))
	if !slices.Contains(v.allowed, word) {
		return fmt.Errorf("%s is not known%s", quoted(text), didYouMean(word, v.allowed))
	}
	*v.to = word
	return nil
}

// levelValue is the least severe level that is logged.
type levelValue struct{ to *slog.Level }

var logLevels = []string{"debug", "info", "warn", "error"}

func (v levelValue) String() string   { return strings.ToLower(v.to.String()) }
func (v levelValue) expect() string   { return "one of " + strings.Join(logLevels, ", ") }
func (v levelValue) shape() yamlShape { return shapeText }

func (v levelValue) parse(text string) error {
	var word string
	if err := (choiceValue{to: &word, allowed: logLevels}).parse(text); err != nil {
		return err
	}
	return v.to.UnmarshalText([]byte(word))
}

// listValue is a list of words without spaces or commas.
type listValue struct {
	to *[]string
	// what is the noun of one item, with an example.
	what string
	// item checks and normalizes one item.
	item func(string) (string, error)
}

func (v listValue) String() string   { return strings.Join(*v.to, ",") }
func (v listValue) expect() string   { return "a list, each item " + v.what }
func (v listValue) shape() yamlShape { return shapeText | shapeList }

func (v listValue) parse(text string) error {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		item, err := v.item(item)
		if err != nil {
			return err
		}
		items = append(items, item)
	}
	*v.to = items
	return nil
}

// originItem checks an origin by the grammar of the guard that will match it.
func originItem(item string) (string, error) {
	item = strings.TrimRight(item, "/") // as copied from a browser's address bar
	if _, err := hostguard.New(hostguard.Config{Origins: []string{item}}); err != nil {
		return "", fmt.Errorf("%s is not an origin", quoted(item))
	}
	return item, nil
}

// allRegions stands for every region of LangSmith's own.
const allRegions = "langsmith"

// regionItem checks a region to ask about a key.
func regionItem(item string) (string, error) {
	if strings.EqualFold(item, allRegions) {
		return allRegions, nil
	}
	return upstream.ParseBaseURL(item)
}

// probeRegions are the base URLs of the regions to ask.
func (s *settings) probeRegions() (out []string) {
	for _, region := range s.ProbeRegions {
		if region == allRegions {
			out = append(out, upstream.Regions()...)
		} else {
			out = append(out, region)
		}
	}
	return out
}

// hostItem checks a host by the grammar of the guard that will match it.
func hostItem(item string) (string, error) {
	if _, err := hostguard.New(hostguard.Config{Hosts: []string{item}}); err != nil {
		return "", fmt.Errorf("%s is not a host name", quoted(item))
	}
	return item, nil
}

// quoted shows text from outside in a message: bounded, and on one line.
func quoted(text string) string {
	const most = 80
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}

// urlValue is the base URL of the upstream.
type urlValue struct{ to *string }

func (v urlValue) String() string   { return *v.to }
func (v urlValue) expect() string   { return "a base URL such as " + upstream.DefaultBaseURL }
func (v urlValue) shape() yamlShape { return shapeText }

func (v urlValue) parse(text string) error {
	base, err := upstream.ParseBaseURL(text)
	if err != nil {
		return helpfulError{strings.TrimPrefix(err.Error(), "upstream ")}
	}
	*v.to = base
	return nil
}

// helpfulError says what is wrong and also what would be right.
type helpfulError struct{ text string }

// Error implements error.
func (e helpfulError) Error() string { return e.text }
