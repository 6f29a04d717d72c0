// What is known of weir: the pieces that Watch sends, put together, and how
// fresh they are.

import { CallError, call, stream, token } from './api.js';

// A message comes at least every 15 seconds.
const SILENCE_MS = 20_000;
const RETRY_MS = [1000, 2000, 4000, 8000, 10_000];
const HIDDEN_MS = 30_000;
// GetHistory's finest step, for an hour.
const MAX_POINTS = 720;

/**
 * Store follows one weir. onChange is called after each change. Its connection
 * is "connecting", "live", "lost" or "locked" (a token is asked for).
 */
export class Store {
  constructor(onChange) {
    this.onChange = onChange;
    this.connection = 'connecting';
    this.why = ''; // of "lost" and "locked", in a sentence
    this.retryAt = 0; // Date.now() of the next try
    this.attempts = 0;
    this.seenMs = 0; // weir's clock at the latest message; 0: there was none
    this.forget();
  }

  forget() {
    this.status = null;
    this.lanes = new Map();
    this.cases = new Map();
    this.scopes = new Map();
    this.points = [];
  }

  /** now is weir's time in ms; it stands still while the connection is lost. */
  now() {
    return this.connection === 'live' ? this.seenMs + (performance.now() - this.receivedAt) : this.seenMs;
  }

  /** run follows weir for as long as the page is there. */
  async run() {
    for (;;) {
      await this.untilVisible();
      try {
        await this.follow();
      } catch (err) {
        this.lose(err);
      }
      await this.pause();
    }
  }

  /** follow watches once; it ends with an error always. */
  async follow() {
    const abort = new AbortController();
    let silence;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(new CallError('unreachable', 'weir has fallen silent')), SILENCE_MS);
    };
    const hide = this.abortWhenHidden(abort);
    try {
      listen();
      await stream('Watch', { interval: '1s' }, (message) => {
        listen();
        this.apply(message);
      }, abort.signal);
      throw new CallError('unavailable', 'weir ended the stream');
    } finally {
      clearTimeout(silence);
      hide();
    }
  }

  /** A tab that nobody sees for a while lets its connection go. */
  abortWhenHidden(abort) {
    let timer;
    const changed = () => {
      clearTimeout(timer);
      if (document.hidden) timer = setTimeout(() => abort.abort(new CallError('hidden', 'the tab was in the background')), HIDDEN_MS);
    };
    document.addEventListener('visibilitychange', changed);
    changed();
    return () => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', changed);
    };
  }

  async untilVisible() {
    while (document.hidden && this.why) {
      await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
    }
  }

  lose(err) {
    const code = err instanceof CallError ? err.code : 'unreachable';
    this.attempts = code === 'hidden' ? 0 : this.attempts;
    if (code === 'unauthenticated') {
      this.connection = 'locked';
      this.why = token.get() ? 'This token is not the one of this weir.' : '';
      token.set('');
      this.forget();
      this.seenMs = 0;
    } else {
      this.connection = 'lost';
      this.why = err.message;
      this.retryAt = Date.now() + (code === 'hidden' ? 0 : RETRY_MS[Math.min(this.attempts, RETRY_MS.length - 1)]);
      this.attempts += 1;
    }
    this.onChange();
  }

  /** pause waits for the next try, or until retry is called. */
  pause() {
    return new Promise((resolve) => {
      this.retry = resolve;
      if (this.connection === 'lost') setTimeout(resolve, Math.max(0, this.retryAt - Date.now()));
    });
  }

  unlock(value) {
    token.set(value);
    this.connection = 'connecting';
    this.onChange();
    this.retry?.();
  }

  /** apply lays a message of Watch over what is known. */
  apply(message) {
    if (message.first) {
      this.forget();
      this.loadHistory();
    }
    if (message.status) this.status = message.status;
    merge(this.lanes, message.lanes, message.lanesGone, (lane) => lane.id ?? 0);
    merge(this.cases, message.cases, message.casesGone, (c) => c.id ?? 0);
    merge(this.scopes, message.scopes, message.scopesGone, (scope) => scope.account ?? '');
    this.addPoints(message.points ?? []);
    this.seenMs = Date.parse(message.time);
    this.receivedAt = performance.now();
    this.connection = 'live';
    this.why = '';
    this.attempts = 0;
    this.onChange();
  }

  /** addPoints takes points in any order, each once. */
  addPoints(points) {
    if (points.length === 0) return;
    const byTime = new Map(this.points.map((p) => [p.time, p]));
    for (const p of points) byTime.set(p.time, p);
    this.points = [...byTime.values()].sort((a, b) => Date.parse(a.time) - Date.parse(b.time)).slice(-MAX_POINTS);
  }

  async loadHistory() {
    try {
      const { points } = await call('GetHistory', { span: '3600s' });
      this.addPoints(points ?? []);
      this.onChange();
    } catch {
      // The charts begin with what Watch sends; the next stream asks again.
    }
  }
}

function merge(map, changed, gone, keyOf) {
  for (const entry of changed ?? []) map.set(keyOf(entry), entry);
  for (const key of gone ?? []) map.delete(key);
}
