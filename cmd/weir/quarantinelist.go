package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	weirv1 "weir/proto/weir/v1"
)

// casesPage is how many cases are asked for at a time: the most there may be.
const casesPage = 1000

// allCases lists the cases of all pages as one answer.
func (c *adminCall) allCases(ctx context.Context) (*weirv1.ListCasesResponse, error) {
	all := &weirv1.ListCasesResponse{}
	for token := ""; ; {
		page, err := c.client.ListCases(ctx, &weirv1.ListCasesRequest{PageSize: casesPage, PageToken: token})
		if err != nil {
			return nil, err
		}
		all.Cases = append(all.Cases, page.GetCases()...)
		all.Counts = page.GetCounts() // the latest
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// remedyOf is what to do about some cases.
type remedyOf struct {
	text  string
	cases []uint32
}

// remedies are what to do about cases, each once, in their order.
func remedies(cases []*weirv1.QuarantineCase) []remedyOf {
	var out []remedyOf
	at := map[string]int{}
	for _, c := range cases {
		text := c.GetRemedy()
		if text == "" {
			continue
		}
		i, have := at[text]
		if !have {
			i = len(out)
			at[text] = i
			out = append(out, remedyOf{text: text})
		}
		out[i].cases = append(out[i].cases, c.GetId())
	}
	return out
}

// maxCaseNames is how many cases a remedy names; the table has them all.
const maxCaseNames = 5

func (r *remedyOf) caseNames() string {
	if len(r.cases) == 1 {
		return fmt.Sprintf("Case %d", r.cases[0])
	}
	named := r.cases[:min(len(r.cases), maxCaseNames)]
	names := make([]string, len(named))
	for i, id := range named {
		names[i] = strconv.FormatUint(uint64(id), 10)
	}
	if more := len(r.cases) - len(named); more > 0 {
		return "Cases " + strings.Join(names, ", ") + " and " + humanCount(int64(more)) + " more"
	}
	last := len(names) - 1
	return "Cases " + strings.Join(names[:last], ", ") + " and " + names[last]
}

// traceLines are the ids of a case's traces, as far as they are named.
func traceLines(c *weirv1.QuarantineCase, ids []string) []string {
	lines := make([]string, 0, len(ids)+1)
	for _, id := range ids {
		lines = append(lines, oneLine(id, maxName))
	}
	switch more := int64(c.GetTraces()) - int64(len(ids)); {
	case len(ids) == 0:
	case more > 0 && c.GetTracesAtLeast():
		lines = append(lines, fmt.Sprintf("and at least %s more", humanCount(more)))
	case more > 0:
		lines = append(lines, fmt.Sprintf("and %s more", humanCount(more)))
	}
	return lines
}
