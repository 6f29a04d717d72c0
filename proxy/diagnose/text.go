package diagnose

import (
	"html"
	"regexp"
	"strings"
)

// oneLine is text from outside, fit to stand in a sentence.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
	return strings.TrimRight(strings.Join(strings.Fields(s), " "), ". ")
}

// clip cuts s to n bytes, at a character's edge.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

var titleTag = regexp.MustCompile(`(?is)<title[^>]*>(.{1,200}?)</title>|<h1[^>]*>(.{1,200}?)</h1>`)

// title is a web page's title, or its first heading.
func title(body string) string {
	m := titleTag.FindStringSubmatch(body)
	if m == nil {
		return ""
	}
	return clip(oneLine(html.UnescapeString(m[1]+m[2])), 80)
}

// Title is the title of a web page, fit to be shown; empty if it has none.
func Title(body string) string { return title(body) }
