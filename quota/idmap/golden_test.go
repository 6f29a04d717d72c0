package idmap

import (
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"
)

var updateGolden = flag.Bool("update", false, "rewrite the examples in docs/quota-format.md")

const formatDoc = "../../docs/quota-format.md"

// examples are what docs/quota-format.md shows.
func examples() map[string][]byte {
	k := Key{Account: 1, ID: [16]byte{0: 0xa1, 15: 0xaf}}
	e := Entry{State: 2, Flags: 3, Project: 4, Month: 5}
	entry := appendEntry(nil, k, e)
	boot := "0123456789abcdef"
	records := map[string][]byte{"a": []byte("value"), "gone": nil}
	block := make([]byte, blockSize)
	copy(block, entry)
	sealBlock(block, 1, 7)
	f := foot{number: 0x12, entries: 171, blocks: 2, firstSeq: 3, lastSeq: 9, fenceCRC: 0x01020304}
	copy(f.last[:], entry)
	m := manifest{
		nextFile: 0x14, firstLog: 0x13, flushedSeq: 9,
		runs: []runInfo{{0x12, 171, 3, 9}}, records: map[string][]byte{"a": []byte("value")},
	}
	return map[string][]byte{
		"entry":      entry,
		"log":        logHeader{number: 0x13, firstSeq: 10}.append(nil),
		"batch":      appendRecord(nil, 12, 11, &body{kind: kindBatch, entries: entry, records: records}),
		"mark":       appendRecord(nil, 11, 11, &body{kind: kindMark, mark: markOpen, boot: boot}),
		"block-tail": block[blockCountAt:],
		"foot":       f.append(nil),
		"manifest":   m.append(nil),
	}
}

// TestFormatIsAsDocumented compares the code with the examples byte by byte.
func TestFormatIsAsDocumented(t *testing.T) {
	content, err := os.ReadFile(formatDoc)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(content)
	for name, want := range examples() {
		fence := "```hex " + name + "\n"
		start := strings.Index(doc, fence)
		if start < 0 {
			t.Fatalf("%s has no example %q", formatDoc, name)
		}
		start += len(fence)
		end := start + strings.Index(doc[start:], "```")
		if *updateGolden {
			doc = doc[:start] + lines(want) + doc[end:]
			continue
		}
		if got := strings.ReplaceAll(doc[start:end], "\n", ""); got != hex.EncodeToString(want) {
			t.Errorf("example %q: the code writes\n%s", name, lines(want))
		}
	}
	if *updateGolden {
		if err := os.WriteFile(formatDoc, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func lines(b []byte) string {
	var s strings.Builder
	for text := hex.EncodeToString(b); text != ""; {
		n := min(64, len(text))
		s.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	return s.String()
}
