package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxEnvelopeBytes bounds a file that is read. The SDKs write requests of some
// 20 MiB, before compression.
const maxEnvelopeBytes = 256 << 20

// envelope is a request that a LangSmith SDK could not send and wrote to
// LANGSMITH_FAILED_TRACES_DIR (langsmith-sdk: client.py, client.ts).
type envelope struct {
	Version  int               `json:"version"`
	Endpoint string            `json:"endpoint"`
	Headers  map[string]string `json:"headers"`
	Body     string            `json:"body_base64"`
}

// envelopeHeaders are those of an envelope's headers that are sent on: what the
// body is, and whose it is.
var envelopeHeaders = []string{"Content-Type", "Content-Encoding", "X-Api-Key", "X-Tenant-Id", "Authorization"}

// readEnvelope reads an SDK's file; the error says why it is none.
func readEnvelope(path string) (e envelope, body []byte, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return e, nil, err
	case info.Size() > maxEnvelopeBytes:
		return e, nil, fmt.Errorf("it has %s, at most %s are read", humanBytes(info.Size()), humanBytes(maxEnvelopeBytes))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return e, nil, err
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, nil, fmt.Errorf("not an SDK's envelope: %w", err)
	}
	switch endpoint := strings.Trim(e.Endpoint, "/"); {
	case e.Version != 1:
		return e, nil, fmt.Errorf("an envelope of version %d; version 1 is known", e.Version)
	case endpoint != "runs/multipart" && endpoint != "runs/batch":
		return e, nil, fmt.Errorf("its endpoint is %q, not runs/multipart or runs/batch", e.Endpoint)
	}
	body, err = base64.StdEncoding.DecodeString(e.Body)
	if err != nil {
		return e, nil, fmt.Errorf("its body is damaged: %w", err)
	}
	if len(body) == 0 {
		return e, nil, errors.New("its body is empty")
	}
	return e, body, nil
}
