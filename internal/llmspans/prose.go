package llmspans

import (
	"math"
	"math/rand/v2"
	"sort"
	"strings"
)

// vocabularySize and zipfExponent set how much a paragraph says per word: few
// words often, most words seldom, as in any language. Together they decide the
// compression ratio, which TestCompressesLikeRealTraces watches.
const (
	vocabularySize = 4000
	zipfExponent   = 1.0
	// phraseCount set phrases, one in phraseEvery words: nobody writes every
	// sentence anew.
	phraseCount = 150
	phraseEvery = 14
)

// commonWords come first in the vocabulary, so they are the frequent ones.
var commonWords = strings.Fields(`the of and to a in is for that it with as on be are this by from or an at not
	your you can we have which if was will has their more when about what order customer please data answer
	request invoice account would policy there other time only after document been were all no our new should
	system its these than into they but also first refund shipment contract because following error between
	user context using before any may must result number date each service based does price model response
	agent tool query section clause payment delivery address issue support available information number`)

var (
	onsets = []string{"b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "pr", "qu", "r", "s", "sh", "sp", "st", "str", "t", "th", "tr", "v", "w", "z", ""}
	nuclei = []string{"a", "e", "i", "o", "u", "ai", "ea", "ee", "io", "ou"}
	codas  = []string{"", "", "l", "m", "n", "nd", "ng", "nt", "r", "rd", "s", "st", "t", "x", "ck"}
	ends   = []string{"", "", "s", "ed", "ing", "er", "ment", "tion", "al", "ly", "ity"}
)

// prose writes text whose words repeat as those of a real text do.
type prose struct {
	rng   *rand.Rand
	words []string
	// cumulative[i] is the chance of one of words[:i+1].
	cumulative []float64
	phrases    []string
}

func newProse(rng *rand.Rand) *prose {
	p := &prose{rng: rng, words: make([]string, 0, vocabularySize), cumulative: make([]float64, 0, vocabularySize)}
	// The vocabulary is the same for every seed: it is the language, and only
	// what is said in it differs.
	lexicon := rand.New(rand.NewPCG(1, 2))
	seen := make(map[string]bool, vocabularySize)
	add := func(word string) {
		if len(word) > 0 && !seen[word] {
			seen[word] = true
			p.words = append(p.words, word)
		}
	}
	for _, w := range commonWords {
		add(w)
	}
	pick := func(from []string) string { return from[lexicon.IntN(len(from))] }
	for len(p.words) < vocabularySize {
		word := pick(onsets) + pick(nuclei) + pick(codas)
		if lexicon.IntN(3) > 0 {
			word += pick(onsets) + pick(nuclei) + pick(codas)
		}
		add(word + pick(ends))
	}
	total := 0.0
	for i := range p.words {
		total += 1 / math.Pow(float64(i+1), zipfExponent)
		p.cumulative = append(p.cumulative, total)
	}
	for i := range p.cumulative {
		p.cumulative[i] /= total
	}
	for range phraseCount {
		words := make([]string, 5+lexicon.IntN(5))
		for i := range words {
			words[i] = p.wordOf(lexicon)
		}
		p.phrases = append(p.phrases, strings.Join(words, " "))
	}
	return p
}

func (p *prose) word() string { return p.wordOf(p.rng) }

func (p *prose) wordOf(rng *rand.Rand) string {
	i := sort.SearchFloat64s(p.cumulative, rng.Float64())
	return p.words[min(i, len(p.words)-1)]
}

// paragraph returns n words or set phrases in sentences, now and then with a number, a line
// break, or a character beyond ASCII.
func (p *prose) paragraph(n int) string {
	var b strings.Builder
	start := true
	for i := range n {
		w := p.word()
		if p.rng.IntN(phraseEvery) == 0 {
			w = p.phrases[p.rng.IntN(len(p.phrases))]
		}
		if start {
			w = strings.ToUpper(w[:1]) + w[1:]
		}
		start = false
		b.WriteString(w)
		switch k := p.rng.IntN(60); {
		case i == n-1:
			b.WriteByte('.')
		case k < 5:
			b.WriteString(". ")
			start = true
		case k < 8:
			b.WriteString(", ")
		case k == 8:
			b.WriteString(".\n\n")
			start = true
		case k == 9:
			b.WriteString(" \u2013 ")
		case k == 10:
			b.WriteString(" caf\u00e9 ")
		case k < 14:
			b.WriteByte(' ')
			b.WriteString(number(p.rng))
			b.WriteByte(' ')
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func number(rng *rand.Rand) string {
	const digits = "0123456789"
	b := make([]byte, 2+rng.IntN(5))
	for i := range b {
		b[i] = digits[rng.IntN(10)]
	}
	return string(b)
}
