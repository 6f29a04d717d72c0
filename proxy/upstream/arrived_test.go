package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"

	"weir/proxy"
)

// TestLostAnswersAreSaidToBe: only where the upstream may have taken a request
// without saying so may a later 409 count as delivered.
func TestLostAnswersAreSaidToBe(t *testing.T) {
	says := func(status, more string) func(*net.TCPConn, *bufio.Reader) {
		return func(c *net.TCPConn, r *bufio.Reader) {
			readRequest(r, true)
			_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\n"+more)
		}
	}
	const empty = "Content-Length: 0\r\n\r\n"
	duplicate := want{proxy.Refused, "duplicate", proxy.ScopeLane, proxy.RefusedDuplicate}
	tests := []struct {
		name    string
		serve   func(*net.TCPConn, *bufio.Reader)
		want    want
		arrived bool
		otlp    bool // the same where spans were sent
	}{
		{"closed after the request", func(_ *net.TCPConn, r *bufio.Reader) { readRequest(r, true) }, wantRetry("network"), true, true},
		{"half an acknowledgement", says("202 Accepted", "Content-Length: 99\r\n\r\n{"), wantRetry("network"), true, true},
		{"a gateway without an answer", says("504 Gateway Timeout", empty), wantRetry("http_504"), true, false},
		{"a gateway with a broken one", says("502 Bad Gateway", empty), wantRetry("http_502"), true, false},
		{"Cloudflare without an answer", says("524 Timeout", empty), wantRetry("http_524"), true, false},
		{"unavailable", says("503 Service Unavailable", empty), wantRetry("http_503"), false, false},
		{"an error", says("500 Internal Server Error", empty), wantRetry("http_500"), false, false},
		{"too many", says("429 Too Many Requests", empty), want{kind: proxy.Retry, reason: "rate", scope: proxy.ScopeCredential}, false, false},
		{"a duplicate the first time", says("409 Conflict", empty), duplicate, false, false},
		{"bad content", says("422 Unprocessable Entity", empty), wantContent("http_422"), false, false},
		{"taken", says("202 Accepted", empty), wantDelivered, false, false},
	}
	for _, tt := range tests {
		requests := map[string]*proxy.Request{
			"runs": smallRuns(), "call": aCall("POST", "/feedback", "{}"), "call without a body": aCall("DELETE", "/feedback/1", ""),
			"otlp": small(),
		}
		for kind, r := range requests {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				c := newTestClient(t, rawServer(t, func(_ int, conn *net.TCPConn, r *bufio.Reader) { tt.serve(conn, r) }), nil)
				out := send(t, c, r)
				expected, arrived := tt.want, tt.arrived
				if kind == "otlp" {
					arrived = tt.otlp
					if expected == duplicate {
						expected = wantContent("http_409")
					}
				}
				check(t, out, expected)
				if out.MayHaveArrived != arrived {
					t.Errorf("may have arrived: %v, want %v", out.MayHaveArrived, arrived)
				}
			})
		}
	}
	for kind, r := range map[string]*proxy.Request{"runs": smallRuns(), "call without a body": aCall("DELETE", "/feedback/1", "")} {
		t.Run("nobody listens/"+kind, func(t *testing.T) {
			out := send(t, newTestClient(t, "http://127.0.0.1:1", nil), r)
			check(t, out, wantRetry("network"))
			if out.MayHaveArrived {
				t.Error("a request that was not sent is said to have arrived")
			}
		})
	}
}

// TestDuplicateAfterALostAnswer: an idle connection ends under a request, which
// goes again on another, where the upstream has it already.
func TestDuplicateAfterALostAnswer(t *testing.T) {
	const ok = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	for _, whole := range []bool{true, false} {
		t.Run(fmt.Sprintf("read whole %v", whole), func(t *testing.T) {
			base := rawServer(t, func(n int, conn *net.TCPConn, r *bufio.Reader) {
				readRequest(r, true)
				if n > 0 {
					_, _ = io.WriteString(conn, "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
					return
				}
				_, _ = io.WriteString(conn, ok)
				readRequest(r, whole)
			})
			c := newTestClient(t, base, nil)
			check(t, send(t, c, smallRuns()), wantDelivered)
			r := newRunsRequest(someRuns(1)...)
			r.Runs[0].Body = noise(16 << 20) // more than sockets hold
			out := send(t, c, r)
			check(t, out, want{proxy.Refused, "duplicate", proxy.ScopeLane, proxy.RefusedDuplicate})
			if out.MayHaveArrived != whole {
				t.Errorf("may have arrived: %v, want %v", out.MayHaveArrived, whole)
			}
		})
	}
}

// TestARefusedEncodingDoesNotHideALostAnswer: the first answer was lost, the
// second refused the encoding, and then the upstream has it already, or is gone.
func TestARefusedEncodingDoesNotHideALostAnswer(t *testing.T) {
	const closing = "Connection: close\r\nContent-Length: 0\r\n\r\n"
	tests := []struct {
		name, last string
		want       want
	}{
		{"duplicate", "HTTP/1.1 409 Conflict\r\n" + closing, want{proxy.Refused, "duplicate", proxy.ScopeLane, proxy.RefusedDuplicate}},
		{"gone", "", wantRetry("network")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := rawServer(t, func(n int, conn *net.TCPConn, r *bufio.Reader) {
				switch n {
				case 0:
					readRequest(r, true)
					_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
					readRequest(r, true)
				case 1:
					readRequest(r, true)
					_, _ = io.WriteString(conn, "HTTP/1.1 415 Unsupported Media Type\r\n"+closing)
				default:
					readRequest(r, tt.last != "")
					_, _ = io.WriteString(conn, tt.last)
				}
			})
			c := newTestClient(t, base, nil)
			check(t, send(t, c, smallRuns()), wantDelivered)
			r := newRunsRequest(someRuns(1)...)
			r.Runs[0].Body = noise(16 << 20) // more than sockets hold
			out := send(t, c, r)
			check(t, out, tt.want)
			if !out.MayHaveArrived {
				t.Error("the first attempt is forgotten")
			}
		})
	}
}

// TestHalfAnAcknowledgementIsNoNo: it broke off while the upload went on.
func TestHalfAnAcknowledgementIsNoNo(t *testing.T) {
	base := rawServer(t, func(_ int, conn *net.TCPConn, r *bufio.Reader) {
		readRequest(r, false)
		_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 99\r\n\r\n{")
		_ = conn.CloseWrite()
		<-t.Context().Done() // reads no more
	})
	r := newRunsRequest(someRuns(1)...)
	r.Runs[0].Body = noise(16 << 20)
	out := send(t, newTestClient(t, base, nil), r)
	check(t, out, wantRetry("network"))
	if !out.MayHaveArrived {
		t.Error("what was half acknowledged is said not to have arrived")
	}
}
