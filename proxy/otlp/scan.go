package otlp

import (
	"bytes"
	"encoding/hex"
	"hash/maphash"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"weir/proxy"
)

// The attributes that decide where LangSmith files a span and whom it bills
// (LangSmith docs: trace-with-opentelemetry, attribute mapping). Which one wins
// when a project header names another project is unverified against the live
// service.
const (
	attrTraceID     = "langsmith.trace.id"
	attrSessionName = "langsmith.trace.session_name"
	attrSessionID   = "langsmith.trace.session_id"
)

// Summary is what Scan learns about a request. It can be used again for the
// next one; what it refers to is then overwritten.
type Summary struct {
	// Spans is the number of spans.
	Spans int
	// TraceIDs are the distinct trace ids, in the order in which they first
	// appear: a span's langsmith.trace.id attribute where it has one that is a
	// UUID or 32 hex digits and not zero, else the span's own trace id.
	TraceIDs []proxy.TraceID
	// NamesProject is set if the data names a LangSmith project itself, in a
	// span's or a resource's attributes.
	NamesProject bool
	// Marks say more of each of TraceIDs, nil if there is nothing to say: the
	// project that its spans name, else their resource, and whether one of them
	// shows an error (a status of ERROR, or an event named exception).
	Marks []proxy.TraceMark

	marks    []proxy.TraceMark // backs Marks
	projects map[string]string // names seen before, so that they are made once
	scan     scanner
}

// Scan checks that payload is a well-formed OTLP ExportTraceServiceRequest and
// fills sum with what is in it. It accepts what proto.Unmarshal accepts, apart
// from what OTLP forbids beyond that: a span needs a trace id of 16 bytes and a
// span id of 8, neither zero; its parent id has 8 bytes or none; a link's ids
// have their lengths or none; messages nest at most 100 deep. maxSpans bounds
// the number of spans, 0 for no bound.
//
// Scan neither decodes nor copies nor changes payload, and allocates nothing
// once sum has grown to fit. Its error is a *ScanError; sum then holds nothing
// of use.
func Scan(payload []byte, maxSpans int, sum *Summary) error {
	sum.Spans, sum.NamesProject, sum.TraceIDs = 0, false, sum.TraceIDs[:0]
	sum.Marks, sum.marks = nil, sum.marks[:0]
	sum.scan.begin(sum, payload, maxSpans)
	e := sum.scan.walk(payload, requestType, 1)
	sum.scan.fallBack()
	sum.scan.end()
	if e != nil {
		return e
	}
	if len(sum.marks) > 0 {
		for len(sum.marks) < len(sum.TraceIDs) {
			sum.marks = append(sum.marks, proxy.TraceMark{})
		}
		sum.Marks = sum.marks
	}
	return nil
}

// scanner is the state of one scan.
type scanner struct {
	sum      *Summary
	maxSpans int
	capacity int // of the payload, for offsets

	// Of the span being walked. protobuf lets a field come twice, and the last
	// one counts, so ids are judged when the span is complete.
	traceID, spanID, parentID []byte
	override                  proxy.TraceID
	overridden                bool
	project                   []byte // that it names itself
	failed                    bool

	resourceProject []byte // of the resource being walked, which may follow its spans
	inResource      []int  // where the traces of its spans are in the summary
	fewInResource   [8]int // backs inResource, for as long as it can
	fallbacks       []fallback
	// each is called with the trace of every span, if it is set.
	each func(proxy.TraceID)

	linkTraceID, linkSpanID []byte // of the link being walked
	key                     []byte // of the attribute being walked

	set idSet
}

func (s *scanner) begin(sum *Summary, payload []byte, maxSpans int) {
	s.sum, s.maxSpans, s.capacity = sum, maxSpans, cap(payload)
	s.set.reset()
}

// end lets go of the payload, which belongs to somebody else.
func (s *scanner) end() {
	s.sum, s.key = nil, nil
	s.traceID, s.spanID, s.parentID = nil, nil, nil
	s.linkTraceID, s.linkSpanID = nil, nil
	s.project, s.resourceProject, s.each = nil, nil, nil
}

// note keeps a value that a hook asked for.
func (s *scanner) note(h hook, v []byte) {
	switch h {
	case hookTraceID:
		s.traceID = v
	case hookSpanID:
		s.spanID = v
	case hookParentID:
		s.parentID = v
	case hookLinkTraceID:
		s.linkTraceID = v
	case hookLinkSpanID:
		s.linkSpanID = v
	case hookKey:
		s.key = v
	case hookEventName:
		s.failed = s.failed || string(v) == eventException
	case hookNone, hookSpanAttribute, hookResourceAttribute, hookResourceSpans, hookStatus, hookLink, hookSpan:
	}
}

// enter walks a message of which the scan wants to know more than that it is
// well formed.
func (s *scanner) enter(f *field, v []byte, depth int) *ScanError {
	switch f.hook {
	case hookSpan:
		return s.span(f, v, depth)
	case hookLink:
		return s.link(f, v, depth)
	case hookResourceSpans:
		if s.inResource == nil {
			s.inResource = s.fewInResource[:0]
		}
		s.resourceProject, s.inResource = nil, s.inResource[:0]
		if e := s.walk(v, f.message, depth+1); e != nil {
			return e
		}
		if len(s.resourceProject) > 0 {
			for _, at := range s.inResource {
				s.fallbacks = append(s.fallbacks, fallback{at, s.resourceProject})
			}
		}
		return nil
	case hookStatus:
		if e := s.walk(v, f.message, depth+1); e != nil {
			return e
		}
		s.failed = s.failed || statusCode(v) == codeError
		return nil
	default:
		return s.attribute(f, v, depth)
	}
}

func (s *scanner) attribute(f *field, v []byte, depth int) *ScanError {
	s.key = nil
	if e := s.walk(v, f.message, depth+1); e != nil {
		return e
	}
	switch string(s.key) {
	case attrSessionName:
		s.sum.NamesProject = true
		if f.hook == hookResourceAttribute {
			s.resourceProject = attributeString(v)
		} else {
			s.project = attributeString(v)
		}
	case attrSessionID:
		s.sum.NamesProject = true
	case attrTraceID:
		if f.hook == hookSpanAttribute {
			if id, ok := parseTraceID(attributeString(v)); ok {
				s.override, s.overridden = id, true
			}
		}
	}
	return nil
}

func (s *scanner) link(f *field, v []byte, depth int) *ScanError {
	s.linkTraceID, s.linkSpanID = nil, nil
	if e := s.walk(v, f.message, depth+1); e != nil {
		return e
	}
	switch {
	case len(s.linkTraceID) != 0 && len(s.linkTraceID) != 16:
		return faultAt("trace_id", "%d bytes, want 16", len(s.linkTraceID))
	case len(s.linkSpanID) != 0 && len(s.linkSpanID) != 8:
		return faultAt("span_id", "%d bytes, want 8", len(s.linkSpanID))
	}
	return nil
}

// span checks one span, with what OTLP demands of its ids.
func (s *scanner) span(f *field, v []byte, depth int) *ScanError {
	s.traceID, s.spanID, s.parentID, s.overridden = nil, nil, nil, false
	s.project, s.failed = nil, false
	if e := s.walk(v, f.message, depth+1); e != nil {
		return e
	}
	switch {
	case len(s.traceID) != 16:
		return faultAt("trace_id", "%d bytes, want 16", len(s.traceID))
	case proxy.TraceID(s.traceID) == proxy.TraceID{}:
		return faultAt("trace_id", "all zero, want a random id")
	case len(s.spanID) != 8:
		return faultAt("span_id", "%d bytes, want 8", len(s.spanID))
	case [8]byte(s.spanID) == [8]byte{}:
		return faultAt("span_id", "all zero, want a random id")
	case len(s.parentID) != 0 && len(s.parentID) != 8:
		return faultAt("parent_span_id", "%d bytes, want 8, or none for a root span", len(s.parentID))
	}
	s.sum.Spans++
	if s.maxSpans > 0 && s.sum.Spans > s.maxSpans {
		e := malformed("the request has more than %d spans; lower the exporter's batch size", s.maxSpans)
		e.Reason = reasonTooManySpans
		return e
	}
	id := proxy.TraceID(s.traceID)
	if s.overridden {
		id = s.override
	}
	s.mark(s.set.add(&s.sum.TraceIDs, id))
	if s.each != nil {
		s.each(id)
	}
	return nil
}

// fallback is the project of a trace that no span of it names.
type fallback struct {
	at      int // in the summary
	project []byte
}

// mark notes what the span says about its trace, the at-th of the summary.
func (s *scanner) mark(at int) {
	if n := len(s.inResource); n == 0 || s.inResource[n-1] != at {
		s.inResource = append(s.inResource, at)
	}
	if len(s.project) == 0 && !s.failed {
		return
	}
	m := s.sum.markAt(at)
	m.Failed = m.Failed || s.failed
	if m.Project == "" && len(s.project) > 0 {
		m.Project = s.sum.projectName(s.project)
	}
}

// markAt is the mark of a trace.
func (sum *Summary) markAt(at int) *proxy.TraceMark {
	for len(sum.marks) <= at {
		sum.marks = append(sum.marks, proxy.TraceMark{})
	}
	return &sum.marks[at]
}

// fallBack gives the traces that no span names a project of that of a resource.
func (s *scanner) fallBack() {
	for _, f := range s.fallbacks {
		if m := s.sum.markAt(f.at); m.Project == "" {
			m.Project = s.sum.projectName(f.project)
		}
	}
	clear(s.fallbacks)
	s.fallbacks = s.fallbacks[:0]
}

// maxProjectNames bounds the names that are remembered from one request to the
// next.
const maxProjectNames = 256

// maxProjectBytes bounds a name; of a longer one its beginning counts.
const maxProjectBytes = 256

// projectName is name as a string, which is made once for each name.
func (sum *Summary) projectName(name []byte) string {
	if len(name) > maxProjectBytes {
		name = bytes.ToValidUTF8(name[:maxProjectBytes], nil)
	}
	if s, ok := sum.projects[string(name)]; ok {
		return s
	}
	if sum.projects == nil || len(sum.projects) >= maxProjectNames {
		sum.projects = map[string]string{}
	}
	s := string(name)
	sum.projects[s] = s
	return s
}

// What shows that a span failed (OTLP: Status.StatusCode; OpenTelemetry semantic
// conventions: recording exceptions).
const (
	codeError      = 2
	eventException = "exception"
)

// statusCode is the code of a Status that is known to be well formed.
func statusCode(status []byte) (code uint64) {
	for len(status) > 0 {
		num, wire, n := protowire.ConsumeTag(status)
		size := protowire.ConsumeFieldValue(num, wire, status[n:])
		if num == 3 && wire == protowire.VarintType {
			code, _ = protowire.ConsumeVarint(status[n:])
		}
		status = status[n+size:]
	}
	return code
}

func faultAt(path, format string, args ...any) *ScanError {
	e := malformed(format, args...)
	e.Path = path
	return e
}

// attributeString returns the string value of a KeyValue that is known to be
// well formed, nil if it has another value or none. A later value replaces an
// earlier one, as protobuf has it for a oneof.
func attributeString(kv []byte) []byte {
	var text []byte
	for len(kv) > 0 {
		num, wire, n := protowire.ConsumeTag(kv)
		size := protowire.ConsumeFieldValue(num, wire, kv[n:])
		if num == 2 && wire == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(kv[n:])
			text = lastString(value, text)
		}
		kv = kv[n+size:]
	}
	return text
}

// lastString returns the string_value that stands in an AnyValue after value
// has been merged into one whose string value was text.
func lastString(value, text []byte) []byte {
	for len(value) > 0 {
		num, wire, n := protowire.ConsumeTag(value)
		size := protowire.ConsumeFieldValue(num, wire, value[n:])
		switch {
		case num == 1 && wire == protowire.BytesType:
			text, _ = protowire.ConsumeBytes(value[n:])
		case num <= 8 && wire == anyValueType.fields[num].wire:
			text = nil
		}
		value = value[n+size:]
	}
	return text
}

// parseTraceID reads a UUID or 32 hex digits; ok is false for anything else,
// and for zero.
func parseTraceID(text []byte) (id proxy.TraceID, ok bool) {
	switch len(text) {
	case 32:
	case 36:
		var plain [32]byte
		n := 0
		for i, c := range text {
			if i == 8 || i == 13 || i == 18 || i == 23 {
				if c != '-' {
					return id, false
				}
				continue
			}
			plain[n] = c
			n++
		}
		text = plain[:]
	default:
		return id, false
	}
	if _, err := hex.Decode(id[:], text); err != nil {
		return proxy.TraceID{}, false
	}
	return id, id != proxy.TraceID{}
}

// smallSet is how many ids are searched one by one before hashing pays.
const smallSet = 8

// idSet tells which ids a list already has. Hashes are seeded per process, so
// that no sender can choose ids that collide.
type idSet struct {
	table []uint32 // index into the list plus one, 0 for free; a power of two long, at most half full
	used  bool
}

var idSeed = maphash.MakeSeed()

func (t *idSet) reset() {
	if t.used {
		clear(t.table)
		t.used = false
	}
}

// add appends id to list unless it is there, and returns where it is.
func (t *idSet) add(list *[]proxy.TraceID, id proxy.TraceID) int {
	ids := *list
	if n := len(ids); n > 0 && ids[n-1] == id {
		return n - 1 // spans of one trace mostly come together
	}
	if len(ids) <= smallSet {
		if i := slices.Index(ids, id); i >= 0 {
			return i
		}
		if len(ids) < smallSet {
			*list = append(ids, id)
			return len(ids)
		}
	}
	if !t.used || 2*(len(ids)+1) > len(t.table) {
		t.grow(ids)
	}
	slot := t.slot(ids, id)
	if at := t.table[slot]; at != 0 {
		return int(at) - 1
	}
	t.table[slot] = uint32(len(ids) + 1)
	*list = append(ids, id)
	return len(ids)
}

// slot returns where id is, or the free slot where it belongs.
func (t *idSet) slot(ids []proxy.TraceID, id proxy.TraceID) uint64 {
	mask := uint64(len(t.table) - 1)
	for i := maphash.Bytes(idSeed, id[:]) & mask; ; i = (i + 1) & mask {
		if at := t.table[i]; at == 0 || ids[at-1] == id {
			return i
		}
	}
}

// grow makes room for twice the ids there are, and enters these.
func (t *idSet) grow(ids []proxy.TraceID) {
	size := max(64, len(t.table))
	for size < 4*(len(ids)+1) {
		size *= 2
	}
	if size > len(t.table) {
		t.table = make([]uint32, size)
	}
	t.used = true
	for i := range ids {
		t.table[t.slot(ids, ids[i])] = uint32(i + 1)
	}
}
