package smith

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// limitsView is the body of the limits calls. What a body does not name stays.
type limitsView struct {
	Default json.RawMessage            `json:"default,omitempty"`
	Tenants map[string]json.RawMessage `json:"tenants,omitempty"`
}

func (s *Server) controlGetLimits(w http.ResponseWriter, _ *http.Request) error {
	standard, own := s.Limits()
	writeControl(w, http.StatusOK, map[string]any{"default": standard, "tenants": own})
	return nil
}

func (s *Server) controlSetLimits(w http.ResponseWriter, r *http.Request) error {
	var body limitsView
	if err := readControl(r, &body); err != nil {
		return err
	}
	// All of it is checked before any of it takes effect.
	standard, own := s.Limits()
	if err := mergeLimits(&standard, body.Default); err != nil {
		return badRequest("default: %v", err)
	}
	changed := map[string]*Limits{}
	for tenant, raw := range body.Tenants {
		key, err := controlTenant(tenant)
		if err != nil {
			return err
		}
		if string(raw) == "null" {
			changed[key] = nil
			continue
		}
		l, ok := own[key]
		if !ok {
			l = standard
		}
		if err := mergeLimits(&l, raw); err != nil {
			return badRequest("tenants.%s: %v", key, err)
		}
		changed[key] = &l
	}
	s.SetLimits(standard)
	for tenant, l := range changed {
		s.SetTenantLimits(tenant, l)
	}
	return s.controlGetLimits(w, r)
}

// mergeLimits lays what raw names over l.
func mergeLimits(l *Limits, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(l); err != nil {
		return err
	}
	return l.Validate()
}

// controlTenant reads a tenant's id.
func controlTenant(tenant string) (string, error) {
	if !isUUID(tenant) {
		return "", badRequest("tenant %q is not a UUID, such as %s", tenant, DefaultTenant)
	}
	return accountKey(tenant), nil
}

func (s *Server) controlUsage(w http.ResponseWriter, r *http.Request) error {
	answer := struct {
		Now     time.Time `json:"now"`
		Tenants []Usage   `json:"tenants"`
	}{Now: s.Now().UTC()}
	if tenant := r.URL.Query().Get("tenant"); tenant != "" {
		key, err := controlTenant(tenant)
		if err != nil {
			return err
		}
		answer.Tenants = []Usage{s.TenantUsage(key)}
	} else {
		answer.Tenants = s.Usage()
	}
	writeControl(w, http.StatusOK, answer)
	return nil
}

func (s *Server) controlTraffic(w http.ResponseWriter, r *http.Request) error {
	body := struct {
		Traffic

		Tenant string `json:"tenant"`
	}{Tenant: DefaultTenant}
	if err := readControl(r, &body); err != nil {
		return err
	}
	key, err := controlTenant(body.Tenant)
	if err != nil {
		return err
	}
	const most = 1 << 40
	for _, n := range []int64{body.Traces, body.Events, body.Bytes} {
		if n < 0 || n > most {
			return badRequest("traces, events and bytes are numbers from 0 to %d, not %d", int64(most), n)
		}
	}
	counted := s.AddTraffic(key, body.Traffic)
	writeControl(w, http.StatusOK, map[string]int64{"counted": counted, "refused": body.Traces - counted})
	return nil
}
