// Package otlp receives traces from applications that speak the OpenTelemetry
// protocol, over gRPC and over HTTP, and hands them to a proxy.Sink.
//
// A message stays the bytes it came as. Scan walks over it once, checks that
// it is well formed and collects what weir must know (spans, distinct trace
// ids); nothing is decoded and nothing is encoded again. Only OTLP/JSON is
// decoded, once, into the same bytes that protobuf clients send. An export is
// acknowledged after the sink has made it durable, never before.
//
// What a refusal looks like on the wire is decided in one place, status.go.
package otlp
