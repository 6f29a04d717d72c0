package scene

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"time"

	"weir/internal/smith"
)

// faulty is a host with a script of faults, that then goes.
func faulty(script ...smith.Fault) func(*Stage) error {
	return func(st *Stage) error {
		h, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		h.Script(script...)
		st.heal = func(*Client) error {
			h.ClearFaults()
			return nil
		}
		return nil
	}
}

// always is a canned fault that strikes every request that it matches.
func always(c smith.Canned) smith.Fault { return c.Fault().Always() }

// later is a cause that comes after data has arrived, as all of an incident do.
func later(play func(*Stage, *Host)) func(*Stage) error {
	return func(st *Stage) error {
		h, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		st.Before = traffic()
		st.turn = func() { play(st, h) }
		st.heal = func(*Client) error {
			h.ClearFaults()
			return nil
		}
		return nil
	}
}

// incidents are trouble on the service's side. Of the 403s among them nothing
// says so but what happened before and what else fails.
var incidents = []Scene{
	{Name: "incident", Cause: "upstream_incident", Fate: Waits, Status: 403, Body: forbidden, play: later(func(_ *Stage, h *Host) {
		h.Script(smith.Incident.Faults()...)
	})},
	{Name: "incident_flipping", Cause: "upstream_incident", Fate: Waits, Status: 403, Body: forbidden, play: later(func(_ *Stage, h *Host) {
		h.Script(smith.IncidentFlipping.Faults()...)
	})},
	{Name: "incident_403_burst", Cause: "upstream_incident", Fate: Blips, Status: 403, Body: forbidden, play: later(func(_ *Stage, h *Host) {
		burst := smith.Forbidden.Fault().Times(4)
		burst.Match = smith.MatchIngest
		h.Script(burst)
	})},
	{Name: "outage_503", Cause: "upstream_incident", Fate: Waits, Status: 503, play: faulty(always(smith.Unavailable))},
	{Name: "outage_502_page", Cause: "upstream_incident", Fate: Waits, Status: 502, Body: "502 Bad Gateway", play: faulty(always(smith.HTML502))},
	{Name: "outage_500", Cause: "upstream_incident", Fate: Waits, Status: 500, Body: `{"error":"Internal server error"}`, play: faulty(always(smith.ServerError))},
}

// places are base URLs that lead elsewhere than to the API.
var places = []Scene{
	{
		Name: "ui_host", Cause: "ui_host", Fate: Refused, Status: 405, Body: "<center>nginx</center>",
		play: elsewhere(smith.UISite.Faults()...),
	},
	// The documentation's host is no user interface, but the same mistake.
	{
		Name: "ui_host_docs", Cause: "ui_host", Fate: Refused, Status: 404, Body: "Page Not Found",
		play: elsewhere(always(smith.DocsPage)),
	},
	{Name: "endpoint_path", Cause: "endpoint_path", Fate: Refused, Status: 404, Body: `{"detail":"Not Found"}`, play: atPath("/langsmith")},
	{Name: "endpoint_path_of_another_version", Cause: "endpoint_path", Fate: Refused, Status: 404, Body: `{"detail":"Not Found"}`, play: atPath("/api/v2")},
	{Name: "redirect_to_https", Cause: "redirect", Fate: Refused, Status: 308, Body: "308 Permanent Redirect", play: toHTTPS(smith.PermanentRedirect)},
	{Name: "redirect_301", Cause: "redirect", Fate: Refused, Status: 301, Body: "301 Moved Permanently", play: toHTTPS(smith.Moved)},
	{Name: "redirect_302_to_another_host", Cause: "redirect", Fate: Refused, Status: 302, Body: "302 Found", play: func(st *Stage) error {
		if err := elsewhere()(st); err != nil {
			return err
		}
		f := always(smith.Found)
		f.Redirect = st.Hosts[1].URL()
		st.Hosts[0].Script(f)
		return nil
	}},
	// A TLS port that is spoken to in plain HTTP. It could be called a redirect
	// that was not sent: the remedy is https:// either way.
	{
		Name: "endpoint_malformed_http_for_https", Cause: "endpoint_malformed", Fate: Refused, Status: 400,
		Body: "Client sent an HTTP request to an HTTPS server.", play: func(st *Stage) error {
			h, ca, err := secureHost(st)
			if err != nil {
				return err
			}
			st.Client.CA = ca
			st.Client.BaseURL = "http" + strings.TrimPrefix(h.URL(), "https")
			st.heal = useURL(h)
			return nil
		},
	},
}

// useURL mends by the right base URL.
func useURL(h *Host) func(*Client) error {
	return func(c *Client) error {
		c.BaseURL = h.URL()
		return nil
	}
}

// elsewhere is a host with faults, beside the one that is meant.
func elsewhere(script ...smith.Fault) func(*Stage) error {
	return func(st *Stage) error {
		wrong, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		wrong.Script(script...)
		right, err := st.host(smith.Config{})
		st.heal = useURL(right)
		return err
	}
}

// atPath is the right host and a wrong path.
func atPath(path string) func(*Stage) error {
	return func(st *Stage) error {
		h, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		st.Client.BaseURL = h.URL() + path
		st.heal = useURL(h)
		return nil
	}
}

// toHTTPS is a plain host that redirects to the same service over TLS.
func toHTTPS(c smith.Canned) func(*Stage) error {
	return func(st *Stage) error {
		plain, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		h, ca, err := secureHost(st)
		if err != nil {
			return err
		}
		f := always(c)
		f.Redirect = h.URL()
		plain.Script(f)
		st.Client.CA = ca
		st.heal = useURL(h)
		return nil
	}
}

// secureHost starts a host with a good certificate, and returns its authority.
func secureHost(st *Stage) (*Host, []byte, error) {
	a, err := newAuthority("Scene Root CA")
	if err != nil {
		return nil, nil, err
	}
	cert, err := a.issue(nil)
	if err != nil {
		return nil, nil, err
	}
	h, err := st.host(smith.Config{}, withCertificate(cert))
	return h, a.pem(), err
}

// intermediaries answer in the service's place.
var intermediaries = []Scene{
	{Name: "captive_portal", Cause: "intermediary_block", Fate: Waits, Status: 200, Body: "Sign in to the network", play: faulty(always(smith.CaptivePortal))},
	// A redirect it is, too: what tells the two apart is the page, and that
	// every path leads to the same place.
	{Name: "captive_portal_redirect", Cause: "intermediary_block", Fate: Refused, Status: 302, Body: "Sign in to the network", play: faulty(portalRedirect())},
	{Name: "captive_portal_511", Cause: "intermediary_block", Fate: Waits, Status: 511, Body: "Sign in to the network", play: faulty(always(smith.PortalLogin))},
	{Name: "block_page", Cause: "intermediary_block", Fate: Refused, Status: 403, Body: "Access denied by policy", play: faulty(always(smith.BlockPage))},
	{Name: "cloud_armor", Cause: "intermediary_block", Fate: Refused, Status: 403, Body: "<title>403</title>403 Forbidden", play: faulty(always(smith.CloudArmor))},
}

// portalRedirect leads every path to one page.
func portalRedirect() smith.Fault {
	f := always(smith.PortalRedirect)
	f.Header.Set("Location", f.Redirect)
	f.Redirect = ""
	return f
}

// networks are ways on which no answer comes.
var networks = []Scene{
	{Name: "network_refused", Cause: "network", Fate: Waits, play: func(st *Stage) error {
		h, err := st.host(smith.Config{})
		if err != nil {
			return err
		}
		ctx := st.ctx
		st.heal = func(*Client) error { return h.Listen(ctx) }
		return h.Refuse()
	}},
	{Name: "network_reset", Cause: "network", Fate: Waits, play: faulty(smith.Fault{Name: "reset", Count: smith.Forever, Reset: true})},
	{Name: "upstream_certificate_expired", Cause: "upstream_certificate", Fate: Waits, play: badCertificate(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	})},
	// A name that the certificate is not for may as well be a wrong endpoint.
	{Name: "upstream_certificate_of_another_host", Cause: "upstream_certificate", Fate: Waits, play: badCertificate(func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"www.example"}, nil
	})},
	{Name: "tls_interception", Cause: "tls_interception", Fate: Waits, play: func(st *Stage) error {
		_, ca, err := secureHost(st)
		st.heal = useCA(ca)
		return err
	}},
	{Name: "tls_interception_self_signed", Cause: "tls_interception", Fate: Waits, play: func(st *Stage) error {
		var none *authority
		cert, err := none.issue(nil)
		if err != nil {
			return err
		}
		st.heal = useCA((&authority{cert: &x509.Certificate{Raw: cert.Certificate[0]}}).pem())
		_, err = st.host(smith.Config{}, withCertificate(cert))
		return err
	}},
}

// useCA mends by trusting an authority.
func useCA(ca []byte) func(*Client) error {
	return func(c *Client) error {
		c.CA = ca
		return nil
	}
}

// badCertificate is a host with a certificate of a trusted authority that is
// not valid; then it gets a valid one.
func badCertificate(change func(*x509.Certificate)) func(*Stage) error {
	return func(st *Stage) error {
		a, err := newAuthority("Scene Root CA")
		if err != nil {
			return err
		}
		var certs [2]*tls.Certificate
		for i, f := range []func(*x509.Certificate){change, nil} {
			if certs[i], err = a.issue(f); err != nil {
				return err
			}
		}
		h, err := st.host(smith.Config{}, withCertificate(certs[0]))
		st.Client.CA = a.pem()
		st.heal = func(*Client) error {
			h.SetCertificate(certs[1])
			return nil
		}
		return err
	}
}
