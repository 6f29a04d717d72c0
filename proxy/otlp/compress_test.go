package otlp

import (
	"bytes"
	"io"
	"testing"

	"google.golang.org/grpc/encoding"

	"weir/internal/llmspans"
)

func TestCompressorsOfGRPC(t *testing.T) {
	payload, _ := llmspans.New(1).Request(50)
	for _, name := range []string{nameGzip, nameZstd} {
		c := encoding.GetCompressor(name)
		if c == nil {
			t.Fatalf("%s is not registered", name)
		}
		for range 3 { // the pools give out what was used before
			var out bytes.Buffer
			w, err := c.Compress(&out)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(payload); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			// Both formats may be concatenated.
			z := append(bytes.Clone(out.Bytes()), out.Bytes()...)
			if got := decompress(t, c, z); !bytes.Equal(got, bytes.Repeat(payload, 2)) {
				t.Errorf("%s: %d bytes became %d", name, 2*len(payload), len(got))
			}
		}
	}
}

func decompress(t *testing.T, c encoding.Compressor, z []byte) []byte {
	t.Helper()
	r, err := c.Decompress(bytes.NewReader(z))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFailedDecompressionFreesItsSlot would wait for ever if it did not.
func TestFailedDecompressionFreesItsSlot(t *testing.T) {
	for _, name := range []string{nameGzip, nameZstd} {
		c := encoding.GetCompressor(name)
		for range 2*cap(slots) + 1 {
			for _, bad := range [][]byte{nil, []byte("neither of the two"), compress(t, name, []byte("cut off"))[:12]} {
				r, err := c.Decompress(bytes.NewReader(bad))
				if err != nil {
					continue
				}
				if _, err := io.ReadAll(r); err == nil && len(bad) > 0 {
					t.Errorf("%s: %q was decompressed", name, bad)
				}
				_ = r.(io.Closer).Close()
			}
		}
	}
}
