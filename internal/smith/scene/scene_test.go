package scene

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what became of a request; err where no answer came.
type answer struct {
	status int
	body   string
	err    error
}

// send sends requests straight to where a client of that configuration would,
// as an SDK does: with the client's key, unless the request has its own.
func send(ctx context.Context, t *testing.T, c Client, list []Request) (answers []answer) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CA)
	tr := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
	defer tr.CloseIdleConnections()
	for _, r := range list {
		req, err := http.NewRequestWithContext(ctx, r.Method, c.BaseURL+r.Path, bytes.NewReader(r.Body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = r.Header.Clone()
		if token, ok := strings.CutPrefix(c.APIKey, "Bearer "); ok {
			req.Header.Set("Authorization", "Bearer "+token)
		} else if req.Header.Get("X-Api-Key") == "" && req.Header.Get("Authorization") == "" && c.APIKey != "" {
			req.Header.Set("X-Api-Key", c.APIKey)
		}
		if c.Workspace != "" {
			req.Header.Set("X-Tenant-Id", c.Workspace)
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			answers = append(answers, answer{err: err})
			continue
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		answers = append(answers, answer{res.StatusCode, string(body), err})
	}
	return answers
}

func arrived(a answer) bool {
	return a.err == nil && a.status/100 == 2 && !strings.Contains(a.body, "<html")
}

func TestScenesRefuseAsTheySay(t *testing.T) {
	t.Parallel()
	for _, sc := range Scenes() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			st, err := sc.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := st.Close(); err != nil {
					t.Errorf("Close() = %v", err)
				}
			}()
			for _, a := range send(t.Context(), t, st.Client, st.Before) {
				if !arrived(a) {
					t.Errorf("before the turn: %d %q, error %v", a.status, a.body, a.err)
				}
			}
			st.Turn()
			answers := send(t.Context(), t, st.Client, st.Data)
			if !slices.ContainsFunc(answers, func(a answer) bool {
				return a.status == sc.Status && strings.Contains(a.body, sc.Body) && (sc.Status != 0) == (a.err == nil)
			}) {
				t.Errorf("answers = %.300v, want one with status %d and %q", answers, sc.Status, sc.Body)
			}
			if sc.Fate == Refused || sc.Fate == Waits {
				if i := slices.IndexFunc(answers, arrived); i >= 0 {
					t.Errorf("request %d arrived: %d %q", i, answers[i].status, answers[i].body)
				}
				if n, _ := st.Arrived(); n != Items(st.Before) {
					t.Errorf("%d items arrived, want those sent before, %d", n, Items(st.Before))
				}
			}
			if st.Heals() {
				healed(t, st)
			}
		})
	}
}

// healed mends a scene and sends its data once more.
func healed(t *testing.T, st *Stage) {
	t.Helper()
	c, err := st.Heal()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range send(t.Context(), t, c, st.Data) {
		if !arrived(a) {
			t.Errorf("mended: %d %q, error %v", a.status, a.body, a.err)
		}
	}
	if n, again := st.Arrived(); n != Items(st.Before)+Items(st.Data) || again != 0 {
		t.Errorf("mended: %d items arrived and %d again, want %d and 0", n, again, Items(st.Before)+Items(st.Data))
	}
}

func TestScenesAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, sc := range Scenes() {
		switch {
		case seen[sc.Name]:
			t.Errorf("two scenes are called %s", sc.Name)
		case (sc.Cause == "") != strings.HasPrefix(sc.Name, "healthy"):
			t.Errorf("%s has the cause %q", sc.Name, sc.Cause)
		}
		seen[sc.Name] = true
		st, err := sc.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (sc.Fate == Poisoned) != (st.Bad > 0) || st.Bad > Items(st.Data) {
			t.Errorf("%s: fate %s with %d bad of %d items", sc.Name, sc.Fate, st.Bad, Items(st.Data))
		}
		if sc.Fate == Poisoned && st.Heals() {
			t.Errorf("%s: what is refused for what it is cannot be mended elsewhere", sc.Name)
		}
		if err := st.Close(); err != nil {
			t.Errorf("%s: Close() = %v", sc.Name, err)
		}
	}
}

func TestASceneThatCannotBeSetLeavesNothingBehind(t *testing.T) {
	fails := errors.New("no luck")
	_, err := Scene{Name: "unlucky", play: func(st *Stage) error {
		if err := healthy[0].play(st); err != nil {
			return err
		}
		return fails
	}}.Open(t.Context())
	if !errors.Is(err, fails) || !strings.Contains(err.Error(), "set scene unlucky") {
		t.Errorf("Open() = %v", err)
	}
	if _, err := (Scene{Name: "empty", play: func(*Stage) error { return nil }}).Open(t.Context()); err == nil {
		t.Error("a scene without a host opened")
	}
}
