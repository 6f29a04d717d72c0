package smith

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
)

// endpoint is one call of the service.
type endpoint struct {
	pattern string // below the prefix; {id} stands for one element
	path    string // as asked for, below the prefix, as faults match it
	id      string // what {id} stood for
	allow   string // the methods that the path has, where it lacks the one asked for

	asked  string // the request's own method
	method string
	family family
	open   bool // needs no key
	ingest bool // takes traces
	write  bool // changes something else
	org    bool // is about the organization: names no workspace
	bare   bool // exists only under Switches.OTLPBarePath
	handle func(*Server, *request, caller) reply
}

// goRoots are the first path elements that LangSmith's Go service owns
// (LangSmith helm chart: frontend config map). All else is the Python one's.
var goRoots = []string{"/otel", "/runs", "/info", "/platform"}

// below takes the prefix off a cleaned path.
func below(path string) string {
	for _, prefix := range []string{"/api/v1", "/api"} {
		// Once only: a doubled /api/v1 is a 404 at the service, too.
		if rest, ok := strings.CutPrefix(path, prefix); ok && strings.HasPrefix(rest, "/") {
			path = rest
			break
		}
	}
	// Behind /api/v1 this one is not versioned again.
	if rest, ok := strings.CutPrefix(path, "/v1/platform/"); ok {
		return "/platform/" + rest
	}
	return path
}

// route finds the endpoint of a cleaned path. Where there is none the result
// still has the path and the family that answers 404, or the methods that 405
// names.
func route(method, path string) endpoint {
	path = below(path)
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var other endpoint
	var allow []string
	for _, e := range endpoints {
		id, ok := e.match(path)
		if !ok || len(allow) > 0 && id != "" && other.id == "" {
			continue // a fixed path is no id
		}
		e.path, e.id = path, id
		if e.method == method {
			return e
		}
		other = e
		allow = append(allow, e.method)
	}
	if len(allow) > 0 {
		other.allow = strings.Join(allow, ", ")
		return other
	}
	e := endpoint{pattern: path, path: path, family: familyPython}
	for _, root := range goRoots {
		if path == root || strings.HasPrefix(path, root+"/") {
			e.family = familyGo
		}
	}
	return e
}

// match reports whether a path is e's, and what its {id} stands for.
func (e *endpoint) match(path string) (id string, ok bool) {
	before, after, ok := strings.Cut(e.pattern, "{id}")
	if !ok {
		return "", path == e.pattern
	}
	id, ok = strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, after)
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// clean removes doubled and trailing slashes, which the service's front end
// does not mind.
func clean(path string) string {
	if !strings.Contains(path, "//") && (path == "/" || !strings.HasSuffix(path, "/")) && path != "" {
		return path
	}
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	return "/" + strings.Join(parts, "/")
}

// notFound is the 404 of the endpoint's family. The Python form is published;
// the Go form is our guess.
func (e endpoint) notFound() reply {
	if e.family == familyPython {
		return literal(http.StatusNotFound, bodyNotFound)
	}
	return e.family.failure(http.StatusNotFound, "Not Found")
}

// info answers GET /info with the service's published defaults (LangSmith API
// reference: get server info), compression flags on as in the cloud.
func (s *Server) info(*request, caller) reply {
	return jsonReply(map[string]any{
		"version":                 "0.16.14",
		"git_sha":                 "",
		"license_expiration_time": nil,
		"batch_ingest_config": map[string]any{
			"use_multipart_endpoint":    true,
			"scale_up_qsize_trigger":    1000,
			"scale_up_nthreads_limit":   16,
			"scale_down_nempty_trigger": 4,
			"size_limit":                100,
			"size_limit_bytes":          20 << 20,
		},
		"instance_flags": map[string]any{
			"zstd_compression_enabled":           true,
			"gzip_body_enabled":                  true,
			"dataset_examples_multipart_enabled": true, // else the JS SDK uploads none
		},
	})
}

// queryInt reads a number from the query, or def where it is absent.
func queryInt(r *request, name string, def int) (int, bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// projectID makes up a stable UUID for a project.
func projectID(tenant, name string) string {
	sum := sha256.Sum256([]byte(tenant + "/" + name))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: made up by its maker
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// parseUUID reads 32 hex digits, with or without hyphens.
func parseUUID(s string) (id [16]byte, ok bool) {
	if len(s) == 36 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return id, false
		}
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	if len(s) != 32 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}
