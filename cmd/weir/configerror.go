package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"weir/internal/spelling"
)

// problem is one thing wrong with the configuration.
type problem struct {
	// where is "weir.yaml:3:11", a variable or a flag.
	where string
	// name is the setting, or empty where the problem is not with one.
	name string
	// wrong says what is wrong; right, the object of "give", what would do.
	wrong string
	right string
	// line and column (both from 1) point into source, the offending line of
	// a file; line 0 means there is none to show.
	line, column int
	source       string
}

// secretShapes match what must not be repeated by a message about the wrong
// place it was put in: LangSmith keys, current and legacy (LangSmith docs:
// administration overview), and the password of a URL.
var secretShapes = regexp.MustCompile(`\b(lsv2_[a-z]{2}_|ls__)[0-9A-Za-z_-]+|://[^/@\s]+@`)

// maskSecrets hides what looks like a secret, at the same width so that
// carets stay in place.
func maskSecrets(text string) string {
	return secretShapes.ReplaceAllStringFunc(text, func(match string) string {
		if strings.HasPrefix(match, "://") {
			return "://" + strings.Repeat("*", len(match)-len("://@")) + "@"
		}
		const shown = 5
		return match[:shown] + strings.Repeat("*", len(match)-shown)
	})
}

// String returns the problem in one line, followed by an excerpt of the file
// where there is one. What looks like a key is masked.
func (p problem) String() string {
	var b strings.Builder
	b.WriteString(p.where)
	if p.name != "" {
		b.WriteString(": " + p.name)
	}
	b.WriteString(": " + p.wrong)
	if p.right != "" {
		b.WriteString("; give " + p.right)
	}
	if p.line > 0 {
		number := strconv.Itoa(p.line)
		gutter := strings.Repeat(" ", len(number))
		fmt.Fprintf(&b, "\n  %s | %s\n  %s | %s^", number, p.source, gutter, caretIndent(p.source, p.column))
	}
	return maskSecrets(b.String())
}

// caretIndent returns the space before column, with tabs kept so that the
// caret stands right whatever a tab's width is.
func caretIndent(line string, column int) string {
	var b strings.Builder
	for _, r := range line {
		if column <= 1 {
			break
		}
		column--
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

// configError lists everything that is wrong with a configuration.
type configError struct {
	problems []problem
}

// Error implements error.
func (e *configError) Error() string {
	// Further problems are counted, not listed: the first few are enough work.
	const most = 12
	lines := make([]string, 0, len(e.problems))
	for i, p := range e.problems {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.problems)-most))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// suggestion is how a suggested word follows a message.
func suggestion(word string) string { return " (did you mean " + word + "?)" }

// didYouMean suggests the candidate nearest to word, or returns "" when none
// is near.
func didYouMean(word string, candidates []string) string {
	best, bestDistance := "", utf8.RuneCountInString(word)/3+2
	for _, candidate := range candidates {
		if distance := spelling.Distance(word, candidate); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	if best == "" {
		return ""
	}
	return suggestion(best)
}

// suggestName suggests the setting a wrong YAML name was meant to be: the same
// words with other separators, the same last part, or a near spelling.
func suggestName(name string) string {
	flat := strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
	names := make([]string, 0, len(table))
	for i := range table {
		if table[i].onlyEnv {
			continue
		}
		candidate := table[i].name
		if strings.ReplaceAll(candidate, ".", "_") == flat {
			return suggestion(candidate)
		}
		names = append(names, candidate)
	}
	if i := slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, "."+flat) }); i >= 0 {
		return suggestion(names[i])
	}
	return didYouMean(strings.ToLower(name), names)
}
