package wholeway_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"weir/internal/llmspans"
)

const (
	// opsPerFlush is what the SDKs put into a request at most, as /info asks.
	opsPerFlush = 100
	// flushTemplates is how many different flushes there are; they come again
	// with other ids.
	flushTemplates = 200
	// runsPerTrace is the most runs that a trace of theirs has.
	runsPerTrace = 5
)

// Where the ids of a template carry the number of their flush: every id begins
// with one of these. Nothing else in a flush can look like them, since text has
// no underscore and a UUID of the content is random.
const (
	idOfThis     = "__this__"
	idOfPrevious = "__prev__"
)

// pairing is when the update of a run is sent.
type pairing string

const (
	together pairing = "same-flush" // with its create
	next     pairing = "next-flush" // with the creates that follow
	apart    pairing = "far-apart"  // when its create has been delivered long ago
)

// flush is the body of one request, compressed as the Python SDK does, with
// its size before.
type flush struct {
	body []byte
	raw  int
}

// makeFlushes makes n flushes for a client out of templates, with ids unlike
// those of every other client. Under apart the first half has the creates and
// the second half their updates.
func makeFlushes(b *testing.B, templates templates, how pairing, n, client int) []flush {
	b.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	list := make([]flush, n)
	for i := range list {
		number := i
		if how == apart {
			number = i % (n / 2)
		}
		raw := templates.creates[number%len(templates.creates)]
		if how == apart && i >= n/2 {
			raw = templates.updates[number%len(templates.updates)]
		}
		raw = bytes.ReplaceAll(raw, []byte(idOfThis), fmt.Appendf(nil, "%02x%06x", client, number+1))
		raw = bytes.ReplaceAll(raw, []byte(idOfPrevious), fmt.Appendf(nil, "%02x%06x", client, number))
		list[i] = flush{body: enc.EncodeAll(raw, nil), raw: len(raw)}
	}
	return list
}

// templates are bodies with ids that are yet to be numbered.
type templates struct {
	creates [][]byte // under together and next with updates among them
	updates [][]byte // under apart only
}

// makeTemplates makes count different flushes with the operations of perFlush
// runs each. Their runs start now: the service refuses what is a day old.
func makeTemplates(how pairing, count, perFlush int) templates {
	g := llmspans.New(1)
	began := time.Now()
	var t templates
	runs := make([][]llmspans.Run, count)
	for n := range runs {
		for r := 0; r < perFlush; r += runsPerTrace {
			ids := make([]string, min(runsPerTrace, perFlush-r))
			for i := range ids {
				ids[i] = fmt.Sprintf("%s-%04x-7%03x-8000-00007fed0123", idOfThis, n, r+i)
			}
			runs[n] = append(runs[n], g.RunTrace(began, ids)...)
		}
	}
	for n := range runs {
		var creates, updates []byte
		for i, r := range runs[n] {
			creates = append(creates, r.Create...)
			switch how {
			case together:
				creates = append(creates, r.Update...)
			case next:
				before := runs[(n+count-1)%count][i].Update
				creates = append(creates, bytes.ReplaceAll(before, []byte(idOfThis), []byte(idOfPrevious))...)
			case apart:
				updates = append(updates, r.Update...)
			}
		}
		t.creates = append(t.creates, append(creates, llmspans.RunsEnd()...))
		if how == apart {
			t.updates = append(t.updates, append(updates, llmspans.RunsEnd()...))
		}
	}
	return t
}
