package diagnose

import (
	"slices"
	"strings"
	"testing"
)

const (
	goodPersonal = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"
	goodService  = "lsv2_sk_0123456789abcdef0123456789abcdef_0123456789"
)

func TestShapeOfTellsTheKind(t *testing.T) {
	tests := []struct {
		name, key string
		kind      KeyKind
		length    int
		hint      string
	}{
		{"none", "", KeyNone, 0, ""},
		{"personal", goodPersonal, KeyPersonal, 51, "lsv2_…89"},
		{"service", goodService, KeyService, 51, "lsv2_…89"},
		{"legacy", "ls__0123456789abcdef0123456789abcdef", KeyV1, 36, "ls__0…ef"},
		{"of tomorrow", "lsv2_zz_0123456789abcdef0123456789abcdef", KeyUnknown, 40, "lsv2_…ef"},
		{"in quotes", `"` + goodService + `"`, KeyService, 53, `"lsv2…9"`},
		{"with Bearer", "Bearer " + goodPersonal, KeyPersonal, 58, "Beare…89"},
		{"line break shown as a mark", goodPersonal + "\n", KeyPersonal, 52, "lsv2_…9?"},
		{"short", "secret", KeyUnknown, 6, "…"},
		{"blanks only", "   ", KeyNone, 3, "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ShapeOf(tt.key)
			if got.Kind != tt.kind || got.Length != tt.length || got.Hint != tt.hint {
				t.Errorf("ShapeOf = %s, %d, %q; want %s, %d, %q", got.Kind, got.Length, got.Hint, tt.kind, tt.length, tt.hint)
			}
		})
	}
}

func TestShapeOfFindsFlaws(t *testing.T) {
	type want struct {
		code Code
		sure bool
		says string // a part of the first flaw
	}
	tests := []struct {
		name, key string
		want
	}{
		{"a good personal key", goodPersonal, want{}},
		{"a good service key", goodService, want{}},
		{"a kind of tomorrow", "lsv2_zz_0123456789abcdef0123456789abcdef", want{}},
		{"no key at all", "", want{}},
		{"blanks", " \n", want{KeyMissing, true, "blank"}},
		{"angle brackets", "<your-api-key>", want{KeyPlaceholder, true, "placeholder"}},
		{"as in .env.example", "lsv2_pt_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_xxxxxxxxxx", want{KeyPlaceholder, true, "placeholder"}},
		{"with dots", "lsv2_pt_...", want{KeyPlaceholder, true, "placeholder"}},
		{"your", "YOUR_LANGSMITH_KEY", want{KeyPlaceholder, true, "placeholder"}},
		{"key-here", "paste-key-here", want{KeyPlaceholder, true, "placeholder"}},
		{"code of a notebook", "userdata.get('LANGCHAIN_API_KEY')", want{KeyPlaceholder, true, "piece of code"}},
		{"code of Python", `os.getenv("LANGSMITH_API_KEY")`, want{KeyPlaceholder, true, "piece of code"}},
		{"variable not expanded", "${LANGSMITH_API_KEY}", want{KeyPlaceholder, true, "placeholder"}},
		{"variable not expanded, bare", "$LANGSMITH_API_KEY", want{KeyPlaceholder, true, "placeholder"}},
		{"changeme", "changeme", want{KeyPlaceholder, true, "placeholder"}},
		{"quotes", `"` + goodPersonal + `"`, want{KeyMalformed, true, "quotes"}},
		{"one quote", goodPersonal + "'", want{KeyMalformed, true, "quotes"}},
		{"blank behind", goodPersonal + " ", want{KeyMalformed, true, "blanks"}},
		{"no-break space", goodPersonal + "\u00a0", want{KeyMalformed, true, "blanks"}},
		{"line break", goodPersonal + "\r\n", want{KeyMalformed, true, "line break"}},
		{"Bearer", "Bearer " + goodPersonal, want{KeyInWrongHeader, true, `"Bearer "`}},
		{"bearer in quotes", `"bearer ` + goodPersonal + `"`, want{KeyMalformed, true, "quotes"}},
		{"not ASCII", strings.Replace(goodPersonal, "a", "а", 1), want{KeyMalformed, true, "outside ASCII"}},
		{"zero-width space", goodPersonal + "\u200b", want{KeyMalformed, true, "outside ASCII"}},
		{"control character", goodPersonal + "\x00", want{KeyMalformed, true, "not printable"}},
		{"legacy", "ls__0123456789abcdef0123456789abcdef", want{KeyLegacy, true, "ls__"}},
		{"a letter lost", goodPersonal[1:], want{KeyMalformed, true, "first characters"}},
		{"two letters lost", goodService[2:], want{KeyMalformed, true, "first characters"}},
		{"the kind alone left", goodPersonal[5:], want{KeyMalformed, true, "first characters"}},
		{"OpenAI", "sk-proj-0123456789abcdefghij", want{KeyMalformed, true, "another service"}},
		{"Langfuse", "pk-lf-0123456789abcdefghij", want{KeyMalformed, true, "another service"}},
		{"Google", "AIzaSy0123456789abcdefghij", want{KeyMalformed, true, "another service"}},
		{"prefix only", "lsv2_pt_", want{KeyMalformed, true, "cut off"}},
		{"half a prefix", "lsv2", want{KeyMalformed, true, "cut off"}},
		{"cut off", goodPersonal[:30], want{KeyMalformed, false, "shorter"}},
		{"something else", "0123456789abcdef0123456789abcdef", want{KeyMalformed, false, "does not look like"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := ShapeOf(tt.key)
			if tt.code == "" {
				if len(k.Flaws) > 0 {
					t.Errorf("flaws = %v, want none", k.Flaws)
				}
				return
			}
			if len(k.Flaws) == 0 {
				t.Fatal("no flaw found")
			}
			f := k.Flaws[0]
			if f.Code != tt.code || f.Sure != tt.sure || !strings.Contains(f.Says, tt.says) || f.Remedy == "" {
				t.Errorf("flaw = %+v, want %s (sure: %v) that says %q and has a remedy", f, tt.code, tt.sure, tt.says)
			}
			if k.Sure() != tt.sure {
				t.Errorf("Sure = %v, want %v", k.Sure(), tt.sure)
			}
		})
	}
}

func TestShapeOfNamesEachFlaw(t *testing.T) {
	var says []string
	for _, f := range ShapeOf("\"Bearer " + goodPersonal[:20] + "\"\n").Flaws {
		says = append(says, f.Says)
	}
	for _, want := range []string{"line break", "quotes", "Bearer", "shorter"} {
		if !slices.ContainsFunc(says, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("flaws %q do not say %q", says, want)
		}
	}
}

// Whatever a key is, what is said of it shows seven characters at most.
func FuzzShapeOfShowsTooLittleToUse(f *testing.F) {
	f.Add(goodPersonal)
	f.Add("\"Bearer sk-proj-0123456789abcdefghij\"\n")
	f.Add("ls__0123456789\x00\xff")
	f.Fuzz(func(t *testing.T, key string) {
		k := ShapeOf(key)
		if n := len([]rune(k.Hint)); n > hintHead+1+hintTail {
			t.Errorf("hint %q has %d characters", k.Hint, n)
		}
		secret := []rune(key)
		if len(secret) < hintedKey+hintHead {
			return
		}
		middle := string(secret[hintHead : len(secret)-hintTail])
		for _, fl := range k.Flaws {
			if len(middle) > 16 && strings.Contains(fl.Says+fl.Remedy, middle) {
				t.Errorf("a flaw repeats the key: %+v", fl)
			}
		}
		if len(middle) > 16 && strings.Contains(k.String(), middle) {
			t.Errorf("String repeats the key: %s", k)
		}
	})
}
