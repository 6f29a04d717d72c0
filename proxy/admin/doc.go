// Package admin serves what people and monitoring need of a running weir, on
// one port: the weir.v1.AdminService as gRPC (with reflection), as Connect
// and as JSON over HTTP; /metrics for Prometheus; /healthz and /readyz; and a
// page that lists them. It also has the client that the command line uses.
//
// What is shown and steered comes through the Source interface; Pipeline is
// the one of a running weir.
package admin
