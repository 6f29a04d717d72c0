package live

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the answers for a person, and what they cost.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(t, "QUESTION\tANSWER\tTRACES\tDETAIL")
	for i := range r.Answers {
		a := &r.Answers[i]
		if err == nil {
			_, err = fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", a.ID, a.Answer, a.Traces, shorten(a.Detail))
		}
	}
	if err == nil {
		err = t.Flush()
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "\nAt most %d traces of the month were used, of the %d allowed, at %s.\n", r.Traces, r.MaxTraces, r.Upstream)
	}
	return err
}

// WriteJSON writes all of it, with the requests and their answers.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// shorten makes a detail fit into a line.
func shorten(s string) string {
	const most = 160
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}
