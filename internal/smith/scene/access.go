package scene

import (
	"weir/internal/smith"
)

// Literal bodies; the whole ones are package smith's.
const (
	forbidden       = "{\"error\":\"Forbidden\"}\n"
	forbiddenOld    = `{"detail":"Forbidden"}`
	unauthorized    = "{\"error\":\"Unauthorized\"}\n"
	unauthorizedOld = `{"detail":"Invalid token"}`
)

// old has the service speak in the words of the Python service.
var old = smith.Switches{AuthWording: smith.WordingOld}

// configured is a scene in which weir is configured with a key that the service
// does not know; mended, it has a good one.
func configured(key string, sw smith.Switches) func(*Stage) error {
	return func(st *Stage) error {
		st.Client.APIKey = key
		st.heal = useKey(GoodKey)
		_, err := st.host(smith.Config{Switches: sw})
		return err
	}
}

// useKey mends by another key.
func useKey(key string) func(*Client) error {
	return func(c *Client) error {
		c.APIKey = key
		return nil
	}
}

// keys are the causes that lie in the key.
var keys = []Scene{
	{
		Name: "key_missing", Cause: "key_missing", Fate: Refused, Status: 401, Body: unauthorized,
		play: configured("", smith.Switches{}),
	},
	{Name: "key_missing_old_words", Cause: "key_missing", Fate: Refused, Status: 401, Body: unauthorizedOld, play: configured("", old)},
	{
		Name: "key_placeholder", Cause: "key_placeholder", Fate: Refused, Status: 403, Body: forbidden,
		play: configured("<your-api-key>", smith.Switches{}),
	},
	{
		Name: "key_placeholder_code", Cause: "key_placeholder", Fate: Refused, Status: 403, Body: forbiddenOld,
		play: configured("userdata.get('LANGSMITH_API_KEY')", old),
	},
	{
		Name: "key_placeholder_variable", Cause: "key_placeholder", Fate: Refused, Status: 403, Body: forbidden,
		play: configured("${LANGSMITH_API_KEY}", smith.Switches{}),
	},
	{
		Name: "key_malformed_first_letter_lost", Cause: "key_malformed", Fate: Refused, Status: 403, Body: forbidden,
		play: configured(GoodKey[1:], smith.Switches{}),
	},
	{
		Name: "key_malformed_quotes", Cause: "key_malformed", Fate: Refused, Status: 403, Body: forbidden,
		play: configured(`"`+GoodKey+`"`, smith.Switches{}),
	},
	{
		Name: "key_malformed_truncated", Cause: "key_malformed", Fate: Refused, Status: 403, Body: forbidden,
		play: configured(GoodKey[:20], smith.Switches{}),
	},
	// A key with a line break cannot be a header: no request is made.
	{Name: "key_malformed_line_break", Cause: "key_malformed", Fate: Refused, play: configured(GoodKey+"\n", smith.Switches{})},
	{
		Name: "key_legacy", Cause: "key_legacy", Fate: Refused, Status: 401,
		Body: "{\"error\":\"Unauthorized: Using outdated v1 api key. Please use v2 api key.\"}\n",
		play: configured("ls__0123456789abcdef0123456789abcdef", smith.Switches{}),
	},
	{
		Name: "key_legacy_old_words", Cause: "key_legacy", Fate: Refused, Status: 401,
		Body: `{"detail":"Using legacy API key. Please generate a new API key."}`, play: configured("ls__0123456789abcdef0123456789abcdef", old),
	},
	{
		Name: "key_in_wrong_header_prefix", Cause: "key_in_wrong_header", Fate: Refused, Status: 401, Body: unauthorized,
		play: configured("Bearer "+GoodKey, smith.Switches{}),
	},
	// The application's own header: only the application can mend it.
	{Name: "key_in_wrong_header_of_a_caller", Cause: "key_in_wrong_header", Fate: Refused, Status: 401, Body: unauthorized, play: func(st *Stage) error {
		st.Data = from(traffic(), "Authorization", "Bearer "+GoodKey)
		_, err := st.host(smith.Config{})
		return err
	}},
	{Name: "key_revoked", Cause: "key_revoked", Fate: Refused, Status: 403, Body: forbidden, play: revoked(smith.Revoked403)},
	{Name: "key_revoked_401", Cause: "key_revoked", Fate: Refused, Status: 401, Body: unauthorized, play: revoked(smith.Revoked401)},
	{Name: "stale_key", Cause: "stale_key", Fate: Refused, Status: 403, Body: forbidden, play: func(st *Stage) error {
		h, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		st.Before = traffic()
		st.Data = from(traffic(), "X-Api-Key", staleKey)
		st.heal = func(*Client) error {
			h.SetKey(staleKey, smith.Key{Tenant: Tenant})
			return nil
		}
		return nil
	}},
	{Name: "region_mismatch", Cause: "region_mismatch", Fate: Refused, Status: 403, Body: forbidden, play: regions(2)},
	{Name: "region_mismatch_of_four", Cause: "region_mismatch", Fate: Refused, Status: 403, Body: forbidden, play: regions(4)},
}

// revoked is a key that worked and then is revoked. Another region knows
// nothing of it.
func revoked(answer smith.RevokedKey) func(*Stage) error {
	return func(st *Stage) error {
		h, err := st.host(smith.Config{
			Keys:     map[string]smith.Key{GoodKey: {Tenant: Tenant}, newKey: {Tenant: Tenant}},
			Switches: smith.Switches{RevokedKey: answer},
		})
		if err != nil {
			return err
		}
		other, err := st.host(smith.Config{Keys: map[string]smith.Key{staleKey: {Tenant: otherTenant}}})
		if err != nil {
			return err
		}
		st.Client.Regions = []string{other.URL()}
		st.Before = traffic()
		st.turn = func() { h.RemoveKey(GoodKey) }
		st.heal = useKey(newKey)
		return nil
	}
}

// regions are n hosts of which the last alone knows the key.
func regions(n int) func(*Stage) error {
	return func(st *Stage) error {
		hosts, err := StartHosts(st.ctx, n, func(i int) smith.Config {
			key := staleKey
			if i == n-1 {
				key = GoodKey
			}
			return smith.Config{Keys: map[string]smith.Key{key: {Tenant: Tenant}}}
		})
		if err != nil {
			return err
		}
		st.Hosts = hosts
		for _, h := range hosts[1:] {
			st.Client.Regions = append(st.Client.Regions, h.URL())
		}
		st.heal = func(c *Client) error {
			c.BaseURL, c.Regions = hosts[n-1].URL(), nil
			for _, h := range hosts[:n-1] {
				c.Regions = append(c.Regions, h.URL())
			}
			return nil
		}
		return nil
	}
}

// workspaces are the causes that lie in what a key may do where.
var workspaces = []Scene{
	{
		Name: "workspace_required", Cause: "workspace_required", Fate: Refused, Status: 403,
		Body: `{"error":"org_scoped_key_requires_workspace","message":"This API key is org-scoped and requires workspace specification.`,
		play: func(st *Stage) error {
			st.Client.APIKey = serviceKey
			st.heal = useWorkspace(Tenant)
			_, err := st.host(smith.Config{Keys: map[string]smith.Key{serviceKey: {Tenant: Tenant, OrgScoped: true}}})
			return err
		},
	},
	// Updates of single runs are answered by the Python service.
	{
		Name: "workspace_required_old_words", Cause: "workspace_required", Fate: Refused, Status: 403,
		Body: `{"detail":"This API key is org-scoped and requires workspace specification. Please provide 'X-Tenant-ID' header."}`,
		play: func(st *Stage) error {
			st.Client.APIKey = serviceKey
			st.Data = []Request{call("/feedback", map[string]any{
				"id": newID(), "run_id": newID(), "key": "score", "score": 1,
			}, 1)}
			st.heal = useWorkspace(Tenant)
			_, err := st.host(smith.Config{Keys: map[string]smith.Key{serviceKey: {Tenant: Tenant, OrgScoped: true}}})
			return err
		},
	},
	{
		Name: "workspace_not_uuid", Cause: "workspace_not_uuid", Fate: Refused, Status: 401,
		Body: `{"detail":"UUID header value was not a valid UUID"}`, play: inWorkspace(GoodKey, "my-team", ""),
	},
	{
		Name: "workspace_not_uuid_number", Cause: "workspace_not_uuid", Fate: Refused, Status: 401,
		Body: `{"detail":"UUID header value was not a valid UUID"}`, play: inWorkspace(serviceKey, "1", Tenant),
	},
	{
		Name: "workspace_mismatch", Cause: "workspace_mismatch", Fate: Refused, Status: 403, Body: forbidden,
		play: inWorkspace(GoodKey, otherTenant, ""),
	},
	// Without a workspace this key is refused, too, but in other words.
	{
		Name: "workspace_mismatch_service_key", Cause: "workspace_mismatch", Fate: Refused, Status: 403, Body: forbidden,
		play: inWorkspace(serviceKey, goneTenant, Tenant),
	},
	{Name: "no_write_permission", Cause: "no_write_permission", Fate: Refused, Status: 403, Body: forbidden, play: traits(smith.Key{Tenant: Tenant, ReadOnly: true})},
	{
		Name: "plan_missing", Cause: "plan_missing", Fate: Refused, Status: 403, Body: "{\"error\":\"Forbidden - no plan found\"}\n",
		play: traits(smith.Key{Tenant: Tenant, NoPlan: true}),
	},
}

// useWorkspace mends by another workspace.
func useWorkspace(id string) func(*Client) error {
	return func(c *Client) error {
		c.Workspace = id
		return nil
	}
}

// inWorkspace is a key that is good, in a workspace that is not.
func inWorkspace(key, workspace, mended string) func(*Stage) error {
	return func(st *Stage) error {
		st.Client.APIKey, st.Client.Workspace = key, workspace
		st.heal = useWorkspace(mended)
		_, err := st.host(smith.Config{Keys: map[string]smith.Key{
			GoodKey:    {Tenant: Tenant},
			serviceKey: {Tenant: Tenant, Workspaces: []string{otherTenant}, OrgScoped: true},
		}})
		return err
	}
}

// traits is a key that may not write, and then may.
func traits(k smith.Key) func(*Stage) error {
	return func(st *Stage) error {
		h, err := st.host(smith.Config{Keys: map[string]smith.Key{GoodKey: k}})
		st.heal = func(*Client) error {
			h.SetKey(GoodKey, smith.Key{Tenant: Tenant})
			return nil
		}
		return err
	}
}
