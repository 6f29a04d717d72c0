package main

import (
	"context"
	"embed"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

//go:embed completion
var completionScripts embed.FS

// completionCmd is `weir completion`.
type completionCmd struct {
	Shell string `arg:"" name:"shell" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

func (c *completionCmd) run(_ context.Context, inv *invocation) error {
	script, err := completionScripts.ReadFile("completion/weir." + c.Shell)
	if err != nil {
		return fmt.Errorf("completion: %w", err)
	}
	_, err = inv.Out.Write(script)
	return written("completion", err)
}

// completeWordsCmd is what the shells' scripts call with the words before the
// cursor and the one at it. It prints candidates, each with a tab and what it
// is, or ":files" or ":directories".
type completeWordsCmd struct {
	Words []string `arg:"" optional:"" help:"Words of the command line behind weir."`
}

func (c *completeWordsCmd) run(_ context.Context, inv *invocation) error {
	words := c.Words
	if len(words) == 0 {
		words = []string{""}
	}
	var b strings.Builder
	for _, candidate := range complete(inv.parsed.Model.Node, words) {
		b.WriteString(candidate.text)
		if !strings.HasPrefix(candidate.text, ":") {
			b.WriteString("\t" + candidate.what)
		}
		b.WriteByte('\n')
	}
	_, err := fmt.Fprint(inv.Out, b.String())
	return written("complete-words", err)
}

// candidate is one way to complete a word.
type candidate struct{ text, what string }

// What a script completes by itself.
const (
	completeFiles       = ":files"
	completeDirectories = ":directories"
)

// complete finds the candidates for the last of words.
func complete(root *kong.Node, words []string) []candidate {
	words, split := joinAssignments(words)
	line := completionLine{node: root}
	last := len(words) - 1
	for _, word := range words[:last] {
		line.take(root, word)
	}
	found := line.candidates(words[last])
	if split {
		for i := range found {
			if _, value, assigned := strings.Cut(found[i].text, "="); assigned {
				found[i].text = value
			}
		}
	}
	return found
}

// joinAssignments joins --flag, = and a value, which bash takes for three words.
// Split says that the last word was such a value, by itself.
func joinAssignments(words []string) (joined []string, split bool) {
	for i := 0; i < len(words); i++ {
		if words[i] == "=" && len(joined) > 0 && strings.HasPrefix(joined[len(joined)-1], "--") {
			joined[len(joined)-1] += "="
			if i+1 < len(words) {
				i++
				joined[len(joined)-1] += words[i]
			}
			split = i == len(words)-1
			continue
		}
		joined = append(joined, words[i])
	}
	return joined, split
}

// completionLine is what is understood of the words so far.
type completionLine struct {
	node    *kong.Node
	flag    *kong.Flag // wants its value
	given   []string   // names of flags
	args    int        // positional ones
	literal bool       // behind --
}

// take reads a word before the one to complete.
func (l *completionLine) take(root *kong.Node, word string) {
	switch {
	case l.flag != nil:
		l.flag = nil
	case l.literal:
		l.args++
	case word == "--":
		l.literal = true
	case strings.HasPrefix(word, "-") && word != "-":
		name, _, hasValue := strings.Cut(word, "=")
		if f := l.find(name); f != nil {
			l.given = append(l.given, f.Name)
			if !hasValue && !f.IsBool() {
				l.flag = f
			}
		}
	default:
		for _, child := range l.node.Children {
			if child.Name == word {
				l.node = child
				if word == "help" {
					l.node = root
				}
				return
			}
		}
		l.args++
	}
}

// flags are those that may follow here.
func (l *completionLine) flags() []*kong.Flag {
	var all []*kong.Flag
	for _, group := range l.node.AllFlags(true) {
		all = append(all, group...)
	}
	if l.node.DefaultCmd != nil {
		all = append(all, l.node.DefaultCmd.Flags...)
	}
	return all
}

// find is the flag of a name as it is typed, nil if there is none.
func (l *completionLine) find(name string) *kong.Flag {
	for _, f := range l.flags() {
		if "--"+f.Name == name || f.Short != 0 && "-"+string(f.Short) == name {
			return f
		}
	}
	return nil
}

// candidates are those for the word at the cursor.
func (l *completionLine) candidates(word string) []candidate {
	name, value, assigned := strings.Cut(word, "=")
	switch {
	case l.flag != nil:
		return matching(flagValues(l.flag), word)
	case l.literal:
		return matching(l.argValues(), word)
	case assigned && strings.HasPrefix(word, "--"):
		f := l.find(name)
		if f == nil {
			return nil
		}
		found := matching(flagValues(f), value)
		for i, c := range found {
			if !strings.HasPrefix(c.text, ":") {
				found[i].text = name + "=" + c.text
			}
		}
		return found
	case strings.HasPrefix(word, "-"):
		return matching(l.flagNames(), word)
	}
	var names []candidate
	for _, child := range l.node.Children {
		if !child.Hidden {
			names = append(names, candidate{child.Name, firstSentence(child.Help)})
		}
	}
	return append(matching(names, word), matching(l.argValues(), word)...)
}

func matching(all []candidate, prefix string) []candidate {
	var found []candidate
	for _, c := range all {
		if strings.HasPrefix(c.text, prefix) || strings.HasPrefix(c.text, ":") {
			found = append(found, c)
		}
	}
	return found
}

// flagNames are the flags that may follow and were not given yet.
func (l *completionLine) flagNames() []candidate {
	var names []candidate
	for _, f := range l.flags() {
		given := false
		for _, name := range l.given {
			given = given || name == f.Name
		}
		if given && !f.IsCumulative() {
			continue
		}
		names = append(names, candidate{"--" + f.Name, firstSentence(f.Help)})
		if f.Tag.Negatable != "" {
			names = append(names, candidate{"--no-" + f.Name, "not: " + firstSentence(f.Help)})
		}
	}
	return names
}

// argValues are the values of the next positional argument, as far as they are
// known.
func (l *completionLine) argValues() []candidate {
	args := l.node.Positional
	if l.node.DefaultCmd != nil {
		args = l.node.DefaultCmd.Positional
	}
	if l.args >= len(args) {
		return nil
	}
	arg := args[l.args]
	if arg.Name == "path" {
		return []candidate{{text: completeFiles}}
	}
	return enumValues(arg)
}

// flagValues are the values a flag may have, as far as they are known.
func flagValues(f *kong.Flag) []candidate {
	switch f.PlaceHolder {
	case "FILE":
		return []candidate{{text: completeFiles}}
	case "DIR":
		return []candidate{{text: completeDirectories}}
	}
	if values := enumValues(f.Value); values != nil {
		return values
	}
	for i := range table {
		if table[i].flag() == f.Name {
			return choices(table[i].bind(&settings{secretFiles: map[string]*string{}}))
		}
	}
	return nil
}

func enumValues(v *kong.Value) []candidate {
	if v.Enum == "" {
		return nil
	}
	var values []candidate
	for _, text := range v.EnumSlice() {
		values = append(values, candidate{text: text})
	}
	return values
}

// choices are the values of a setting that has few.
func choices(v value) []candidate {
	var words []string
	switch v := v.(type) {
	case choiceValue:
		words = v.allowed
	case levelValue:
		words = []string{"debug", "info", "warn", "error"}
	}
	var values []candidate
	for _, word := range words {
		values = append(values, candidate{text: word})
	}
	return values
}

func firstSentence(text string) string {
	sentence, _, _ := strings.Cut(text, ". ")
	return strings.TrimSuffix(sentence, ".")
}
