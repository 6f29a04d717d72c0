package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name    string
		in      []string
		want    string
		wantErr string
	}{
		{
			name: "passing tests are counted and quiet",
			in: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/sub"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"PASS\n"}`,
				`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
				`{"Action":"pass","Package":"p"}`,
			},
			want: "ok  \tp\t0.1s\n2 passed, 0 failed\n",
		},
		{
			name: "failing tests are shown",
			in: []string{
				`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: wrong\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want:    "    a_test.go:1: wrong\n--- FAIL: TestA (0.00s)\nFAIL\tp\t0.1s\n0 passed, 1 failed\n",
			wantErr: "there are failures",
		},
		{
			name: "a package that does not build is a failure",
			in: []string{
				`{"ImportPath":"p","Action":"build-output","Output":"# p\n"}`,
				`{"ImportPath":"p","Action":"build-fail"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`,
				`{"Action":"fail","Package":"p"}`,
				`{"Action":"pass","Package":"q","Test":"TestB"}`,
			},
			want:    "# p\nFAIL\tp [build failed]\n1 passed, 1 failed\n",
			wantErr: "there are failures",
		},
		{
			name: "a test cut short by a crash is shown",
			in: []string{
				`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: boom\n"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want:    "panic: boom\n0 passed, 1 failed\n",
			wantErr: "there are failures",
		},
		{
			name:    "other lines are passed on, and nothing at all is no success",
			in:      []string{"make: something", "{not json"},
			want:    "make: something\n{not json\n0 passed, 0 failed\n",
			wantErr: "no test ran",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			sum := filepath.Join(t.TempDir(), "sum")
			err := run(strings.NewReader(strings.Join(tc.in, "\n")+"\n"), &out, sum)
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if got := errorText(err); got != tc.wantErr {
				t.Errorf("error = %q, want %q", got, tc.wantErr)
			}
			written, err := os.ReadFile(sum)
			if err != nil || !strings.HasSuffix(out.String(), string(written)) || len(written) == 0 {
				t.Errorf("the file says %q, error %v", written, err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
