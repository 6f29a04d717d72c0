package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const mebibyte = 1 << 20

// edges makes spans at the edges of what the format can carry.
func edges(ctx context.Context, provider *sdktrace.TracerProvider) {
	t := provider.Tracer("weir.interop.edges", trace.WithInstrumentationVersion("2.0.0-rc.1+π"), trace.WithSchemaURL(schemaURL),
		trace.WithInstrumentationAttributes(attribute.String("scope.attribute", "ja 🙂"), attribute.Int("scope.number", 7)))
	scalars(ctx, t)
	texts(ctx, t)
	collections(ctx, t)
	overTheLimits(ctx, t)
	timesAndParents(ctx, t)
	_, span := t.Start(ctx, "one mebibyte")
	span.SetAttributes(attribute.String("gen_ai.completion.0.content", bigText(mebibyte)))
	span.End()
}

func scalars(ctx context.Context, t trace.Tracer) {
	_, span := t.Start(ctx, "scalars")
	defer span.End()
	span.SetAttributes(
		attribute.Int64("int.zero", 0), attribute.Int64("int.minus", -1),
		attribute.Int64("int.max", math.MaxInt64), attribute.Int64("int.min", math.MinInt64),
		attribute.Float64("double.tenth", 0.1), attribute.Float64("double.minus_zero", math.Copysign(0, -1)),
		attribute.Float64("double.max", math.MaxFloat64), attribute.Float64("double.denormal", math.SmallestNonzeroFloat64),
		attribute.Float64("double.nan", math.NaN()), attribute.Float64("double.inf", math.Inf(1)),
		attribute.Float64("double.minus_inf", math.Inf(-1)), attribute.Float64("double.whole", 3),
		attribute.Bool("bool.true", true), attribute.Bool("bool.false", false),
	)
}

func texts(ctx context.Context, t trace.Tracer) {
	_, span := t.Start(ctx, "text "+strings.Repeat("näme ", 2000))
	defer span.End()
	controls := make([]rune, 0, 32)
	for r := rune(1); r < ' '; r++ {
		controls = append(controls, r)
	}
	span.SetAttributes(
		attribute.String("empty", ""), attribute.String("nul", "a\x00b"), attribute.String("controls", string(append(controls, 0x7f))),
		attribute.String("quotes", "\"'`\\/<>&"), attribute.String("zwj", "👩‍👩‍👧‍👦🏳️‍🌈"), attribute.String("astral", "𝕳𝖊𝖑𝖑𝖔 𠜎"),
		attribute.String("rtl", "שלום עולם"), attribute.String("combining", "e\u0301 ≠ é"),
		attribute.String("separators", "a\u2028b\u2029c\ufeffd"), attribute.String("last", "\U0010ffff"),
		attribute.String("ключ 🔑", "key in Unicode"), attribute.String("key with spaces ", " value "),
	)
}

func collections(ctx context.Context, t trace.Tracer) {
	_, span := t.Start(ctx, "collections")
	defer span.End()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	deep := attribute.StringValue("six")
	for range 6 {
		deep = attribute.SliceValue(deep)
	}
	span.SetAttributes(
		attribute.StringSlice("array.empty", []string{}), attribute.BoolSlice("array.bool", []bool{true, false}),
		attribute.Int64Slice("array.int", []int64{1, -2, 1<<53 + 1}), attribute.Float64Slice("array.double", []float64{0.5, -0.25}),
		attribute.StringSlice("array.string", []string{"", "a", "🙂"}),
		attribute.Slice("array.mixed", attribute.StringValue("a"), attribute.IntValue(1), attribute.Float64Value(2.5),
			attribute.BoolValue(true), attribute.Value{}, attribute.ByteSliceValue([]byte{0, 255})),
		attribute.Map("map.empty"), attribute.ByteSlice("bytes", all), attribute.ByteSlice("bytes.empty", nil),
		attribute.Map("message",
			attribute.String("role", "tool"),
			attribute.Slice("parts", attribute.MapValue(attribute.String("type", "text"), attribute.String("text", "你好"))),
			attribute.Map("usage", attribute.Int("input", 12), attribute.Float64("cost", 0.0004)),
		),
		attribute.KeyValue{Key: "deep", Value: deep},
	)
	span.AddEvent("nested event", trace.WithAttributes(attribute.Map("payload", attribute.Int64Slice("a", []int64{1, 2}))))
}

func overTheLimits(ctx context.Context, t trace.Tracer) {
	const over = 140 // the default limits are 128
	links := make([]trace.Link, 0, over)
	for i := range over {
		sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{6: 1, 7: byte(i)}})
		links = append(links, trace.Link{SpanContext: sc, Attributes: []attribute.KeyValue{attribute.Int("n", i)}})
	}
	_, span := t.Start(ctx, "over the limits", trace.WithLinks(links...))
	defer span.End()
	for i := range over {
		span.SetAttributes(attribute.Int(fmt.Sprintf("attribute.%03d", i), i))
		keys := 1
		if i == over-1 {
			keys = 130
		}
		list := make([]attribute.KeyValue, 0, keys)
		for k := range keys {
			list = append(list, attribute.Int(fmt.Sprintf("key.%03d", k), k))
		}
		span.AddEvent(fmt.Sprint("event ", i), trace.WithAttributes(list...))
	}
}

func timesAndParents(ctx context.Context, t trace.Tracer) {
	now := time.Now()
	startEnd := func(name string, start, end time.Time) {
		_, span := t.Start(ctx, name, trace.WithTimestamp(start))
		span.End(trace.WithTimestamp(end))
	}
	startEnd("three hours ago", now.Add(-3*time.Hour+1), now.Add(-2*time.Hour+7))
	startEnd("", now, now)
	for kind := trace.SpanKindInternal; kind <= trace.SpanKindConsumer; kind++ {
		_, span := t.Start(ctx, "kind "+kind.String(), trace.WithSpanKind(kind))
		span.End()
	}
	state, err := trace.ParseTraceState("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
	if err != nil {
		panic(err) // it is a constant
	}
	remote := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x0a, 0xf7, 15: 0x9c}, SpanID: trace.SpanID{0, 0xf0, 7: 0xb7},
		TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true,
	})
	_, span := t.Start(trace.ContextWithRemoteSpanContext(ctx, remote), "under a remote parent",
		trace.WithLinks(trace.Link{SpanContext: remote, Attributes: []attribute.KeyValue{attribute.String("why", "remote")}}))
	span.SetStatus(codes.Error, "ошибка: не найдено 🚫")
	span.End()
}

// bigText returns text of at least that many bytes that repeats itself little.
func bigText(size int) string {
	var b strings.Builder
	for state := uint32(12345); b.Len() < size; {
		state = (state*1103515245 + 12345) & 0x7fffffff
		fmt.Fprintf(&b, "%x %c%c ", state, rune(0x4e00+state%0x5000), rune(0x1f600+state%64))
	}
	return b.String()
}
