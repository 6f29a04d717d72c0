// Package smith is a look-alike of LangSmith's trace ingestion: close enough
// to the real service that a client cannot tell them apart by what it needs,
// and scriptable where the real one only fails by accident.
//
// It takes traces as OTLP (POST /otel/v1/traces) and as run operations (POST
// /runs/multipart, /runs/batch and /runs, PATCH /runs/{id}, and /feedback), and
// answers the reads and the creation of projects, datasets and examples without
// which the SDKs run no evaluation; each path also below /api and /api/v1.
// [Server.Runs] has what became of the operations, values as they were sent.
//
// Keys, workspaces, compression and the literal error bodies follow LangSmith's
// documentation, its SDKs' sources and bodies that people have published.
// Whatever nobody could check against the live service is a field of
// [Switches], so that a test can run under each possibility; answers that are a
// guess say so where they are defined.
//
// Three differences are deliberate. What is taken is visible at once, where the
// service answers first and processes later. Ids that the service may quietly
// tolerate (a wrong length, all zero) are refused as malformed, because a
// forwarder that sends them has a bug; so are run fields whose run does not come
// with them. And limits are met exactly, where the service's are approximate.
//
// Traces, events and bytes are counted by tenant, whatever the key, and once
// [Limits] are set for a tenant it is refused as a used-up plan is: with 429,
// the published body and no Retry-After. The month's unique traces are met to
// the trace under any number of senders. A request that fits in no more hits a
// limit of an hour or a minute for all that follow until the window turns.
// Whether tenants are being refused shows where the service shows it, in
// usage_limits and, late, in the organization's granular usage;
// [Server.Usage] knows at once. [Server.AddTraffic] stands in for other senders
// of the plan, and [Server.SetClock] turns the month.
//
// A [Server] is an http.Handler for httptest, or serves a listener itself:
//
//	s := smith.New(smith.Config{})
//	defer s.Close()
//	s.Script(smith.GatewayRate.Fault().Times(2), smith.HTML502.Fault())
//	ts := httptest.NewServer(s)
//	...
//	err := s.WaitSpans(ctx, 100)
//
// What goes wrong is scripted as [Fault]s: ready-made ones are [Canned], those
// that take several are [Situation]s, and package scene puts hosts, keys and data
// together for every cause of refusal that is known.
//
// Keys are kept in memory to tell senders apart; everything that prints or
// serves one shows its first five and last two characters.
package smith
