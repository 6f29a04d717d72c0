package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weir/internal/callerheaders"
)

// importCmd is `weir import`.
type importCmd struct {
	Dir    string `arg:"" name:"path" help:"The directory that LANGSMITH_FAILED_TRACES_DIR named, or a file that weir quarantine export wrote."`
	DryRun bool   `name:"dry-run" help:"Only say what would be taken in."`
	JSON   bool   `name:"json" help:"Print the report as JSON."`
	adminFlags
}

// importRecord lists what was taken in, so that nothing is twice. It lies in
// the directory itself: a line a file, its SHA-256 and its name.
const importRecord = ".weir-imported"

const (
	importTimeout  = 2 * time.Minute // of one file, waits included
	importPauseMax = 10 * time.Second
	importPause    = time.Second
	maxAnswerBytes = 4 << 10
)

// What became of a file.
const (
	importDone    = "imported"
	importBefore  = "imported before"
	importWould   = "would be imported"
	importNotOne  = "passed over"
	importRefused = "refused"
)

// importedFile is one row of the report.
type importedFile struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
}

func (c *importCmd) run(ctx context.Context, inv *invocation) error {
	s, err := inv.settings(c.configFlag)
	if err != nil {
		return err
	}
	if s.HTTPAddr.off() {
		return &exitError{code: exitUsage, err: fmt.Errorf("http_addr is off (%s): there is no address to send to; give one with --http-addr", s.from("http_addr"))}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := s.clientFor(s.HTTPAddr)
	if err != nil {
		return err
	}
	im := &importer{
		dir: c.Dir, dry: c.DryRun, addr: s.HTTPAddr, base: s.ingestBase(), token: s.Access.IngestToken,
		client: client, done: map[string]bool{},
	}
	defer im.client.CloseIdleConnections()
	files, err := im.all(ctx)
	if err != nil && len(files) == 0 {
		return err
	}
	if c.JSON {
		err = errors.Join(err, printJSON(inv.Out, map[string]any{"files": files}))
	} else {
		writeImported(&inv.console, c.Dir, files)
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Result == importRefused || f.Result == importNotOne || f.Result == importPart {
			return &exitError{code: exitFailed}
		}
	}
	return nil
}

// clientFor reaches weir's HTTP listener, also at a unix socket.
func (s *settings) clientFor(addr listenAddr) (*http.Client, error) {
	transport := &http.Transport{DisableCompression: true}
	if s.Access.TLS.on() {
		var err error
		if transport.TLSClientConfig, err = s.clientTLS(string(addr), s.Access.TLS); err != nil {
			return nil, err
		}
	}
	if path, isSocket := addr.socket(); isSocket {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// ingestBase is the URL of the HTTP listener for a client of clientFor.
func (s *settings) ingestBase() string {
	base := clientEndpoint(s.HTTPAddr)
	if _, isSocket := s.HTTPAddr.socket(); isSocket {
		return "http://localhost"
	}
	if s.Access.TLS.on() {
		return overTLS(base)
	}
	return base
}

// importer takes in the files of one directory, or one export.
type importer struct {
	dir    string
	export bool // one file of dir is taken in, which weir wrote itself
	dry    bool
	addr   listenAddr
	base   string // of URLs
	token  secret // what weir asks for; empty: nothing
	client *http.Client
	done   map[string]bool // SHA-256 of what was taken in, in hex
	record *os.File        // nil until something is
}

// all takes in every file. It stops early, with what it has done, when weir
// cannot be reached or the record not be written.
func (im *importer) all(ctx context.Context) (files []importedFile, err error) {
	names, err := im.names()
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if err := im.readRecord(); err != nil {
		return nil, fmt.Errorf("import: read what was imported before: %w", err)
	}
	defer func() {
		if im.record != nil {
			err = errors.Join(err, im.record.Close())
		}
	}()
	for _, name := range names {
		take := im.one
		if im.export {
			take = func(ctx context.Context, name string) (importedFile, error) {
				return im.lines(ctx, filepath.Join(im.dir, name))
			}
		}
		f, err := take(ctx, name)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

// names are the files to take in: those of the directory, or the one that was
// named.
func (im *importer) names() (names []string, err error) {
	switch info, err := os.Stat(im.dir); {
	case err != nil:
		return nil, err
	case !info.IsDir():
		names = []string{filepath.Base(im.dir)}
		im.dir, im.export = filepath.Dir(im.dir), true
		return names, nil
	}
	entries, err := os.ReadDir(im.dir)
	for _, entry := range entries {
		if !entry.IsDir() && filepath.Ext(entry.Name()) == ".json" {
			names = append(names, entry.Name())
		}
	}
	return names, err
}

// one takes in a file. An error ends the whole import.
func (im *importer) one(ctx context.Context, name string) (importedFile, error) {
	f := importedFile{File: name}
	e, body, err := readEnvelope(filepath.Join(im.dir, name))
	if err != nil {
		f.Result, f.Detail = importNotOne, err.Error()
		return f, nil
	}
	f.Bytes = int64(len(body))
	sum := sha256.Sum256(append([]byte(name+"\x00"), body...))
	id := hex.EncodeToString(sum[:])
	switch {
	case im.done[id]:
		f.Result = importBefore
		return f, nil
	case im.dry:
		f.Result = importWould
		return f, nil
	}
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	refusal, err := im.send(ctx, &e, body)
	switch {
	case err != nil:
		return f, err
	case refusal != "":
		f.Result, f.Detail = importRefused, refusal
		return f, nil
	}
	f.Result = importDone
	return f, im.note(id, name)
}

// send posts an envelope's request to weir until it is taken or refused for
// good; refusal is then weir's own words.
func (im *importer) send(ctx context.Context, e *envelope, body []byte) (refusal string, err error) {
	return im.post(ctx, func(ctx context.Context, base string) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/"+strings.Trim(e.Endpoint, "/"), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		for name, value := range e.Headers {
			for _, known := range envelopeHeaders {
				if strings.EqualFold(name, known) {
					req.Header.Set(known, value)
				}
			}
		}
		return req, nil
	})
}

// post sends a request to weir, made anew for each attempt, until it is taken or
// refused for good.
func (im *importer) post(ctx context.Context, request func(ctx context.Context, base string) (*http.Request, error)) (refusal string, err error) {
	for {
		req, err := request(ctx, im.base)
		if err != nil {
			return "", fmt.Errorf("import: %w", err)
		}
		if im.token != "" {
			req.Header.Set(callerheaders.TokenHeader, im.token.reveal())
		}
		res, err := im.client.Do(req)
		if err != nil {
			return "", &exitError{code: exitUnreachable, err: fmt.Errorf(
				"import: no weir answers at %s (http_addr): %w\nStart one with `weir run`, or say where it is with --http-addr; what was imported so far is noted", im.addr, err)}
		}
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes)) // what cannot be read says less
		_ = res.Body.Close()
		switch {
		case res.StatusCode == http.StatusAccepted || res.StatusCode == http.StatusOK:
			return "", nil
		case res.StatusCode != http.StatusServiceUnavailable:
			return fmt.Sprintf("HTTP %d: %s", res.StatusCode, answerText(text)), nil
		}
		wait := time.NewTimer(pauseOf(res.Header.Get("Retry-After")))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return "", fmt.Errorf("import: weir takes no data: %s", answerText(text))
		}
	}
}

// pauseOf reads a Retry-After in seconds.
func pauseOf(header string) time.Duration {
	seconds, err := strconv.Atoi(header)
	if err != nil || seconds < 1 {
		return importPause
	}
	return min(importPauseMax, time.Duration(seconds)*time.Second)
}

// answerText is the sentence in an answer.
func answerText(body []byte) string {
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &said) == nil && said.Error != "" {
		return said.Error
	}
	return strings.TrimSpace(string(body))
}

// readRecord reads what was imported before.
func (im *importer) readRecord() error {
	b, err := os.ReadFile(filepath.Join(im.dir, importRecord))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		id, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		im.done[id] = true
	}
	return err
}

// note makes it durable that a file was imported.
func (im *importer) note(id, name string) error {
	if im.record == nil {
		f, err := os.OpenFile(filepath.Join(im.dir, importRecord), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("import: note that %s was imported: %w; it would be imported again", name, err)
		}
		im.record = f
	}
	_, err := fmt.Fprintf(im.record, "%s  %s\n", id, name)
	if err := errors.Join(err, im.record.Sync()); err != nil {
		return fmt.Errorf("import: note that %s was imported: %w; it would be imported again", name, err)
	}
	im.done[id] = true
	return nil
}

// writeImported prints the report for people.
func writeImported(con *console, dir string, files []importedFile) {
	if len(files) == 0 {
		fmt.Fprintf(con.Out, "Nothing to import: %s holds no *.json file.\n", oneLine(dir, maxSentence))
		return
	}
	counts := map[string]int{}
	rows := make([][]cell, len(files))
	for i, f := range files {
		counts[f.Result]++
		result := cell{text: f.Result}
		switch f.Result {
		case importDone:
			result.style = green
		case importRefused, importNotOne, importPart:
			result.style = yellow
		}
		size := ""
		if f.Bytes > 0 {
			size = humanBytes(f.Bytes)
		}
		rows[i] = []cell{{text: oneLine(f.File, maxSentence)}, {text: size}, result, {text: oneLine(f.Detail, maxSentence)}}
	}
	writeTable(con.Out, []column{{title: "FILE"}, {title: "SIZE", right: true}, {title: "RESULT"}, {title: "WHY"}}, rows, con.OutColor)
	var parts []string
	for _, result := range []string{importDone, importPart, importBefore, importWould, importRefused, importNotOne} {
		if n := counts[result]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, result))
		}
	}
	fmt.Fprintf(con.Out, "\n%s.\n", strings.Join(parts, ", "))
}
