package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"weir/proxy"
	"weir/proxy/upstream"
)

// TestAKeyIsNotSentToTheNextUpstream: a reload changes the client while requests
// are being made that hold the key of the upstream before.
func TestAKeyIsNotSentToTheNextUpstream(t *testing.T) {
	asked := 0
	next := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer next.Close()
	client, err := upstream.New(upstream.Config{BaseURL: next.URL})
	if err != nil {
		t.Fatal(err)
	}
	var s sender
	s.now.Store(&connection{Client: client, url: next.URL})
	defer s.Close() //nolint:errcheck // it always succeeds
	r := proxy.Request{
		Protocol: proxy.ProtocolOTLP, Upstream: "https://before.example.com", APIKey: "lsv2_pt_before", Items: 1,
		Parts: []proxy.Part{{Payload: []byte{10, 0}, RawBytes: 2}},
	}
	if out := s.Send(t.Context(), &r); out.Kind != proxy.Retry || out.MayHaveArrived || asked > 0 {
		t.Errorf("outcome %+v, and %d requests were sent", out, asked)
	}
	r.Upstream = next.URL
	if out := s.Send(t.Context(), &r); asked != 1 {
		t.Errorf("%d requests were sent to the upstream they are for: %+v", asked, out)
	}
}
