package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"weir/proxy/exported"
	"weir/proxy/runs"
)

// Bounds of one request of an import, which a single item may pass.
const (
	importBatchBytes = 4 << 20
	importBatchItems = 100
)

// importPart: not all of a file was taken in; what was is noted.
const importPart = "imported in part"

// lines takes in an export of a quarantine. It goes on after the last item that
// was noted as taken in. An error ends the import; what was taken in before is
// noted.
func (im *importer) lines(ctx context.Context, path string) (importedFile, error) {
	out := importedFile{File: filepath.Base(path)}
	f, err := os.Open(path)
	if err != nil {
		return out, fmt.Errorf("import: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	sum := sha256.New()
	_, _ = io.WriteString(sum, out.File+"\x00") // hashes do not fail
	if out.Bytes, err = io.Copy(sum, f); err != nil {
		return out, fmt.Errorf("import: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return out, fmt.Errorf("import: %w", err)
	}
	id := hex.EncodeToString(sum.Sum(nil))
	if im.done[id] {
		out.Result = importBefore
		return out, nil
	}
	l := lineImport{im: im, id: id, name: out.File, r: exported.NewReader(f), cases: map[uint64]*exported.Case{}}
	defer func() {
		for name := range l.content {
			l.dropContent(lineItem{op: runs.Op{Blob: name}})
		}
	}()
	for noted := range im.done {
		if rest, ok := strings.CutPrefix(noted, id+":"); ok {
			at, _ := strconv.ParseInt(rest, 10, 64)
			l.from = max(l.from, at)
		}
	}
	return l.result(ctx, out)
}

// lineImport is the import of one export.
type lineImport struct {
	im   *importer
	id   string // of the file
	name string
	from int64 // items before this offset were taken in before
	r    *exported.Reader

	cases   map[uint64]*exported.Case
	batch   []lineItem
	bytes   int64 // of batch
	content map[string]*os.File
	taken   int64
	passed  int64 // taken in by an earlier import
	lost    int64 // what the export says it could not read
	ended   bool
}

// lineItem is one item of an export.
type lineItem struct {
	in      uint64  // its case
	op      runs.Op // of a run operation
	payload []byte  // of a span; nil for an operation
	end     int64   // the offset after its line
}

// refusedError is weir's refusal of an item, in its own words.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// result imports everything and reports.
func (l *lineImport) result(ctx context.Context, out importedFile) (importedFile, error) {
	err := l.all(ctx)
	refused, isRefusal := errors.AsType[refusedError](err)
	var fatal *exitError
	switch {
	case errors.As(err, &fatal), err != nil && ctx.Err() != nil:
		return out, err
	case isRefusal:
		out.Result, out.Detail = importPart, fmt.Sprintf("%s taken in, then: %s", plural(l.taken, "item", "items"), string(refused))
	case err != nil && l.taken == 0:
		out.Result, out.Detail = importNotOne, err.Error()
	case err != nil:
		out.Result, out.Detail = importPart, fmt.Sprintf("%s taken in, then: %v", plural(l.taken, "item", "items"), err)
	case !l.ended:
		out.Result, out.Detail = importPart, fmt.Sprintf("%s taken in; the file was cut off: it has no last line", plural(l.taken, "item", "items"))
	case l.im.dry:
		out.Result, out.Detail = importWould, plural(l.taken, "item", "items")
	default:
		out.Result, out.Detail = importDone, plural(l.taken, "item", "items")
		if err := l.im.note(l.id, l.name); err != nil {
			return out, err
		}
	}
	if l.passed > 0 {
		out.Detail += fmt.Sprintf(", %s imported before", humanCount(l.passed))
	}
	if l.lost > 0 {
		out.Detail += fmt.Sprintf("; %s could not be read when it was written", plural(l.lost, "item", "items"))
	}
	return out, nil
}

// all reads the lines and sends what they hold.
func (l *lineImport) all(ctx context.Context) error {
	for {
		line, err := l.r.Next()
		if errors.Is(err, io.EOF) {
			return l.flush(ctx)
		}
		if err != nil {
			return errors.Join(l.flush(ctx), err)
		}
		if err := l.take(ctx, line); err != nil {
			return err
		}
	}
}

// take takes one line.
func (l *lineImport) take(ctx context.Context, line *exported.Line) error {
	item := lineItem{in: line.Case, end: l.r.Offset()}
	switch line.Kind {
	case exported.KindCase:
		l.cases[line.Case] = line.About
		return nil
	case exported.KindUnreadable:
		l.lost += line.Items
		return nil
	case exported.KindEnd:
		l.ended = true
		return nil
	case exported.KindContent:
		return l.keepContent(line)
	case exported.KindSpan:
		item.payload = line.Payload
	case exported.KindRun:
		op, err := line.Operation()
		if err != nil {
			return fmt.Errorf("an operation that cannot be read: %w", err)
		}
		item.op = op
	default: // the beginning, and what a later version has besides
		return nil
	}
	if l.cases[item.in] == nil {
		return fmt.Errorf("an item of case %d before the case itself", item.in)
	}
	if item.end <= l.from {
		l.passed++
		l.dropContent(item)
		return nil
	}
	return l.add(ctx, item)
}

// add adds an item to the batch, and sends what stands in the batch where the
// two cannot share a request.
func (l *lineImport) add(ctx context.Context, item lineItem) error {
	size := int64(len(item.payload)) + item.op.Size()
	if n := len(l.batch); n > 0 {
		first := &l.batch[0]
		full := n >= importBatchItems || l.bytes+size > importBatchBytes
		attached := item.op.Kind == runs.Attachment // it goes with its run
		if first.in != item.in || (first.payload == nil) != (item.payload == nil) || first.op.Kind == runs.Call || item.op.Kind == runs.Call ||
			full && !attached {
			if err := l.flush(ctx); err != nil {
				return err
			}
		}
	}
	l.batch = append(l.batch, item)
	l.bytes += size
	if l.im.dry {
		return l.flush(ctx)
	}
	return nil
}

// flush sends the batch. Where weir refuses it, its items are sent one by one, up
// to the one that is refused.
func (l *lineImport) flush(ctx context.Context) error {
	batch := l.batch
	l.batch, l.bytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	defer l.dropContent(batch...)
	if l.im.dry {
		l.taken += int64(len(batch))
		return nil
	}
	err := l.send(ctx, batch)
	if _, isRefusal := errors.AsType[refusedError](err); !isRefusal || len(batch) == 1 {
		return err
	}
	for i := range batch {
		if err := l.send(ctx, batch[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// send sends items as one request, and notes that they were taken.
func (l *lineImport) send(ctx context.Context, items []lineItem) error {
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	refusal, err := l.im.post(ctx, func(ctx context.Context, base string) (*http.Request, error) { return l.request(ctx, base, items) })
	switch {
	case err != nil:
		return err
	case refusal != "":
		return refusedError(refusal)
	}
	l.taken += int64(len(items))
	return l.im.note(l.id+":"+strconv.FormatInt(items[len(items)-1].end, 10), l.name)
}

// request makes the request of some items.
func (l *lineImport) request(ctx context.Context, base string, items []lineItem) (*http.Request, error) {
	first, about := &items[0], l.cases[items[0].in]
	var req *http.Request
	var err error
	switch {
	case first.payload != nil:
		var body []byte // messages concatenate
		for i := range items {
			body = append(body, items[i].payload...)
		}
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/traces", bytes.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-protobuf")
			if about.Project != "" {
				req.Header.Set("Langsmith-Project", about.Project)
			}
		}
	case first.op.Kind == runs.Call:
		req, err = http.NewRequestWithContext(ctx, first.op.Method, base+first.op.Path, bytes.NewReader(first.op.Body))
		if err == nil {
			req.Header.Set("Content-Type", first.op.ContentType)
		}
	default:
		req, err = l.form(ctx, base, items)
	}
	if err != nil {
		return nil, err
	}
	if about.OwnKey && about.Workspace != "" { // else it is that of a key which is not here
		req.Header.Set("X-Tenant-Id", about.Workspace)
	}
	return req, nil
}

// form makes a multipart request of run operations.
func (l *lineImport) form(ctx context.Context, base string, items []lineItem) (*http.Request, error) {
	ops := make([]*runs.Op, len(items))
	for i := range items {
		ops[i] = &items[i].op
	}
	form := runs.NewForm(ops)
	var parts []io.Reader
	var head []byte
	pieces := form.Pieces()
	for {
		piece, ok := pieces.Next()
		if !ok {
			break
		}
		head = append(head, piece.Bytes...)
		if piece.Blob == nil {
			continue
		}
		content := l.content[piece.Blob.Blob]
		if content == nil {
			return nil, fmt.Errorf("attachment %q of run %s has no content in the file", piece.Blob.Name, piece.Blob.ID)
		}
		parts = append(parts, bytes.NewReader(head), io.NewSectionReader(content, 0, piece.Blob.BlobBytes))
		head = nil
	}
	parts = append(parts, bytes.NewReader(head))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/runs/multipart", io.MultiReader(parts...))
	if err != nil {
		return nil, err
	}
	req.ContentLength = form.Size()
	req.Header.Set("Content-Type", form.ContentType())
	return req, nil
}

// keepContent keeps a piece of an attachment until the operation comes that has
// it. It is too large to be held in memory.
func (l *lineImport) keepContent(line *exported.Line) error {
	if l.im.dry || l.r.Offset() <= l.from {
		return nil
	}
	f := l.content[line.Content]
	if f == nil {
		var err error
		if f, err = os.CreateTemp("", "weir-import-*"); err != nil {
			return fmt.Errorf("keep an attachment: %w", err)
		}
		if l.content == nil {
			l.content = map[string]*os.File{}
		}
		l.content[line.Content] = f
	}
	if _, err := f.Write(line.Data); err != nil {
		return fmt.Errorf("keep an attachment: %w", err)
	}
	return nil
}

// dropContent removes what keepContent kept for items.
func (l *lineImport) dropContent(items ...lineItem) {
	for i := range items {
		if f := l.content[items[i].op.Blob]; f != nil {
			_ = f.Close() // of no use any more
			_ = os.Remove(f.Name())
			delete(l.content, items[i].op.Blob)
		}
	}
}
