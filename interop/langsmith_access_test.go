//go:build interop

package interop

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"weir/internal/smith"
)

// A new key of the same tenant, and a workspace.
const (
	newKey      = "lsv2_pt_8877665544332211ffeeddccbbaa0099_renewed001"
	workspaceID = "5f3c1c1e-8d6b-4b0a-9f77-0d1f6f1e2a3b"
)

// refusedStory is a way to be refused that a person mends in weir's configuration.
type refusedStory struct {
	name  string
	cause string
	// keys are those of the look-alike at first; refuse has it refuse, and mend
	// is the configuration that ends it.
	keys    map[string]smith.Key
	refuse  func(s *smith.Server)
	mend    func(s *settings)
	foreign bool // weir sends to another look-alike at first
}

// settings are what the stories change.
type settings struct{ upstream, key, workspace string }

var refusedStories = []refusedStory{
	{
		name: "a revoked key, then a new one", cause: "key_revoked",
		keys:   map[string]smith.Key{ownKey: {}, newKey: {}, callersKey: {}},
		refuse: func(s *smith.Server) { s.RemoveKey(ownKey) },
		mend:   func(c *settings) { c.key = newKey },
	},
	{
		name: "the wrong region, then the right one", cause: "region_mismatch",
		keys: map[string]smith.Key{ownKey: {}, callersKey: {}}, foreign: true,
		mend: func(*settings) {},
	},
	{
		name: "an organization's key, then a workspace", cause: "workspace_required",
		keys: map[string]smith.Key{ownKey: {OrgScoped: true, Workspaces: []string{workspaceID}}, callersKey: {}},
		mend: func(c *settings) { c.workspace = workspaceID },
	},
}

// write makes the configuration file of settings.
func (c *settings) write(t *testing.T, dir string, more ...string) string {
	t.Helper()
	keyFile, path := filepath.Join(dir, "langsmith.key"), filepath.Join(dir, "weir.yaml")
	lines := append([]string{"upstream: " + c.upstream, "api_key_file: " + keyFile}, more...)
	if c.workspace != "" {
		lines = append(lines, "workspace: "+c.workspace)
	}
	for name, content := range map[string]string{keyFile: c.key + "\n", path: strings.Join(lines, "\n") + "\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// quarantined is what `weir quarantine ls` says.
func (w *weirProcess) quarantined(t *testing.T) (causes []string) {
	t.Helper()
	var list struct {
		Cases []struct{ Cause, Remedy string }
	}
	out := w.command(t, "quarantine", "ls", "--json")
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("weir quarantine ls --json: %v\n%s", err, out)
	}
	for _, c := range list.Cases {
		causes = append(causes, c.Cause)
	}
	return causes
}

// keyless is a program that sends no key: its data goes out under weir's.
func keyless(p program) program {
	p.env = append(slices.Clone(p.env), "LANGSMITH_API_KEY=")
	return p
}

// accessPrograms are those that the stories are tried with.
func accessPrograms() []program {
	return slices.DeleteFunc(outagePrograms(), func(p program) bool {
		return !slices.Contains([]string{"python in short", "js in short", "python otel in short"}, p.name)
	})
}

// TestLangSmithSDKsLoseNothingToARefusal has each story mended by a change of
// weir's configuration and SIGHUP, while an application goes on.
func TestLangSmithSDKsLoseNothingToARefusal(t *testing.T) {
	t.Parallel()
	for _, story := range refusedStories {
		for _, p := range accessPrograms() {
			t.Run(story.name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				s, url := startSmith(t, smith.Config{Keys: story.keys})
				c := settings{upstream: url, key: ownKey}
				var more []string
				if story.foreign {
					_, elsewhere := startSmith(t, smith.Config{Keys: map[string]smith.Key{"lsv2_pt_somebody": {}}})
					c.upstream, more = elsewhere, []string{"probe_regions: [" + url + "]"}
				}
				w := newWeir(t, url)
				dir := t.TempDir()
				w.config = c.write(t, dir, more...)
				w.start(t)
				program := keyless(p)
				app := program.start(t, w.httpURL)
				half := len(p.scenarios) / 2
				if story.refuse != nil {
					app.play(p.scenarios[:half]...)
					poll(t, "the first data to arrive", func() bool { return w.totals(t)["pendingItems"] == "0" })
					story.refuse(s)
				} else {
					app.play(p.scenarios[:half]...)
				}
				app.play(p.scenarios[half : len(p.scenarios)-1]...)
				poll(t, "the cause to be known", func() bool { return slices.Contains(w.quarantined(t), story.cause) })
				c.upstream = url
				story.mend(&c)
				c.write(t, dir, more...)
				if err := w.cmd.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				app.play(p.scenarios[len(p.scenarios)-1])
				poll(t, "everything to be delivered", func() bool {
					totals := w.totals(t)
					return totals["pendingItems"] == "0" && totals["quarantinedItems"] == "0"
				})
				app.noticedNothing()
				w.drain(t)
				w.checkAllDelivered(t)
				checkOnce(t, s)
				checkSame(t, unsigned(directly(t, &p)), unsigned(itemsAt(t, s)))
			})
		}
	}
}

// unsigned are items without the key and the workspace that they came under,
// which are others here.
func unsigned(items []item) []item {
	out := slices.Clone(items)
	for i := range out {
		out[i].fields = maps.Clone(out[i].fields)
		delete(out[i].fields, "/~key")
		delete(out[i].fields, "/~workspace")
	}
	return out
}

// TestAnApplicationsNewKeyFreesWhatItsOldOneLeft: an application whose key is
// revoked is started again with a new one of the same tenant.
func TestAnApplicationsNewKeyFreesWhatItsOldOneLeft(t *testing.T) {
	t.Parallel()
	for _, p := range accessPrograms() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s, url := startSmith(t, smith.Config{Keys: map[string]smith.Key{callersKey: {}, newKey: {}, ownKey: {}}})
			w := startWeir(t, url)
			app := p.start(t, w.httpURL)
			half := len(p.scenarios) / 2
			app.play(p.scenarios[:half]...)
			poll(t, "the first data to arrive", func() bool { return w.totals(t)["pendingItems"] == "0" })
			poll(t, "the key's tenant to be known", func() bool { return strings.Contains(string(w.command(t, "quota", "--json")), smith.DefaultTenant) })
			s.RemoveKey(callersKey)
			app.play(p.scenarios[half : len(p.scenarios)-1]...)
			poll(t, "the refusal", func() bool { return len(w.quarantined(t)) > 0 })
			// The programs choose some of their ids, each from the first on: what is
			// started again is the one that does not.
			renewed := accessPrograms()[slices.IndexFunc(accessPrograms(), func(p program) bool { return p.name == "python otel in short" })]
			renewed.env = append(slices.Clone(renewed.env), "LANGSMITH_API_KEY="+newKey)
			again := renewed.start(t, w.httpURL)
			again.play(renewed.scenarios[0])
			poll(t, "everything to be delivered", func() bool {
				totals := w.totals(t)
				return totals["pendingItems"] == "0" && totals["quarantinedItems"] == "0"
			})
			w.drain(t)
			w.checkAllDelivered(t)
			checkOnce(t, s)
		})
	}
}
