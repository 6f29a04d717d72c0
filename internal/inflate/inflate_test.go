package inflate_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/internal/inflate"
)

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstandard(t *testing.T, text string, opts ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, append(opts, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAllMembersAreReadAndDamageIsAnError(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		open func(io.Reader) (io.ReadCloser, error)
		one  []byte
	}{
		"gzip": {inflate.Gzip, gzipped(t, "hello")},
		"zstd": {inflate.Zstd, zstandard(t, "hello")},
	} {
		for body, want := range map[string]string{
			string(tc.one):                    "hello",
			string(tc.one) + string(tc.one):   "hellohello",
			string(tc.one[:len(tc.one)-1]):    "error",
			string(tc.one) + "and some more.": "error",
		} {
			r, err := tc.open(bytes.NewReader([]byte(body)))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := io.ReadAll(r)
			switch {
			case want == "error" && err == nil:
				t.Errorf("%s: %q was taken for whole", name, body)
			case want != "error" && (err != nil || string(got) != want):
				t.Errorf("%s: got %q, error %v", name, got, err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
	}
}

func TestALargeWindowIsRefused(t *testing.T) {
	t.Parallel()
	frame := zstandard(t, string(make([]byte, 32<<20)), zstd.WithWindowSize(16<<20))
	r, err := inflate.Zstd(bytes.NewReader(frame))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err == nil {
		t.Errorf("%d bytes came out of a frame with a window of 16 MiB", n)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
