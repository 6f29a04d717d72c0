package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// noTerminalWidth is the width for which text is laid out where it goes to no
// terminal.
const noTerminalWidth = 80

// leastWidth is the narrowest terminal that text is laid out for.
const leastWidth = 20

// isTerminal reports whether a writer, or a reader, is a terminal.
func isTerminal(file any) bool {
	f, ok := file.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// screenSize is the size of the terminal at w; 0, 0 if w is none.
func screenSize(w io.Writer) (columns, lines int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	columns, lines, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, lines
}

// width is the width for which text on Out is laid out, in columns.
func (c *console) width() int {
	columns := c.columns
	if columns == 0 {
		columns, _ = screenSize(c.Out)
	}
	if columns == 0 {
		return noTerminalWidth
	}
	return max(columns, leastWidth)
}

// columnsOf is the number of terminal columns that text without escape
// sequences takes: East Asian wide characters take two (Unicode, UAX 11),
// those that combine none.
func columnsOf(text string) int {
	n := 0
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	const lastLatin1 = 0xff // nothing wide or combining up to here
	switch {
	case r <= lastLatin1:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}

// cutLine cuts a line that may hold styles to so many columns. What was cut is
// said by its last character.
func cutLine(line string, columns int) string {
	if columns <= 0 {
		return ""
	}
	used, keep := 0, 0             // columns so far; bytes that leave room for the mark
	open, keptOpen := false, false // whether a style is on, and was on there
	for i := 0; i < len(line); {
		if seq := styleAt(line[i:]); seq != "" {
			open = seq != resetStyle
			i += len(seq)
			continue
		}
		r, size := utf8.DecodeRuneInString(line[i:])
		n := runeColumns(r)
		if used+n > columns {
			cut := line[:keep] + "…"
			if keptOpen {
				cut += resetStyle
			}
			return cut
		}
		used, i = used+n, i+size
		if used < columns {
			keep, keptOpen = i, open
		}
	}
	return line
}

// styleAt is the escape sequence of a style that text begins with, or "".
func styleAt(text string) string {
	if !strings.HasPrefix(text, "\x1b[") {
		return ""
	}
	end := strings.IndexByte(text, 'm')
	return text[:end+1]
}

// wrap breaks text, which may hold styles, at spaces, into a first line of so many columns and others
// of rest. What stands in backquotes, a command to copy, is never broken;
// neither is a word: either may make a line too long.
func wrap(text string, first, rest int) []string {
	var lines []string
	columns, used := first, 0
	for _, word := range unbroken(text) {
		n := columnsOf(withoutStyles(word))
		switch {
		case len(lines) == 0:
			lines, used = append(lines, word), n
		case used+1+n > columns:
			lines, used, columns = append(lines, word), n, rest
		default:
			lines[len(lines)-1] += " " + word
			used += 1 + n
		}
	}
	return lines
}

// say prints text for people, wrapped at the width of Out: head, then the text,
// its later lines below where it begins. Head may hold styles; s is the style
// of the text.
func (c *console) say(head, text string, s style) {
	const readable = 30 // columns that are left of a line at least
	width, indent := c.width(), columnsOf(withoutStyles(head))
	first := width - indent
	if first < readable {
		indent = min(indent, 2)
	}
	for i, line := range wrap(text, first, width-indent) {
		if i > 0 {
			head = strings.Repeat(" ", indent)
		}
		fmt.Fprintln(c.Out, head+paint(line, s, c.OutColor))
	}
}

// withoutStyles is text without its styles.
func withoutStyles(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		if seq := styleAt(text); seq != "" {
			text = text[len(seq):]
			continue
		}
		_, size := utf8.DecodeRuneInString(text)
		b.WriteString(text[:size])
		text = text[size:]
	}
	return b.String()
}

// unbroken are the words of text, with each command in backquotes as one.
func unbroken(text string) []string {
	var words []string
	inside := false
	for word := range strings.FieldsSeq(text) {
		if inside {
			words[len(words)-1] += " " + word
		} else {
			words = append(words, word)
		}
		if strings.Count(word, "`")%2 == 1 {
			inside = !inside
		}
	}
	if inside { // a backquote that nothing closes is none
		return strings.Fields(text)
	}
	return words
}
