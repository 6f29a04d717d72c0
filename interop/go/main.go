// Command client is an application that traces LLM calls with the stock
// OpenTelemetry SDK for Go. It is driven over standard input and says on
// standard output, as JSON lines, what it believes to have sent; ../README.md
// describes both. Everything about the exporter comes from the standard
// OTEL_* environment variables.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const schemaURL = "https://opentelemetry.io/schemas/1.37.0"

// flushTimeout is longer than the minute the exporters may retry for.
const flushTimeout = 90 * time.Second

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// run does what the lines of in say until they end.
func run(ctx context.Context, in io.Reader, out io.Writer) error {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { fmt.Fprintln(os.Stderr, "sdk:", err) }))
	exporter, err := newExporter(ctx)
	if err != nil {
		return fmt.Errorf("make the exporter: %w", err)
	}
	say := &teller{enc: json.NewEncoder(out)}
	ended := &counter{}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(resource.NewWithAttributes(schemaURL,
			attribute.String("service.name", "summarizer-go"), attribute.String("service.version", "0.9.1"),
			attribute.String("deployment.environment.name", "prüfung"), attribute.Int("host.cpus", 8),
			attribute.StringSlice("process.command_args", []string{"summarizer", "--serve"}),
		)),
		sdktrace.WithSpanProcessor(ended),
		sdktrace.WithBatcher(&recorder{inner: exporter, say: say}),
	)
	app := &application{tracer: provider.Tracer("summarizer")}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		switch command, argument, _ := strings.Cut(lines.Text(), " "); command {
		case "emit":
			n, err := strconv.Atoi(argument)
			if err != nil {
				return fmt.Errorf("emit %q: %w", argument, err)
			}
			for range n {
				app.turn(ctx)
			}
		case "traces":
			n, err := strconv.Atoi(argument)
			if err != nil {
				return fmt.Errorf("traces %q: %w", argument, err)
			}
			for range n {
				app.small(ctx)
			}
		case "edges":
			edges(ctx, provider)
		case "flush":
			flushCtx, cancel := context.WithTimeout(ctx, flushTimeout)
			// What failed has been told by the recorder.
			_ = provider.ForceFlush(flushCtx)
			cancel()
			say.tell("flushed", ended.n.Load())
		default:
			return fmt.Errorf("what is %q? Known are: emit N, traces N, edges, flush", lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read commands: %w", err)
	}
	return provider.Shutdown(ctx)
}

// newExporter returns the stock exporter that OTEL_EXPORTER_OTLP_PROTOCOL
// names; the HTTP one reads the variable itself to choose its format.
func newExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	switch protocol := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "http/protobuf", "http/json":
		return otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; this SDK has grpc, http/protobuf and http/json", protocol)
	}
}

// teller prints the account, one JSON object a line.
type teller struct {
	mu  sync.Mutex // guards enc: the exporter runs in a goroutine of the SDK
	enc *json.Encoder
}

func (t *teller) tell(kind string, content any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.enc.Encode(map[string]any{kind: content}); err != nil {
		fmt.Fprintln(os.Stderr, "client: print the account:", err)
	}
}

// counter counts the spans that ended, which is what should arrive.
type counter struct{ n atomic.Int64 }

func (*counter) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (c *counter) OnEnd(sdktrace.ReadOnlySpan)                   { c.n.Add(1) }
func (*counter) Shutdown(context.Context) error                  { return nil }
func (*counter) ForceFlush(context.Context) error                { return nil }

// recorder tells what becomes of each export of the stock exporter it wraps.
type recorder struct {
	inner sdktrace.SpanExporter
	say   *teller
}

func (r *recorder) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	r.say.tell("attempt", len(spans))
	err := r.inner.ExportSpans(ctx, spans)
	if err != nil && strings.Contains(err.Error(), "(0 spans rejected)") {
		// A partial success with nothing rejected is a warning. The SDK returns
		// it as an error, to be logged.
		otel.Handle(err)
		err = nil
	}
	if err != nil {
		r.say.tell("failed", len(spans))
		return err
	}
	for _, span := range spans {
		r.say.tell("span", accountOf(span))
	}
	return nil
}

func (r *recorder) Shutdown(ctx context.Context) error { return r.inner.Shutdown(ctx) }
