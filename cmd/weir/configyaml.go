package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// yamlFile is the configuration file while it is applied.
type yamlFile struct {
	*loader
	path  string
	lines []string
}

// applyYAML applies the file's settings. It walks the syntax tree rather than
// decoding into a struct: only so does every problem know its line and column.
func (l *loader) applyYAML(path string, content []byte) {
	y := &yamlFile{loader: l, path: path, lines: strings.Split(string(content), "\n")}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		y.syntaxProblem(err)
		return
	}
	var documents []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			documents = append(documents, doc.Body)
		}
	}
	if len(documents) == 0 {
		return
	}
	if len(documents) > 1 {
		y.problem(startOf(documents[1]), "", "a second YAML document starts here", "one document")
		return
	}
	y.mapping(documents[0], "")
}

// syntaxProblem records that the file is not YAML, or repeats a key.
func (y *yamlFile) syntaxProblem(err error) {
	var yamlErr yaml.Error
	if errors.As(err, &yamlErr) && yamlErr.GetToken() != nil {
		right := ""
		if at := yamlErr.GetToken().Position; at != nil && at.Line >= 1 && at.Line <= len(y.lines) &&
			strings.HasPrefix(strings.TrimLeft(y.lines[at.Line-1], " "), "\t") {
			right = "spaces for indentation, which YAML wants instead of tabs"
		}
		y.problem(yamlErr.GetToken(), "", "not valid YAML: "+yamlErr.GetMessage(), right)
		return
	}
	y.problems = append(y.problems, problem{where: y.path, wrong: "not valid YAML: " + err.Error()})
}

// problem records what is wrong at a token.
func (y *yamlFile) problem(at *token.Token, name, wrong, right string) {
	p := problem{where: y.where(at), name: name, wrong: wrong, right: right}
	if at != nil && at.Position != nil && at.Position.Line >= 1 && at.Position.Line <= len(y.lines) {
		p.line, p.column = at.Position.Line, at.Position.Column
		p.source = printable(y.lines[p.line-1])
	}
	y.problems = append(y.problems, p)
}

// printable drops what could steer a terminal from a line of the file.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, line)
}

func (y *yamlFile) where(at *token.Token) string {
	if at == nil || at.Position == nil {
		return y.path
	}
	return fmt.Sprintf("%s:%d:%d", y.path, at.Position.Line, at.Position.Column)
}

// mapping applies the fields of one section; prefix is "" for the top level
// and "forward." and the like below it.
func (y *yamlFile) mapping(node ast.Node, prefix string) {
	fields, ok := fieldsOf(node)
	if _, isNull := node.(*ast.NullNode); isNull {
		return // a section whose fields are all commented out
	}
	if !ok {
		right := "fields such as grpc_addr: 127.0.0.1:4317"
		if prefix != "" {
			right = "indented fields below it"
		}
		y.problem(startOf(node), strings.TrimSuffix(prefix, "."), describeNode(node)+" is not a section with fields", right)
		return
	}
	for _, field := range fields {
		y.field(field, prefix)
	}
}

func (y *yamlFile) field(field *ast.MappingValueNode, prefix string) {
	at := field.Key.GetToken()
	name := prefix + at.Value
	if st := lookup(name); st != nil && !st.onlyEnv {
		y.value(st, field)
		return
	}
	if isSection(name) {
		y.mapping(field.Value, name+".")
		return
	}
	if st := lookup(name); st != nil {
		// The value itself is kept out of the message, and so is its line.
		y.problems = append(y.problems, problem{
			where: y.where(at), name: name, wrong: "secrets do not belong into the configuration file",
			right: fmt.Sprintf("%s%s, the path of a file that holds it, or set %s", name, fileSuffix, strings.Join(st.env(), " or ")),
		})
		return
	}
	y.problem(at, oneLine(name, maxSentence), "there is no such field"+suggestName(name), "")
}

// isSection reports whether fields stand below name.
func isSection(name string) bool {
	for i := range table {
		if strings.HasPrefix(table[i].name, name+".") {
			return true
		}
	}
	return false
}

// value applies one field.
func (y *yamlFile) value(st *setting, field *ast.MappingValueNode) {
	val := st.bind(y.out)
	switch val := val.(type) {
	case listValue:
		if !y.itemsFit(st, val, field.Value) {
			return
		}
	case budgetsValue:
		if fields, ok := fieldsOf(field.Value); ok {
			if y.budgets(st, val, fields) {
				y.noteOrigin(st, field)
			}
			return
		}
	}
	at := startOf(field.Value)
	text, err := nodeText(field.Value, val.shape())
	if err == nil && text == "" && !st.cleared {
		err = errors.New("it is empty")
	}
	if err == nil {
		y.out.written[st.name] = writtenValue{text: secret(text), from: y.place(field)}
		err = val.parse(text)
	}
	if err != nil {
		if _, isNull := field.Value.(*ast.NullNode); isNull {
			at = field.Key.GetToken()
		}
		y.problem(at, st.name, err.Error(), remedy(err, val.expect()))
		return
	}
	y.noteOrigin(st, field)
}

// noteOrigin notes that the file has set a setting.
func (y *yamlFile) noteOrigin(st *setting, field *ast.MappingValueNode) {
	y.out.origins[st.name] = y.place(field)
}

// place is where a field stands.
func (y *yamlFile) place(field *ast.MappingValueNode) origin {
	return origin{kind: sourceFile, where: fmt.Sprintf("%s:%d", y.path, field.Key.GetToken().Position.Line)}
}

// fieldsOf returns the fields of a section; ok is false for another node.
func fieldsOf(node ast.Node) (fields []*ast.MappingValueNode, ok bool) {
	switch node := node.(type) {
	case *ast.MappingNode:
		return node.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}, true
	default:
		return nil, false
	}
}

// budgets applies a section of budgets by name. A problem points at its name
// or its number.
func (y *yamlFile) budgets(st *setting, val budgetsValue, fields []*ast.MappingValueNode) bool {
	before := len(y.problems)
	budgets := make(map[string]int64, len(fields))
	for _, field := range fields {
		name, err := nodeText(field.Key, shapeText|shapeInt|shapeFloat|shapeBool)
		if err == nil {
			name, err = budgetName(name)
		}
		if err != nil {
			y.problem(field.Key.GetToken(), st.name, err.Error(), "the name of a project")
			continue
		}
		text, err := nodeText(field.Value, shapeText|shapeInt)
		if err == nil {
			budgets[name], err = budgetLimit(text)
		}
		if err != nil {
			y.problem(startOf(field.Value), st.name, err.Error(), "the most traces of the project in a month, such as 500")
		}
	}
	if len(budgets) > maxBudgets {
		y.problem(fields[0].Key.GetToken(), st.name, fmt.Sprintf("%d projects are too many", len(budgets)), fmt.Sprintf("at most %d", maxBudgets))
	}
	if len(y.problems) > before {
		return false
	}
	*val.to = budgets
	return true
}

// itemsFit checks the items of a list one by one, so that a problem points at
// its item.
func (y *yamlFile) itemsFit(st *setting, list listValue, node ast.Node) bool {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		return true
	}
	before := len(y.problems)
	for _, item := range sequence.Values {
		text, err := nodeText(item, shapeText)
		if err == nil {
			_, err = list.item(text)
		}
		if err != nil {
			y.problem(startOf(item), st.name, err.Error(), list.what)
		}
	}
	return len(y.problems) == before
}

// startOf returns the token at which a node starts; a mapping's own token is
// the colon after its first key.
func startOf(node ast.Node) *token.Token {
	switch node := node.(type) {
	case *ast.MappingNode:
		if !node.IsFlowStyle && len(node.Values) > 0 {
			return node.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return node.Key.GetToken()
	}
	return node.GetToken()
}

// nodeText returns the text of a node as a flag would give it, if the node is
// of a kind in shape.
func nodeText(node ast.Node, shape yamlShape) (string, error) {
	switch node := node.(type) {
	case *ast.StringNode:
		if shape&shapeText != 0 {
			return node.Value, nil
		}
	case *ast.LiteralNode:
		if shape&shapeText != 0 {
			return strings.TrimSpace(node.Value.Value), nil
		}
	case *ast.IntegerNode:
		if shape&(shapeInt|shapeFloat) != 0 {
			return node.Token.Value, nil
		}
	case *ast.FloatNode:
		if shape&shapeFloat != 0 {
			return node.Token.Value, nil
		}
	case *ast.BoolNode:
		if shape&shapeBool != 0 {
			return node.Token.Value, nil
		}
	case *ast.SequenceNode:
		if shape&shapeList != 0 {
			return sequenceText(node)
		}
	case *ast.NullNode:
		return "", errors.New("it has no value")
	}
	switch node.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		if shape == shapeText {
			return "", fmt.Errorf("%s is not text: put it in quotes", describeNode(node))
		}
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "", fmt.Errorf("%s does not work here: write the value itself", describeNode(node))
	}
	return "", fmt.Errorf("%s has the wrong type", describeNode(node))
}

// sequenceText joins the items of a list of words.
func sequenceText(node *ast.SequenceNode) (string, error) {
	items := make([]string, 0, len(node.Values))
	for _, item := range node.Values {
		text, err := nodeText(item, shapeText)
		if err != nil {
			return "", err
		}
		items = append(items, text)
	}
	return strings.Join(items, ","), nil
}

// describeNode names a node by its kind, with its text where it has one.
func describeNode(node ast.Node) string {
	switch node := node.(type) {
	case *ast.StringNode:
		return "the text " + quoted(node.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + node.GetToken().Value
	case *ast.BoolNode:
		return "the truth value " + node.Token.Value
	case *ast.NullNode:
		return "an empty value"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section with fields"
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "a YAML anchor, alias or tag"
	default:
		return "this"
	}
}
