package langsmith

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestConfigNamesEveryFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	good := Upstream{BaseURL: "https://h.example/api/v1/", Transport: noUpstream{}}
	for name, tc := range map[string]struct {
		cfg  Config
		want []string // none: it is valid
	}{
		"defaults":           {Config{Upstream: good}, nil},
		"nothing":            {Config{}, []string{"Upstream.BaseURL", "Upstream.Transport"}},
		"not a URL":          {Config{Upstream: Upstream{"h.example", noUpstream{}}}, []string{"http://HOST"}},
		"a user in it":       {Config{Upstream: Upstream{"https://u:secret@h", noUpstream{}}}, []string{"neither a user"}},
		"a query":            {Config{Upstream: Upstream{"https://h?x=y", noUpstream{}}}, []string{"nor a query"}},
		"several":            {Config{Upstream: good, MaxOperations: -1, ReadTimeout: time.Nanosecond}, []string{"MaxOperations is -1", "ReadTimeout (ns) is 1"}},
		"too little memory":  {Config{Upstream: good, MaxInflightBytes: 1 << 20}, []string{"MaxInflightBytes is 1048576, must be at least"}},
		"just enough memory": {Config{Upstream: good, MaxInflightBytes: Config{}.withDefaults().LeastInflightBytes()}, nil},
	} {
		err := tc.cfg.Validate()
		if (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range tc.want {
			if err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%s: %v does not name %s", name, err, want)
			}
		}
	}
}

func TestMetricsCountWhatCame(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	s := newStage(t, Config{Registerer: reg})
	s.sendParts(t, jsonPart("post."+idText(1), runObject(1)), jsonPart("patch."+idText(1), runObject(1)))
	s.sendParts(t)
	s.sendParts(t, "garbage")
	s.send(t, "GET", "/sessions", nil, nil)
	const want = `
# HELP weir_passed_requests_total Requests passed on to LangSmith, by how that ended: answered, unreachable, timeout, canceled, or refused by weir for want of its ingest token.
# TYPE weir_passed_requests_total counter
weir_passed_requests_total{result="unreachable"} 1
# HELP weir_runs_receive_operations_total Run operations acknowledged.
# TYPE weir_runs_receive_operations_total counter
weir_runs_receive_operations_total{kind="patch"} 1
weir_runs_receive_operations_total{kind="post"} 1
# HELP weir_runs_receive_refused_total Requests with run operations not taken, by reason; whether for now or for good is in weir_runs_receive_requests_total.
# TYPE weir_runs_receive_refused_total counter
weir_runs_receive_refused_total{endpoint="multipart",reason="malformed"} 1
# HELP weir_runs_receive_requests_total Requests with run operations by how they came and how they ended: accepted, empty, refused (for now), rejected (for good).
# TYPE weir_runs_receive_requests_total counter
weir_runs_receive_requests_total{encoding="identity",endpoint="multipart",result="accepted"} 1
weir_runs_receive_requests_total{encoding="identity",endpoint="multipart",result="empty"} 1
weir_runs_receive_requests_total{encoding="identity",endpoint="multipart",result="rejected"} 1
`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want), "weir_passed_requests_total", "weir_runs_receive_operations_total",
		"weir_runs_receive_refused_total", "weir_runs_receive_requests_total")
	if err != nil {
		t.Error(err)
	}
	if _, err := New(Config{Registerer: reg, Upstream: Upstream{BaseURL: "http://h", Transport: noUpstream{}}}, s.sink, s.spooler); err == nil {
		t.Error("two handlers share a registerer")
	}
}
