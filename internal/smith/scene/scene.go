package scene

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"weir/internal/smith"
)

// Fate is what becomes of a scene's data until somebody mends what is wrong.
type Fate uint8

// The fates.
const (
	// Taken: all of it arrives, whole or in smaller requests, and no case is
	// opened.
	Taken Fate = iota
	// Refused: none of it arrives. It belongs into a case that heals by itself
	// once the cause is gone.
	Refused
	// Waits: none of it arrives, and there is no case: what is wrong is an
	// outage or a limit, and passes.
	Waits
	// Blips: it is refused for a moment and then arrives, with nobody's help.
	Blips
	// Poisoned: Stage.Bad of it are refused for what they are, and stay in a
	// case; all the rest arrives.
	Poisoned
)

var fateNames = []string{"taken", "refused", "waits", "blips", "poisoned"}

// String returns the fate's name.
func (f Fate) String() string {
	if int(f) < len(fateNames) {
		return fateNames[f]
	}
	return fmt.Sprintf("unknown(%d)", uint8(f))
}

// Scene is one cause in one of its forms.
type Scene struct {
	// Name is unique. It begins with the cause or what plays it.
	Name string
	// Cause is the code that a right diagnosis names first; empty: there is
	// nothing to diagnose.
	Cause string
	// Fate is what becomes of the data.
	Fate Fate
	// Status and Body are the refusal: its status, 0 where no answer comes, and
	// a piece of its body, letter for letter.
	Status int
	Body   string

	play func(*Stage) error
}

// Client is how weir is configured in a scene.
type Client struct {
	BaseURL   string
	APIKey    string
	Workspace string
	// CA is a PEM file of authorities to trust besides the system's; nil: none.
	CA []byte
	// Regions are the base URLs of the other regions, BaseURL not among them.
	Regions []string
}

// Request is what an application sends, to weir or straight to LangSmith. Its
// headers name a key only where the application has one of its own.
type Request struct {
	Method, Path string
	Header       http.Header
	Body         []byte
	// Items is how many spans and operations it holds.
	Items int
}

// Stage is a scene that is being played. Close it when done.
type Stage struct {
	// Hosts are the servers. The first is where Client leads, and where all
	// data is meant to arrive, unless mending it leads elsewhere.
	Hosts []*Host
	// Client is how weir is configured at first.
	Client Client
	// Before is sent and arrives while all is still well; then Turn is called.
	// Both are empty in most scenes.
	Before []Request
	// Data is what meets the cause.
	Data []Request
	// Bad is how many items of Data are refused for what they are.
	Bad int

	ctx  context.Context //nolint:containedctx // of the set-up, which is one call
	turn func()
	heal func(*Client) error
}

// Open sets the scene. ctx is needed until it returns. The caller closes the
// stage.
func (s Scene) Open(ctx context.Context) (*Stage, error) {
	st := &Stage{Client: Client{APIKey: GoodKey}, ctx: ctx}
	err := s.play(st)
	if err == nil && len(st.Hosts) == 0 {
		err = errors.New("it has no host")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set scene %s: %w", s.Name, err), st.Close())
	}
	if st.Client.BaseURL == "" {
		st.Client.BaseURL = st.Hosts[0].URL()
	}
	if st.Data == nil {
		st.Data = traffic()
	}
	return st, nil
}

// Close ends the scene's servers and the requests they are busy with.
func (st *Stage) Close() error {
	var errs []error
	for _, h := range st.Hosts {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// Turn is called after what was sent Before has arrived: from then on the cause
// is there.
func (st *Stage) Turn() {
	if st.turn != nil {
		st.turn()
	}
}

// Heals reports whether what is wrong can be mended without touching the data.
func (st *Stage) Heals() bool { return st.heal != nil }

// Heal mends what is wrong, at the service or in the configuration, and returns
// how weir is to be configured from now on.
func (st *Stage) Heal() (Client, error) {
	c := st.Client
	if st.heal == nil {
		return c, errors.New("this scene cannot be mended")
	}
	err := st.heal(&c)
	return c, err
}

// Items counts what a list of requests holds.
func Items(list []Request) (n int) {
	for i := range list {
		n += list[i].Items
	}
	return n
}

// Arrived counts the spans and operations that have arrived at any host, and
// how many of them came again.
func (st *Stage) Arrived() (distinct, again int) {
	for _, h := range st.Hosts {
		s := h.Stats()
		distinct += int(s.DistinctSpans)
		again += int(s.Duplicates)
		for _, o := range h.Operations() {
			if o.Duplicate {
				again++
				continue
			}
			distinct++
		}
	}
	return distinct, again
}

// host starts a server that knows GoodKey and those of cfg.
func (st *Stage) host(cfg smith.Config, with ...hostOption) (*Host, error) {
	if cfg.Keys == nil {
		cfg.Keys = map[string]smith.Key{GoodKey: {Tenant: Tenant}}
	}
	h, err := startHost(st.ctx, len(st.Hosts), cfg, with...)
	if err == nil {
		st.Hosts = append(st.Hosts, h)
	}
	return h, err
}

// Scenes returns all scenes. Their names are unique.
func Scenes() []Scene {
	return slices.Concat(healthy, keys, workspaces, incidents, places, intermediaries, networks, limits, sizes, contents)
}

// healthy is traffic with which nothing is wrong: a diagnosis would be one too
// many.
var healthy = []Scene{
	{Name: "healthy", Fate: Taken, Status: http.StatusOK, play: func(st *Stage) error {
		_, err := st.host(smith.Config{})
		return err
	}},
	{Name: "healthy_service_key", Fate: Taken, Status: http.StatusOK, play: func(st *Stage) error {
		st.Client.APIKey, st.Client.Workspace = serviceKey, otherTenant
		_, err := st.host(smith.Config{Keys: map[string]smith.Key{serviceKey: {Tenant: Tenant, OrgScoped: true}}})
		return err
	}},
}
