package smith

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Bounds of what clients may store besides traces, over all workspaces.
const (
	maxResources     = 20_000
	maxResourceBytes = 64 << 20
)

// resourceKind is a kind of thing that clients create and read back.
type resourceKind struct {
	name   string            // in messages
	table  string            // in the store, and the query's name for its id
	needs  string            // a member that a new one must have
	unique bool              // by name, in its workspace
	new    map[string]string // members of a new one that the sender left out, as raw JSON
	filter map[string]string // a query's parameter: the member that it must equal
}

// The kinds that the SDKs need for evaluations (LangSmith SDK: client.py and
// client.ts; the members are those that their schemas insist on).
var (
	sessionKind = resourceKind{
		name: "Session", table: "sessions", unique: true,
		new: map[string]string{
			"end_time": "null", "description": "null", "extra": "null", "reference_dataset_id": "null",
			"default_dataset_id": "null", "trace_tier": "null", "run_count": "0",
		},
		filter: map[string]string{"id": "id", "name": "name", "reference_dataset": "reference_dataset_id"},
	}
	datasetKind = resourceKind{
		name: "Dataset", table: "datasets", needs: "name", unique: true,
		new: map[string]string{
			"description": "null", "data_type": `"kv"`, "inputs_schema_definition": "null",
			"outputs_schema_definition": "null", "session_count": "0", "last_session_start_time": "null",
		},
		filter: map[string]string{"id": "id", "name": "name", "data_type": "data_type"},
	}
	exampleKind = resourceKind{
		name: "Example", table: "examples", needs: "dataset_id",
		new: map[string]string{
			"inputs": "{}", "outputs": "null", "metadata": "null", "source_run_id": "null", "name": `""`, "attachment_urls": "null",
		},
		filter: map[string]string{"id": "id", "dataset": "dataset_id"},
	}
)

// resourceKey names a table of a workspace.
type resourceKey struct{ tenant, table string }

// resource is a row of a table. Its object is replaced, never changed.
type resource struct {
	id, name string // of the object
	object   Object
}

// resourceStore holds what clients created; store.mu covers it.
type resourceStore struct {
	tables map[resourceKey][]resource
	count  int
	bytes  int64
}

var errTooManyResources = errors.New("the look-alike keeps no more of these; reset it")

// at finds a row by its id; -1 is none.
func (rs *resourceStore) at(key resourceKey, id string) int {
	return slices.IndexFunc(rs.tables[key], func(row resource) bool { return row.id == id })
}

// put adds a row, or replaces that of the same id.
func (rs *resourceStore) put(key resourceKey, o Object) error {
	row := resource{id: o.Text("id"), name: o.Text("name"), object: o}
	i := rs.at(key, row.id)
	grown := o.size()
	if i >= 0 {
		grown -= rs.tables[key][i].object.size()
	}
	if rs.bytes+grown > maxResourceBytes || i < 0 && rs.count >= maxResources {
		return errTooManyResources
	}
	rs.bytes += grown
	if i >= 0 {
		rs.tables[key][i] = row
		return nil
	}
	if rs.tables == nil {
		rs.tables = map[resourceKey][]resource{}
	}
	rs.count++
	rs.tables[key] = append(rs.tables[key], row)
	return nil
}

// remove takes a row out.
func (rs *resourceStore) remove(key resourceKey, id string) bool {
	i := rs.at(key, id)
	if i < 0 {
		return false
	}
	rs.count--
	rs.bytes -= rs.tables[key][i].object.size()
	rs.tables[key] = slices.Delete(rs.tables[key], i, i+1)
	return true
}

// rows lists a kind's rows in a workspace. Projects exist where data names
// them, created or not.
func (st *store) rows(tenant string, kind *resourceKind) []Object {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.rowsLocked(tenant, kind)
}

func (st *store) rowsLocked(tenant string, kind *resourceKind) []Object {
	table := st.resources.tables[resourceKey{tenant, kind.table}]
	rows := make([]Object, len(table))
	for i := range table {
		rows[i] = table[i].object
	}
	switch kind {
	case &sessionKind:
		return st.sessionRowsLocked(tenant, rows)
	case &datasetKind:
		counts := map[string]int{}
		for _, e := range st.resources.tables[resourceKey{tenant, exampleKind.table}] {
			counts[e.object.Text("dataset_id")]++
		}
		for i, o := range rows {
			rows[i] = o.with("example_count", counts[table[i].id])
		}
	}
	return rows
}

// sessionRowsLocked adds the projects that data named to those that were
// created. There is always a default one.
func (st *store) sessionRowsLocked(tenant string, created []Object) []Object {
	named := map[string]bool{}
	for _, o := range created {
		named[o.Text("name")] = true
	}
	for _, name := range append(slices.Clone(st.projects[tenant]), "default") {
		if named[name] {
			continue
		}
		named[name] = true
		o := Object{}.with("id", projectID(tenant, name)).with("tenant_id", tenant).with("name", name).
			with("start_time", time.Unix(0, 0).UTC())
		created = append(created, sessionKind.complete(o))
	}
	return created
}

// complete adds the members that a new object of the kind lacks, in order.
func (k *resourceKind) complete(o Object) Object {
	names := make([]string, 0, len(k.new))
	for name := range k.new {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if o.Get(name) == nil {
			o = append(o, Member{Name: name, Value: json.RawMessage(k.new[name])})
		}
	}
	return o
}

// made makes an object of the kind of what a client sent.
func (k *resourceKind) made(o Object, tenant string, now time.Time) (Object, error) {
	if k.needs != "" && o.Text(k.needs) == "" {
		return nil, unprocessable("%s is required", k.needs)
	}
	id := o.Text("id")
	switch {
	case id == "" && k == &sessionKind && o.Text("name") != "":
		id = projectID(tenant, o.Text("name"))
	case id == "":
		id = newID().String()
	}
	parsed, ok := parseUUID(id)
	if !ok {
		return nil, unprocessable("id is not a UUID")
	}
	o = o.with("id", RunID(parsed).String()).set("tenant_id", textOf(tenant))
	for _, name := range []string{"created_at", "modified_at", "start_time"} {
		if isNull(o.Get(name)) {
			o = o.with(name, now.UTC())
		}
	}
	return k.complete(o), nil
}

// create puts new objects of a kind into the store, all or none.
func (st *store) create(tenant string, kind *resourceKind, fresh []Object, upsert bool) ([]Object, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	key := resourceKey{tenant, kind.table}
	for i, o := range fresh {
		id, name := o.Text("id"), o.Text("name")
		twin := slices.IndexFunc(st.resources.tables[key], func(have resource) bool {
			return kind.unique && have.name == name || have.id == id
		})
		switch {
		case twin < 0:
		case upsert:
			fresh[i] = o.without("id").over(st.resources.tables[key][twin].object)
		default:
			return nil, &refusal{http.StatusConflict, kind.name + " already exists"}
		}
	}
	for _, o := range fresh {
		if err := st.resources.put(key, o); err != nil {
			return nil, unprocessable("%v", err)
		}
	}
	return fresh, nil
}

// update lays a change over an object; nil deletes it.
func (st *store) update(tenant string, kind *resourceKind, id string, change Object) (Object, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	key := resourceKey{tenant, kind.table}
	missing := &refusal{http.StatusNotFound, kind.name + " not found"}
	if change == nil {
		if !st.resources.remove(key, id) {
			return nil, missing
		}
		return Object{}, nil
	}
	rows := st.rowsLocked(tenant, kind)
	i := slices.IndexFunc(rows, func(o Object) bool { return o.Text("id") == id })
	if i < 0 {
		return nil, missing
	}
	o := change.without("id").over(rows[i])
	if err := st.resources.put(key, o); err != nil {
		return nil, unprocessable("%v", err)
	}
	return o, nil
}

// matches reports whether an object is one that a query asks for.
func (k *resourceKind) matches(o Object, query map[string][]string) bool {
	for param, member := range k.filter {
		if want := query[param]; len(want) > 0 && !slices.Contains(want, o.Text(member)) {
			return false
		}
	}
	if part := query["name_contains"]; len(part) > 0 && !strings.Contains(strings.ToLower(o.Text("name")), strings.ToLower(part[0])) {
		return false
	}
	if free := query["reference_free"]; len(free) > 0 && free[0] == "true" && !isNull(o.Get("reference_dataset_id")) {
		return false
	}
	return true
}

// createResource answers the POST of a kind: one object, or a list of them.
func createResource(kind *resourceKind) func(*Server, *request, caller) reply {
	return func(s *Server, r *request, from caller) reply {
		sent, list, err := s.readObjects(r)
		if err != nil {
			return runsRefusal(r, err)
		}
		fresh := make([]Object, len(sent))
		for i, o := range sent {
			if fresh[i], err = kind.made(o, from.tenant, s.cfg.Now()); err != nil {
				return runsRefusal(r, err)
			}
		}
		fresh, err = s.store.create(from.tenant, kind, fresh, r.URL.Query().Get("upsert") != "")
		switch {
		case err != nil:
			return runsRefusal(r, err)
		case list:
			return objectsReply(fresh)
		default:
			return literal(http.StatusOK, string(fresh[0].appendJSON(nil)))
		}
	}
}

// listResource answers the GET of a kind.
func listResource(kind *resourceKind) func(*Server, *request, caller) reply {
	return func(s *Server, r *request, from caller) reply {
		limit, offset, err := pageOf(r)
		if err != nil {
			return familyPython.failure(http.StatusUnprocessableEntity, err.Error())
		}
		query := r.URL.Query()
		rows := slices.DeleteFunc(s.store.rows(from.tenant, kind), func(o Object) bool { return !kind.matches(o, query) })
		return objectsReply(pick(rows, limit, offset))
	}
}

// getResource answers the GET of one of a kind.
func getResource(kind *resourceKind) func(*Server, *request, caller) reply {
	return func(s *Server, r *request, from caller) reply {
		for _, o := range s.store.rows(from.tenant, kind) {
			if o.Text("id") == strings.ToLower(r.route.id) {
				return literal(http.StatusOK, string(o.appendJSON(nil)))
			}
		}
		return familyPython.failure(http.StatusNotFound, kind.name+" not found")
	}
}

// patchResource answers the PATCH of one of a kind.
func patchResource(kind *resourceKind) func(*Server, *request, caller) reply {
	return func(s *Server, r *request, from caller) reply {
		sent, list, err := s.readObjects(r)
		if err == nil && list {
			err = unprocessable("one object is wanted")
		}
		if err != nil {
			return runsRefusal(r, err)
		}
		return s.changeResource(r, from, kind, append(Object{}, sent[0]...))
	}
}

// deleteResource answers the DELETE of one of a kind.
func deleteResource(kind *resourceKind) func(*Server, *request, caller) reply {
	return func(s *Server, r *request, from caller) reply { return s.changeResource(r, from, kind, nil) }
}

func (s *Server) changeResource(r *request, from caller, kind *resourceKind, change Object) reply {
	o, err := s.store.update(from.tenant, kind, strings.ToLower(r.route.id), change)
	if err != nil {
		return runsRefusal(r, err)
	}
	return literal(http.StatusOK, string(o.appendJSON(nil)))
}

// readObjects reads a body that is an object or a list of objects.
func (s *Server) readObjects(r *request) (sent []Object, list bool, err error) {
	b := takeBuffers()
	defer b.release()
	x := &ingest{r: r, in: s.describe(r, caller{})}
	if err := s.readRuns(x, b); err != nil {
		return nil, false, err
	}
	raws := []json.RawMessage{x.body}
	if body := strings.TrimSpace(string(x.body)); strings.HasPrefix(body, "[") {
		list = true
		if err := json.Unmarshal(x.body, &raws); err != nil {
			return nil, false, unprocessable("%v", err)
		}
	}
	for i, raw := range raws {
		o, err := parseObject(raw)
		if err != nil {
			return nil, false, unprocessable("%v", fmt.Errorf("object %d: %w", i, err))
		}
		sent = append(sent, o)
	}
	return sent, list, nil
}
