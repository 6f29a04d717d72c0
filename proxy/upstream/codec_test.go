package upstream

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"weir/proxy"
)

func newTestCodecs(t testing.TB) *codecs {
	t.Helper()
	c, err := newCodecs()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEncodeRoundTrips(t *testing.T) {
	a, b, c := payload(300_000), noise(70_000), []byte("x")
	tests := []struct {
		name  string
		parts []proxy.Part
		plain []byte
	}{
		{"one zstd part", []proxy.Part{zstdPart(t, a)}, a},
		{"one plain part", []proxy.Part{plainPart(a)}, a},
		{"many parts", []proxy.Part{zstdPart(t, a), plainPart(b), zstdPart(t, c), zstdPart(t, b)}, bytes.Join([][]byte{a, b, c, b}, nil)},
		{"an empty part between", []proxy.Part{zstdPart(t, a), zstdPart(t, nil), plainPart(nil), plainPart(c)}, append(bytes.Clone(a), c...)},
		{"two frames in a part", []proxy.Part{{Payload: append(bytes.Clone(zstdPart(t, a).Payload), zstdPart(t, b).Payload...), Zstd: true, RawBytes: len(a) + len(b)}}, append(bytes.Clone(a), b...)},
	}
	for _, tt := range tests {
		for _, e := range fallbacks {
			t.Run(tt.name+"/"+string(e), func(t *testing.T) {
				codecs := newTestCodecs(t)
				for round := range 3 { // pooled things must come back clean
					body, err := codecs.encode(tt.parts, e)
					if err != nil {
						t.Fatalf("encode: %v", err)
					}
					for range 2 { // a dead connection: the transport opens it again
						wire, err := io.ReadAll(iotest.HalfReader(body.reader()))
						if err != nil {
							t.Fatalf("read: %v", err)
						}
						if int64(len(wire)) != body.size {
							t.Errorf("round %d: %d bytes on the wire, announced %d", round, len(wire), body.size)
						}
						if got := decode(t, e.header(), wire); !bytes.Equal(got, tt.plain) {
							t.Errorf("round %d: %d bytes decoded differ from the %d stored", round, len(got), len(tt.plain))
						}
					}
					if sent, drained, err := body.progress(); sent != body.size || !drained || err != nil {
						t.Errorf("progress = %d, %v, %v after reading all %d", sent, drained, err, body.size)
					}
					body.release()
				}
			})
		}
	}
}

func TestEncodeZstdKeepsStoredBytes(t *testing.T) {
	a, b := zstdPart(t, payload(100_000)), zstdPart(t, payload(50_000))
	body, err := newTestCodecs(t).encode([]proxy.Part{a, b}, EncodingZstd)
	if err != nil {
		t.Fatal(err)
	}
	defer body.release()
	wire, err := io.ReadAll(body.reader())
	if err != nil || !bytes.Equal(wire, append(bytes.Clone(a.Payload), b.Payload...)) {
		t.Errorf("stored frames did not go out unchanged (%v)", err)
	}
}

func TestEncodeRefusesDamagedParts(t *testing.T) {
	good := zstdPart(t, payload(200_000))
	flipped := bytes.Clone(good.Payload)
	flipped[len(flipped)/2] ^= 0xff
	tests := []struct {
		name string
		part proxy.Part
	}{
		{"no zstd", proxy.Part{Payload: payload(1000), Zstd: true, RawBytes: 1000}},
		{"cut short", proxy.Part{Payload: good.Payload[:len(good.Payload)-9], Zstd: true, RawBytes: good.RawBytes}},
		{"a bit flipped", proxy.Part{Payload: flipped, Zstd: true, RawBytes: good.RawBytes}},
		{"larger than recorded", proxy.Part{Payload: good.Payload, Zstd: true, RawBytes: good.RawBytes - 1}},
		{"much larger than recorded", proxy.Part{Payload: good.Payload, Zstd: true, RawBytes: 1}},
		{"smaller than recorded", proxy.Part{Payload: good.Payload, Zstd: true, RawBytes: good.RawBytes + 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			codecs := newTestCodecs(t)
			parts := []proxy.Part{plainPart([]byte("before")), tt.part}
			if _, err := codecs.encode(parts, EncodingGzip); !errors.Is(err, errCorrupt) {
				t.Errorf("gzip: %v, want errCorrupt", err)
			}
			body, err := codecs.encode(parts, EncodingIdentity)
			if err != nil {
				t.Fatal(err)
			}
			defer body.release()
			if n, err := io.Copy(io.Discard, body.reader()); !errors.Is(err, errCorrupt) {
				t.Errorf("identity: read %d bytes of %d, %v, want errCorrupt", n, body.size, err)
			}
			if _, drained, err := body.progress(); drained || !errors.Is(err, errCorrupt) {
				t.Errorf("identity: drained %v, %v, want the damage noticed before the end", drained, err)
			}
			// What met damage must still serve the next request.
			next, err := codecs.encode([]proxy.Part{good}, EncodingGzip)
			if err != nil {
				t.Fatalf("after the damage: %v", err)
			}
			next.release()
		})
	}
}

func TestReleasedBodyIsNotReadAgain(t *testing.T) {
	for _, e := range fallbacks {
		t.Run(string(e), func(t *testing.T) {
			part := zstdPart(t, payload(1<<20))
			body, err := newTestCodecs(t).encode([]proxy.Part{part, part}, e)
			if err != nil {
				t.Fatal(err)
			}
			r := body.reader()
			var readers sync.WaitGroup
			begun := make(chan struct{})
			readers.Go(func() {
				p := make([]byte, 1000)
				for first := true; ; first = false {
					_, err := r.Read(p)
					if first {
						close(begun)
					}
					if err != nil {
						if !errors.Is(err, errRevoked) && !errors.Is(err, io.EOF) {
							t.Errorf("read: %v", err)
						}
						return
					}
				}
			})
			<-begun
			body.release()
			clear(part.Payload) // the race detector sees a reader that goes on
			readers.Wait()
			if _, err := body.reader().Read(make([]byte, 1)); !errors.Is(err, errRevoked) {
				t.Errorf("opened after release: %v, want errRevoked", err)
			}
			body.release()
			if err := r.Close(); err != nil {
				t.Errorf("Close after release: %v", err)
			}
		})
	}
}

func TestParseEncoding(t *testing.T) {
	for in, want := range map[string]Encoding{"": EncodingAuto, "auto": EncodingAuto, "ZSTD": EncodingZstd, "gzip": EncodingGzip, "Identity": EncodingIdentity} {
		if got, err := ParseEncoding(" " + in + "\n"); err != nil || got != want {
			t.Errorf("ParseEncoding(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	if got, err := ParseEncoding("brotli"); err == nil {
		t.Errorf("ParseEncoding(brotli) = %q, want an error", got)
	}
}
