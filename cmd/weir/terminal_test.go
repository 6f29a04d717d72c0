package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrapBreaksNeitherCommandsNorWords(t *testing.T) {
	tests := []struct {
		name    string
		text    string
		columns int
		want    []string
	}{
		{"short", "all is well", 20, []string{"all is well"}},
		{"at spaces", "all is well with the world", 12, []string{"all is well", "with the", "world"}},
		{"exactly full", "all is well", 11, []string{"all is well"}},
		{"a command stays whole", "run `weir quarantine release 3 --as-own-key` then wait", 20, []string{
			"run", "`weir quarantine release 3 --as-own-key`", "then wait",
		}},
		{"a command with a full stop", "Run `weir run`.", 8, []string{"Run", "`weir run`."}},
		{"two commands", "`weir a` and `weir b`", 14, []string{"`weir a` and", "`weir b`"}},
		{"a lone backquote is a character", "a ` b c d", 3, []string{"a `", "b c", "d"}},
		{"a long word", "see https://smith.langchain.com/settings now", 10, []string{"see", "https://smith.langchain.com/settings", "now"}},
		{"wide characters take two", "日本語 日本語", 10, []string{"日本語", "日本語"}},
		{"styles take none", "\x1b[31mred\x1b[0m rose", 8, []string{"\x1b[31mred\x1b[0m rose"}},
		{"nothing", " ", 10, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, wrap(tt.text, tt.columns, tt.columns)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestSayHangsLaterLinesBelowTheText(t *testing.T) {
	const text = "Set LANGSMITH_API_KEY to a key of this workspace, then `weir doctor --regions`."
	tests := []struct {
		name    string
		columns int
		want    string
	}{
		{"wide", 100, "FAIL  key   " + text + "\n"},
		{"half", 50, "FAIL  key   Set LANGSMITH_API_KEY to a key of this\n" +
			"            workspace, then\n            `weir doctor --regions`.\n"},
		{"narrow", 24, "FAIL  key   Set\n  LANGSMITH_API_KEY to a\n  key of this workspace,\n  then\n  `weir doctor --regions`.\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			con := console{Out: &out, columns: tt.columns}
			con.say("FAIL  key   ", text, plain)
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestCutLine(t *testing.T) {
	red := func(s string) string { return "\x1b[31m" + s + "\x1b[0m" }
	tests := []struct {
		name, line string
		columns    int
		want       string
	}{
		{"fits", "weir", 4, "weir"},
		{"cut", "weir runs", 5, "weir…"},
		{"one column", "weir", 1, "…"},
		{"none", "weir", 0, ""},
		{"styled and fits", red("weir"), 4, red("weir")},
		{"cut inside a style", red("weir runs"), 5, "\x1b[31mweir…\x1b[0m"},
		{"cut after a style", red("we") + "ir runs", 5, red("we") + "ir…"},
		{"cut right after a style", red("weir") + " runs", 5, red("weir")[:len("\x1b[31mweir")] + "…\x1b[0m"},
		{"half a wide character does not fit", "日本語", 5, "日本…"},
		{"a wide one does not leave room", "日本語", 4, "日…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := cutLine(tt.line, tt.columns)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if n := columnsOf(withoutStyles(got)); n > tt.columns {
				t.Errorf("%d columns, of %d", n, tt.columns)
			}
		})
	}
}

func TestTablesAlignWideCharacters(t *testing.T) {
	var out bytes.Buffer
	writeTable(&out, []column{{title: "PROJECT"}, {title: "N", right: true}}, [][]cell{
		{{text: "日本語"}, {text: "1"}}, {{text: "chat"}, {text: "20"}},
	}, false)
	for line := range strings.Lines(out.String()) {
		if n := columnsOf(strings.TrimRight(line, "\n")); n != 11 {
			t.Errorf("%q takes %d columns, not 11", line, n)
		}
	}
}
