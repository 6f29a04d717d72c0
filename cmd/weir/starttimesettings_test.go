package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/proxy"
)

func TestTheStartTimeWindowFollowsTheUpstream(t *testing.T) {
	for _, tc := range []struct {
		upstream, window string
		enforced         bool
	}{
		{"https://api.smith.langchain.com", windowAuto, true},
		{"https://EU.api.smith.langchain.com:443/api/v1", windowAuto, true},
		{"https://langsmith.example.com/api/v1", windowAuto, false},
		{"https://langchain.com.example.com", windowAuto, false},
		{"https://notlangchain.com", windowAuto, false},
		{"https://langsmith.example.com", windowEnforced, true},
		{"https://api.smith.langchain.com", windowOff, false},
	} {
		in := inputIn(t)
		in.getenv = envOf(map[string]string{"WEIR_UPSTREAM": tc.upstream, "WEIR_START_TIME_WINDOW": tc.window, "WEIR_DATA_DIR": "/data"})
		s, err := loadSettings(in)
		if err != nil {
			t.Fatal(err)
		}
		want := proxy.StartWindow{Enforced: tc.enforced, Span: 24 * time.Hour, Dir: filepath.FromSlash("/data/restamp")}
		if diff := cmp.Diff(want, s.startWindow()); diff != "" {
			t.Errorf("%s before %s (-want +got):\n%s", tc.window, tc.upstream, diff)
		}
	}
}

func TestTheStartTimeWindowIsTakenByAReload(t *testing.T) {
	in := inputIn(t)
	env := map[string]string{}
	in.getenv = envOf(env)
	s, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	env["WEIR_START_TIME_WINDOW"], env["WEIR_START_TIME_WINDOW_HOURS"], env["WEIR_START_TIME_WINDOW_POLICY"] = windowOff, "12", windowQuarantine
	next, err := s.reload()
	if err != nil {
		t.Fatal(err)
	}
	changed, fixed := s.apply(next)
	if want := []string{"start_time_window", "start_time_window_hours", "start_time_window_policy"}; !cmp.Equal(changed, want) || len(fixed) > 0 {
		t.Errorf("changed %v, and %v need a restart; want %v and none", changed, fixed, want)
	}
	if got := s.startWindow(); got.Enforced || got.Span != 12*time.Hour || !got.Quarantine {
		t.Errorf("it is %+v after the reload", got)
	}
}

// TestReloadTakesTheCertificateAuthorities: or a change back would go unnoticed.
func TestReloadTakesTheCertificateAuthorities(t *testing.T) {
	in := inputIn(t)
	env := map[string]string{"WEIR_CA_FILE": "/one"}
	in.getenv = envOf(env)
	s, err := loadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	env["WEIR_CA_FILE"] = "/two"
	next, err := s.reload()
	if err != nil {
		t.Fatal(err)
	}
	if changed, fixed := s.apply(next); !cmp.Equal(changed, []string{"ca_file"}) || len(fixed) > 0 || s.CAFile != next.CAFile {
		t.Errorf("changed %v, and %v need a restart; the file is %s", changed, fixed, s.CAFile)
	}
}
