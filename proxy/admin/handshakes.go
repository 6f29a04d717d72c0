package admin

import (
	"context"
	"log/slog"
	"strings"
)

// quietHandshakes logs failed TLS handshakes for those who look for them only:
// every probe of a port and every scanner makes one.
type quietHandshakes struct{ slog.Handler }

// Handle implements slog.Handler.
func (h quietHandshakes) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: TLS handshake error") { // net/http, server.go
		r.Level = slog.LevelDebug
		if !h.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}
