package scene

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"weir/internal/smith"
)

const (
	// proxyBytes is the largest body that the front end of a scene takes.
	proxyBytes = 8 << 10
	// cutBytes is where LangSmith Cloud has been reported to cut an upload.
	cutBytes = 20 << 20
)

// sizes are what is too large. Only a single item can be too large for good.
var sizes = []Scene{
	{Name: "payload_413_split", Cause: "payload_too_large", Fate: Taken, Status: 413, Body: "413 Request Entity Too Large", play: func(st *Stage) error {
		st.Data = fat(proxyBytes)
		_, err := st.host(smith.Config{MaxBodyBytes: proxyBytes})
		return err
	}},
	{Name: "payload_413_single", Cause: "payload_too_large", Fate: Poisoned, Status: 413, Body: "413 Request Entity Too Large", play: func(st *Stage) error {
		large := spans(3)
		large[1].Attributes = append(large[1].Attributes, blob("image", randomBytes(2*proxyBytes)))
		big := roots(3)
		big[1] = big[1].with("inputs", map[string]any{"text": noise(4 * proxyBytes)})
		st.Data, st.Bad = []Request{export(large...), batch(big...)}, 2
		_, err := st.host(smith.Config{MaxBodyBytes: proxyBytes})
		return err
	}},
	{Name: "payload_cut_split", Cause: "payload_too_large", Fate: Taken, play: func(st *Stage) error {
		large := spans(2)
		for _, sp := range large {
			sp.Attributes = append(sp.Attributes, blob("image", randomBytes(cutBytes/2+1000)))
		}
		st.Data = []Request{export(large...)}
		_, err := st.host(smith.Config{Switches: smith.Switches{CutBytes: cutBytes}})
		return err
	}},
	{Name: "payload_cut_single", Cause: "payload_too_large", Fate: Poisoned, play: func(st *Stage) error {
		large := spans(1)
		large[0].Attributes = append(large[0].Attributes, blob("image", randomBytes(cutBytes+1000)))
		st.Data, st.Bad = []Request{export(large...), export(spans(2)...)}, 1
		_, err := st.host(smith.Config{Switches: smith.Switches{CutBytes: cutBytes}})
		return err
	}},
}

// fat is traffic of which a request fits into a limit only in pieces.
func fat(limit int) []Request {
	large, runs := spans(4), roots(4)
	for _, sp := range large {
		sp.Attributes = append(sp.Attributes, blob("image", randomBytes(limit*2/5)))
	}
	for i := range runs {
		runs[i] = runs[i].with("inputs", map[string]any{"text": noise(limit * 4 / 5)})
	}
	return []Request{export(large...), batch(runs...)}
}

// guilty is a batch in which one run is bad among three that are not.
func guilty(cfg smith.Config, bad func() run) func(*Stage) error {
	return func(st *Stage) error {
		runs := roots(3)
		st.Data, st.Bad = []Request{batch(runs[0], bad(), runs[1], runs[2])}, 1
		_, err := st.host(cfg)
		return err
	}
}

// now is when runs of a scene began.
func now() time.Time { return time.Now().Add(-time.Second) }

// contents are what is wrong with single runs and spans.
var contents = []Scene{
	{
		Name: "dotted_order_root_in_two_parts", Cause: "dotted_order", Fate: Poisoned, Status: 400,
		Body: "dotted_order must contain a single part for root runs for run_id:", play: guilty(smith.Config{}, func() run {
			c := root(now()).child(now())
			delete(c, "parent_run_id")
			return c
		}),
	},
	{
		Name: "dotted_order_child_in_one_part", Cause: "dotted_order", Fate: Poisoned, Status: 400,
		Body: "dotted_order must contain at least two parts for child runs for run_id:", play: guilty(smith.Config{}, func() run {
			r := root(now())
			return r.with("parent_run_id", newID())
		}),
	},
	{
		Name: "dotted_order_milliseconds", Cause: "dotted_order", Fate: Poisoned, Status: 400, Body: `as \".000000\"`,
		play: guilty(smith.Config{}, func() run {
			r, at := root(now()), now().UTC()
			return r.with("dotted_order", fmt.Sprintf("%s%03dZ%s", at.Format("20060102T150405"), at.Nanosecond()/1e6, r["id"]))
		}),
	},
	{
		Name: "dotted_order_before_its_parent", Cause: "dotted_order", Fate: Poisoned, Status: 400, Body: " earlier than parent timestamp ",
		play: guilty(smith.Config{}, func() run { return root(now()).child(now().Add(-3 * time.Second)) }),
	},
	// The same answer; but the service's clock is far from the client's.
	{
		Name: "clock_skew", Cause: "clock_skew", Fate: Poisoned, Status: 400, Body: " earlier than parent timestamp ", play: func(st *Stage) error {
			if err := guilty(smith.Config{}, func() run { return root(now()).child(now().Add(-3 * time.Second)) })(st); err != nil {
				return err
			}
			return st.Hosts[0].SetClockOffset(10 * time.Minute)
		},
	},
	// Every run that begins now is out of the window of a clock that far off.
	{
		Name: "clock_skew_window", Cause: "clock_skew", Fate: Poisoned, Status: 400, Body: "start_time is outside a 24-hour window of now",
		play: func(st *Stage) error {
			st.Data, st.Bad = []Request{batch(roots(1)...)}, 1
			h, err := st.host(smith.Config{Switches: smith.Switches{RunsWindow: smith.Window400}})
			if err != nil {
				return err
			}
			return h.SetClockOffset(25 * time.Hour)
		},
	},
	{
		Name: "session_id_not_uuid", Cause: "session_id_not_uuid", Fate: Poisoned, Status: 422,
		Body: ".session_id: Must validate one and only one schema (oneOf)",
		play: guilty(smith.Config{}, func() run { return root(now()).with("session_id", "my-project") }),
	},
	{
		Name: "integer_overflow", Cause: "integer_overflow", Fate: Poisoned, Status: 422, Body: `{"detail":"int too big to convert"}`,
		play: guilty(smith.Config{Switches: smith.Switches{BigIntegers: smith.Check422}}, func() run {
			return root(now()).with("inputs", map[string]any{"n": new(big.Int).Lsh(big.NewInt(1), 80)})
		}),
	},
	{
		Name: "field_too_long", Cause: "field_too_long", Fate: Poisoned, Status: 422,
		Body: "['post', 'items', 'properties', 'name', 'maxLength']: 'xxx",
		play: guilty(smith.Config{Switches: smith.Switches{NameMax: 128}}, func() run {
			return root(now()).with("name", strings.Repeat("x", 129))
		}),
	},
	{Name: "trace_too_many_runs", Cause: "trace_too_many_runs", Fate: Poisoned, Status: 400, play: func(st *Stage) error {
		const most, more = 3, 2
		runs := roots(1)
		for range most + more - 1 {
			runs = append(runs, runs[0].child(now()))
		}
		st.Data, st.Bad = []Request{batch(runs...)}, more
		_, err := st.host(smith.Config{MaxTraceRuns: most})
		return err
	}},
	{
		Name: "start_time_window_runs", Cause: "start_time_window", Fate: Poisoned, Status: 400, Body: "start_time is outside a 24-hour window of now",
		play: guilty(smith.Config{Switches: smith.Switches{RunsWindow: smith.Window400}}, func() run { return root(now().Add(-72 * time.Hour)) }),
	},
	{
		Name: "start_time_window_future", Cause: "start_time_window", Fate: Poisoned, Status: 422, Body: "start_time is outside a 24-hour window of now",
		play: guilty(smith.Config{Switches: smith.Switches{RunsWindow: smith.Window422}}, func() run { return root(now().Add(72 * time.Hour)) }),
	},
	{
		Name: "start_time_window_otlp", Cause: "start_time_window", Fate: Poisoned, Status: 400, Body: "start_time is outside a 24-hour window of now",
		play: func(st *Stage) error {
			list := spans(4)
			old := now().Add(-72 * time.Hour)
			list[2].StartTimeUnixNano, list[2].EndTimeUnixNano = uint64(old.UnixNano()), uint64(old.Add(time.Second).UnixNano())
			st.Data, st.Bad = []Request{export(list...)}, 1
			_, err := st.host(smith.Config{Switches: smith.Switches{OTLPWindow: smith.Window400}})
			return err
		},
	},
	// LangSmith has not been seen to refuse NUL bytes. The words are package
	// smith's own, so a diagnosis that knew them would know nothing.
	{
		Name: "nul_byte_in_a_run", Cause: "unknown", Fate: Poisoned, Status: 422, Body: " has a NUL character",
		play: guilty(smith.Config{Switches: smith.Switches{NULBytes: smith.Check422}}, func() run {
			return root(now()).with("inputs", map[string]any{"text": "a\x00b"})
		}),
	},
	{Name: "nul_byte_in_a_span", Cause: "unknown", Fate: Poisoned, Status: 400, Body: " has a NUL character", play: func(st *Stage) error {
		list := spans(4)
		list[1].Attributes = append(list[1].Attributes, text("input", "a\x00b"))
		st.Data, st.Bad = []Request{export(list...)}, 1
		_, err := st.host(smith.Config{Switches: smith.Switches{NULBytes: smith.Check400}})
		return err
	}},
	// Something on the way damages every body, so nothing is innocent.
	{
		Name: "body_damaged", Cause: "body_damaged", Fate: Poisoned, Status: 422, Body: "multipart: NextPart: EOF",
		play: damaged(smith.BodyDamaged),
	},
	{
		Name: "body_damaged_compression", Cause: "body_damaged", Fate: Poisoned, Status: 422, Body: "failed to decompress: Unknown frame descriptor",
		play: damaged(smith.BodyUndecodable),
	},
	{Name: "duplicate", Cause: "duplicate", Fate: Poisoned, Status: 409, Body: "payloads already received", play: duplicate},
	{
		Name: "not_found_yet", Cause: "not_found_yet", Fate: Refused, Status: 404, Body: `{"detail":"Run not found"}`, play: func(st *Stage) error {
			h, err := st.host(smith.Config{Switches: smith.Switches{FeedbackOrder: smith.FeedbackRunFirst}})
			st.Data = []Request{call("/feedback", map[string]any{"id": newID(), "run_id": newID(), "key": "score", "score": 1}, 1)}
			st.heal = func(*Client) error {
				h.SetSwitches(smith.Switches{}) // as if the run had come
				return nil
			}
			return err
		},
	},
}

// damaged is a single run whose body does not arrive as it was sent.
func damaged(c smith.Canned) func(*Stage) error {
	return func(st *Stage) error {
		st.Data, st.Bad = []Request{batch(roots(1)...)}, 1
		h, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		h.Script(always(c))
		return nil
	}
}

// duplicate is a batch with a run whose id another sender has used.
func duplicate(st *Stage) error {
	runs := roots(3)
	st.Before = []Request{batch(runs[0])}
	st.Data, st.Bad = []Request{batch(runs[0].with("name", "again"), runs[1], runs[2])}, 1
	_, err := st.host(smith.Config{Switches: smith.Switches{RunsDuplicate: smith.DuplicateWhole}})
	return err
}
