package proxy

import (
	"errors"
	"io"
	"strings"
	"testing"

	"weir/proxy/exported"
	"weir/proxy/runs"
)

// readExport reads the operations of an export, and the content of attachments.
func readExport(t *testing.T, file io.Reader) (ops []runs.Op, content map[string]string) {
	t.Helper()
	content = map[string]string{}
	r := exported.NewReader(file)
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ops, content
		}
		if err != nil {
			t.Fatal(err)
		}
		switch line.Kind {
		case exported.KindContent:
			content[line.Content] += string(line.Data)
		case exported.KindRun:
			op, err := line.Operation()
			if err != nil {
				t.Fatal(err)
			}
			ops = append(ops, op)
		default:
		}
	}
}

func TestWhatIsNoExportIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"{}\n":                                   "does not begin as an export",
		"[]\n":                                   "line 1",
		`{"version":1}`:                          "does not begin as an export",
		`{"kind":"weir-quarantine","version":2}`: "version 2",
		"{\"kind\":\"weir-quarantine\",\"version\":1}\nx": "line 2",
	} {
		r := exported.NewReader(strings.NewReader(text))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to say %q", text, err, want)
		}
	}
}
