package sendtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	weirv1 "weir/proto/weir/v1"
	"weir/proxy"
	"weir/proxy/upstream"
)

// The reads (LangSmith API reference: query runs, read run).
const (
	pathQuery = "/runs/query"
	pathRun   = "/runs/"
)

// names reads the names of the trace's runs. refused is why LangSmith will not
// say, nil where it may say more later.
func (t *test) names(ctx context.Context) (names []string, refused *proxy.Answer) {
	body, _ := json.Marshal(map[string]any{"trace": t.trace.uuid(), "limit": 100}) // text and a number: cannot fail
	a := t.ask(ctx, pathQuery, body)
	var list struct {
		Runs []struct {
			Name string `json:"name"`
		} `json:"runs"`
	}
	if a.Status == http.StatusOK && json.Unmarshal(a.Body, &list) == nil && len(list.Runs) > 0 {
		for _, r := range list.Runs {
			names = append(names, r.Name)
		}
		return names, nil
	}
	if refuses(&a) {
		// Not every installation has the query; the run itself can be read, too.
		a = t.ask(ctx, pathRun+t.trace.uuid(), nil)
		var run struct {
			Name string `json:"name"`
		}
		if a.Status == http.StatusOK && json.Unmarshal(a.Body, &run) == nil && run.Name != "" {
			return []string{run.Name}, nil
		}
		if a.Status != http.StatusNotFound && refuses(&a) {
			return nil, &a
		}
	}
	return nil, nil
}

func (t *test) ask(ctx context.Context, path string, body []byte) proxy.Answer {
	return t.Upstream.Ask(ctx, &proxy.Question{
		Path: path, Body: body, APIKey: t.Destination.APIKey, Workspace: t.Destination.Workspace,
	})
}

// refuses reports whether asking again is no use.
func refuses(a *proxy.Answer) bool {
	return a.Status >= http.StatusBadRequest && a.Status < http.StatusInternalServerError && a.Status != http.StatusTooManyRequests &&
		a.Status != http.StatusRequestTimeout
}

// readBack waits until LangSmith shows the trace.
func (t *test) readBack(ctx context.Context) error {
	began := time.Now()
	var refused *proxy.Answer
	found := false
	_, err := t.poll(ctx, t.timeout, readFirst, readCap, func(ctx context.Context) bool {
		var names []string
		names, refused = t.names(ctx)
		found = slices.Contains(names, RunName)
		return found || refused != nil
	})
	switch {
	case err != nil:
		return err
	case found:
		t.readIn = time.Since(began)
		return t.done(stepReadBack, began, fmt.Sprintf("LangSmith shows run %q of trace %s", RunName, t.trace.uuid()))
	case refused != nil:
		return t.failed(stepReadBack, began, stuck{
			reason: fmt.Sprintf("http_%d", refused.Status), person: true,
			seen:   fmt.Sprintf("LangSmith took the trace, but does not let this key read it back (%d%s)", refused.Status, quotedBody(string(refused.Body))),
			remedy: "Look for trace " + t.trace.uuid() + " in LangSmith, or use a key that may read runs.",
		})
	default:
		return t.failed(stepReadBack, began, stuck{
			reason: "not_read_back",
			seen:   "LangSmith took the trace, and does not show it after " + t.timeout.String() + ": it is slow, or has lost it",
			remedy: "Try again with a longer --timeout, and look for trace " + t.trace.uuid() + " in LangSmith.",
		})
	}
}

// wantsZstd reports whether zstd is to be tried.
func (t *test) wantsZstd(asked weirv1.SendTestZstd) bool {
	switch asked {
	case weirv1.SendTestZstd_SEND_TEST_ZSTD_YES:
		return true
	case weirv1.SendTestZstd_SEND_TEST_ZSTD_NO:
		return false
	default:
		return t.Upstream.Automatic() && t.Proof.Known() == ZstdUnknown
	}
}

// tryZstd sends two spans more of the trace in two zstd frames, as weir sends
// what it has stored, and then a third in gzip. They are read back: once the
// third is there, the others must be, too, or are lost. It goes past the
// pipeline, whose data must not be at risk, and costs no trace: the trace is
// counted. The hourly limits miss three events.
func (t *test) tryZstd(ctx context.Context) error {
	began := time.Now()
	inZstd := t.send(ctx, upstream.EncodingZstd, nameFrame1, nameFrame2)
	refused := inZstd.Kind == proxy.Refused && inZstd.Refusal == proxy.RefusedEncoding
	if inZstd.Kind != proxy.Delivered && !refused {
		return t.zstdUnknown(ctx, began, "LangSmith did not take the spans in zstd: "+inZstd.Reason)
	}
	if inGzip := t.send(ctx, upstream.EncodingGzip, nameGzip); inGzip.Kind != proxy.Delivered {
		return t.zstdUnknown(ctx, began, "LangSmith did not take the control in gzip: "+inGzip.Reason)
	}
	if refused {
		return t.zstdSettled(began, ZstdRefused)
	}
	names, err := t.awaitZstd(ctx)
	if err != nil {
		return err
	}
	has := func(name string) bool { return slices.Contains(names, name) }
	switch {
	case has(nameFrame1) && has(nameFrame2):
		return t.zstdSettled(began, ZstdProven)
	case !has(nameGzip):
		return t.zstdUnknown(ctx, began, "LangSmith showed neither the spans in zstd nor the control in gzip within "+t.timeout.String())
	case has(nameFrame1):
		return t.zstdSettled(began, ZstdFirstFrame)
	default:
		return t.zstdSettled(began, ZstdLost)
	}
}

// awaitZstd reads the trace until the spans in zstd are there, or the control is
// and the time is up that they may take longer. It returns what was there last.
func (t *test) awaitZstd(ctx context.Context) (names []string, err error) {
	var judged time.Time // zero: the control is not there yet
	_, err = t.poll(ctx, t.timeout+grace/t.Hurry, readFirst, readCap, func(ctx context.Context) bool {
		if now, _ := t.names(ctx); len(now) > 0 {
			names = now
		}
		if slices.Contains(names, nameFrame1) && slices.Contains(names, nameFrame2) {
			return true
		}
		if judged.IsZero() && slices.Contains(names, nameGzip) {
			judged = time.Now().Add(max(grace/t.Hurry, 2*t.readIn))
		}
		return !judged.IsZero() && time.Now().After(judged)
	})
	return names, err
}

func (t *test) send(ctx context.Context, e upstream.Encoding, names ...string) proxy.Outcome {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	spans := make([][]byte, len(names))
	for i, name := range names {
		spans[i] = t.trace.span(name)
	}
	return t.Upstream.SendAs(ctx, t.request(spans...), e)
}

// zstdUnknown reports that zstd could not be settled.
func (t *test) zstdUnknown(ctx context.Context, began time.Time, seen string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.step(step(stepZstd, false, began, seen+". What is known of zstd stays: "+t.result.GetZstd()+"."))
}

// zstdSettled keeps and reports what was found out about zstd.
func (t *test) zstdSettled(began time.Time, word string) error {
	seen := zstdSays[word]
	t.result.Zstd = word
	err := t.Proof.Keep(word)
	switch {
	case err != nil:
		seen += " That is not kept: " + err.Error() + "."
	case !t.Upstream.Automatic():
		seen += " The configured encoding stays in use."
	case word == ZstdProven:
		seen += " weir uses it from now on."
	default:
		seen += " weir stays with gzip."
	}
	return t.step(step(stepZstd, err == nil, began, seen))
}

var zstdSays = map[string]string{
	ZstdProven:     "LangSmith takes OTLP in zstd, several frames in a request: they were read back.",
	ZstdFirstFrame: "LangSmith reads only the first of several zstd frames.",
	ZstdLost:       "LangSmith answers 200 to OTLP in zstd and loses it: a span in gzip was read back, those in zstd were not.",
	ZstdRefused:    "LangSmith refuses OTLP in zstd (415).",
}
