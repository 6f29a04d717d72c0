package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	weirv1 "weir/proto/weir/v1"
)

// reloaded is how a reload ended.
type reloaded struct {
	changed, needsRestart []string
	err                   error
}

// reload takes the settings that can change while weir runs. Only serve calls it.
func (w *weir) reload() (r reloaded) {
	if why := w.settings.noReload; why != "" {
		return reloaded{err: errors.New(why)}
	}
	next, err := w.settings.reload()
	if err == nil {
		err = checkUpstream(next)
	}
	if err == nil && (next.Upstream != w.settings.Upstream || next.CAFile != w.settings.CAFile) {
		err = w.changeUpstream(next)
	}
	if err != nil {
		w.log.Error("the configuration was not reloaded; weir goes on as before", slog.Any("error", err))
		return reloaded{err: fmt.Errorf("the configuration was not reloaded; weir goes on as before: %w", err)}
	}
	r.changed, r.needsRestart = w.settings.apply(next)
	w.forwarder.SetDestination(destination(w.settings))
	w.forwarder.SetStartWindow(w.settings.startWindow())
	if err := w.forwarder.SetQuotaRules(w.settings.quotaRules()); err != nil {
		w.log.Error("the quota's settings were not taken", slog.Any("error", err))
		r.err = fmt.Errorf("the quota's settings were not taken; the others were: %w", err)
	}
	if len(r.needsRestart) > 0 {
		w.log.Warn("some changed settings need a restart to take effect", slog.Any("settings", r.needsRestart))
	}
	w.log.Info("configuration reloaded", slog.Any("changed", r.changed))
	return r
}

// askReload has serve reload, as a SIGHUP does, and waits for how that ends.
func (w *weir) askReload(ctx context.Context) (changed, needsRestart []string, err error) {
	answer := make(chan reloaded, 1)
	select {
	case w.reloads <- answer:
	case <-w.ending:
		return nil, nil, errors.New("weir is stopping")
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	r := <-answer // serve answers whatever it is asked
	return r.changed, r.needsRestart, r.err
}

// reloadTimeout bounds a reload: a new upstream's certificates may be on a slow
// disk.
const reloadTimeout = 30 * time.Second

// reloadCmd is `weir reload`.
type reloadCmd struct {
	JSON bool `name:"json" help:"Print the admin API's message as JSON."`
	adminFlags
}

func (c *reloadCmd) run(ctx context.Context, inv *invocation) error {
	const operation = "reload"
	call, err := c.dial(inv)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	out, err := call.client.Reload(ctx, &weirv1.ReloadRequest{})
	if err != nil {
		return call.explain(operation, err)
	}
	if c.JSON {
		return written(operation, printProto(inv.Out, out))
	}
	_, err = fmt.Fprintln(inv.Out, strings.Join(reloadedSentences(out), "\n"))
	return written(operation, err)
}

// reloadedSentences say what a reload did.
func reloadedSentences(r *weirv1.ReloadResponse) []string {
	names := func(settings []string) string { return oneLine(strings.Join(settings, ", "), maxSentence) }
	var out []string
	if changed := r.GetChanged(); len(changed) > 0 {
		out = append(out, "Changed, and in force now: "+names(changed)+".")
	}
	if restart := r.GetNeedsRestart(); len(restart) > 0 {
		out = append(out, "Changed, and in force after a restart of weir: "+names(restart)+".")
	}
	if len(out) == 0 {
		out = append(out, "Nothing has changed: the configuration is as before.")
	}
	return out
}
