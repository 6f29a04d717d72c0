package upstream

import (
	"net/http/httptest"
	"testing"

	"weir/internal/smith"
	"weir/proxy"
)

// clientOf returns a client of a look-alike.
func clientOf(t *testing.T, s *smith.Server, cfg Config) *Client {
	t.Helper()
	front := httptest.NewServer(s)
	t.Cleanup(front.Close)
	cfg.BaseURL = front.URL
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = c.Close(), s.Close() // neither fails
	})
	return c
}

// TestAutoUsesWhatIsProven goes from proof to refusal and back.
func TestAutoUsesWhatIsProven(t *testing.T) {
	c := clientOf(t, smith.New(smith.Config{}), Config{})
	want := func(when string, e Encoding) {
		t.Helper()
		if got := c.Encoding(); got != e {
			t.Errorf("%s: %s, want %s", when, got, e)
		}
	}
	want("at first", EncodingGzip)
	c.Prove(EncodingZstd, true)
	c.Prove(EncodingZstd, true)
	want("proven", EncodingZstd)
	c.remember(shapeOTLP, []Encoding{EncodingZstd})
	want("proven, and refused since", EncodingGzip)
	c.Prove(EncodingZstd, true)
	want("refused, and proven since", EncodingZstd)
	c.Prove(EncodingZstd, false)
	want("not read back any more", EncodingGzip)

	known := clientOf(t, smith.New(smith.Config{}), Config{ProvenEncodings: []Encoding{EncodingZstd}})
	if got := known.Encoding(); got != EncodingZstd || !known.Automatic() {
		t.Errorf("proven before: %s", got)
	}
	chosen := clientOf(t, smith.New(smith.Config{}), Config{Encoding: EncodingGzip, ProvenEncodings: []Encoding{EncodingZstd}})
	if got := chosen.Encoding(); got != EncodingGzip || chosen.Automatic() {
		t.Errorf("another one configured: %s", got)
	}
}

// TestSendAsFallsBackToNothing: a test must know in what it was sent.
func TestSendAsFallsBackToNothing(t *testing.T) {
	s := smith.New(smith.Config{Switches: smith.Switches{OTLPZstd: smith.Unsupported}, Keep: smith.KeepCounts})
	c := clientOf(t, s, Config{})
	r := newRequest() // a message of no spans
	r.Parts = []proxy.Part{plainPart([]byte{0x0a, 0x00})}
	if out := c.SendAs(t.Context(), r, EncodingZstd); out.Kind != proxy.Refused || out.Refusal != proxy.RefusedEncoding || out.Exchange.Encoding != "zstd" {
		t.Errorf("in zstd: %+v", out)
	}
	if n := s.Stats().Requests; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	if out := c.SendAs(t.Context(), r, EncodingIdentity); out.Kind != proxy.Delivered || out.Exchange.Encoding != "" {
		t.Errorf("as it is: %+v", out)
	}
	if got := c.Encoding(); got != EncodingGzip {
		t.Errorf("afterwards: %s, want gzip, of which nothing is known", got)
	}
}

func TestAskPostsABody(t *testing.T) {
	c := clientOf(t, smith.New(smith.Config{}), Config{})
	a := c.Ask(t.Context(), &proxy.Question{Path: "/runs/query", APIKey: testKey, Body: []byte(`{"limit":1}`)})
	if a.Status != 200 || string(a.Body) != `{"cursors":{"next":null,"prev":null},"runs":[]}` {
		t.Errorf("answer %d %s, %v", a.Status, a.Body, a.Err)
	}
}
