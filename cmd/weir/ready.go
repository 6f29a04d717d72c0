package main

import (
	"fmt"
	"net"
	"strings"

	"weir/internal/callerheaders"
)

// listening is where the listeners of a running weir ended up: the addresses
// in the form of listenAddr, with port 0 replaced by the port that was taken;
// empty where a listener is off.
type listening struct {
	GRPC, HTTP, Admin, Metrics listenAddr
}

// readyBanner is what `weir run` prints once it takes data: where, what for,
// and the lines that point an application at it. It ends in a line break and
// holds no more of the key than its hint.
func readyBanner(s *settings, at listening, color bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", paint("weir "+buildVersion()+" is ready", bold, color))
	for _, row := range []struct{ name, text string }{
		{"gRPC", string(at.GRPC)},
		{"HTTP", string(at.HTTP)},
		{"admin", string(at.Admin)},
		{"metrics", string(at.Metrics)},
		{"data", s.DataDir},
		{"upstream", s.Upstream},
		{"key", keyLine(s)},
		{"workspace", s.Workspace},
		{"project", s.Project},
	} {
		if row.text != "" {
			fmt.Fprintf(&b, "  %s %s\n", paint(fmt.Sprintf("%-10s", row.name), dim, color), oneLine(row.text, 200))
		}
	}
	writeAppLines(&b, s, at, color)
	if s.APIKey == "" {
		writeKeyHelp(&b, color)
	}
	return b.String()
}

func keyLine(s *settings) string {
	if s.APIKey == "" {
		return "none"
	}
	return fmt.Sprintf("%s (%s)", s.APIKey, s.from("api_key"))
}

// writeAppLines prints the environment of an application that uses LangSmith's
// SDK, or an OpenTelemetry SDK, per the OTLP exporter specification.
func writeAppLines(b *strings.Builder, s *settings, at listening, color bool) {
	grpc, http := clientEndpoint(at.GRPC), clientEndpoint(at.HTTP)
	if s.Access.TLS.on() {
		grpc, http = overTLS(grpc), overTLS(http)
	}
	if strings.HasPrefix(http, "http") {
		fmt.Fprintf(b, "\n%s\n", paint("Point an application with a LangSmith SDK at it:", bold, color))
		fmt.Fprintf(b, "  export LANGSMITH_TRACING=true\n  export LANGSMITH_ENDPOINT=%s\n", http)
	}
	if grpc != "" {
		fmt.Fprintf(b, "\n%s\n", paint("With an OpenTelemetry SDK:", bold, color))
		fmt.Fprintf(b, "  export OTEL_EXPORTER_OTLP_ENDPOINT=%s\n  export OTEL_EXPORTER_OTLP_PROTOCOL=grpc\n", grpc)
	}
	// SDKs reach HTTP over TCP only.
	if strings.HasPrefix(http, "http") {
		head := "Or over HTTP:"
		if grpc == "" {
			head = "With an OpenTelemetry SDK:"
		}
		fmt.Fprintf(b, "\n%s\n", paint(head, bold, color))
		fmt.Fprintf(b, "  export OTEL_EXPORTER_OTLP_ENDPOINT=%s\n  export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\n", http)
	}
	if s.Access.IngestToken != "" {
		fmt.Fprintf(b, "\n%s\n", paint("Where an application has no LangSmith key of its own, give it the ingest token:", bold, color))
		fmt.Fprintf(b, "  export LANGSMITH_API_KEY=TOKEN\n  export OTEL_EXPORTER_OTLP_HEADERS=%s=TOKEN\n", callerheaders.TokenHeader)
	}
	if reachableElsewhere(at) {
		fmt.Fprintf(b, "\nFrom another machine or container, put this host's name in place of 127.0.0.1.\n")
	}
}

// writeKeyHelp says what is missing, since weir without a key still takes
// data and keeps it.
func writeKeyHelp(b *strings.Builder, color bool) {
	fmt.Fprintf(b, "\n%s\n", paint("No LangSmith API key is set.", yellow, color))
	b.WriteString("Data that comes without a key of its own stays on disk until there is one. Stop weir and either\n" +
		"  export LANGSMITH_API_KEY=lsv2_...   # a key from LangSmith's settings, then `weir run` again\n" +
		"  weir run --api-key-file FILE        # the same key from a file\n" +
		"  weir dev                            # or try weir without LangSmith, against a look-alike\n")
}

// clientEndpoint is the URL under which an application on this machine
// reaches a listener: loopback where it listens on every address.
func clientEndpoint(addr listenAddr) string {
	if path, isSocket := addr.socket(); isSocket {
		return "unix://" + path
	}
	host, port, err := net.SplitHostPort(string(addr))
	if err != nil {
		return "" // off
	}
	if isUnspecified(host) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// overTLS is an endpoint of clientEndpoint's at a listener that speaks TLS. A
// unix socket does not.
func overTLS(endpoint string) string {
	if rest, ok := strings.CutPrefix(endpoint, "http://"); ok {
		return "https://" + rest
	}
	return endpoint
}

// reachableElsewhere reports whether an endpoint of the banner stands for a
// listener on every address.
func reachableElsewhere(at listening) bool {
	for _, addr := range []listenAddr{at.GRPC, at.HTTP} {
		host, _, err := net.SplitHostPort(string(addr))
		if err == nil && isUnspecified(host) {
			return true
		}
	}
	return false
}
