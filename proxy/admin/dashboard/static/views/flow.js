// What comes in and goes out, the backlog, and where all that was accepted is.

import { call } from '../api.js';
import { backlogData, draw, rowsOf, stepSeconds, throughputData } from '../charts.js';
import { button, h, show, table } from '../dom.js';
import { bytes, clock, count, num, percent, perSecond, plural, span, words } from '../format.js';
import { draining } from './glance.js';

const DAY_EVERY_MS = 60_000; // a step of the longer history

// The last day, if the reader looks at that; Watch follows the last hour only.
const day = { shown: false, points: [], askedAt: -Infinity };

/** showSpan chooses between the last hour and the last day. */
export function showSpan(span, changed) {
  day.shown = span === 'day';
  day.askedAt = -Infinity;
  changed();
}

async function askDay(changed) {
  day.askedAt = performance.now();
  try {
    day.points = (await call('GetHistory', { span: '86400s' })).points ?? [];
  } catch {
    // The next minute asks again; the caption says up to when the points go.
  }
  changed();
}

/** renderFlow brings the section up to date. */
export function renderFlow(store, changed) {
  if (day.shown && store.connection === 'live' && performance.now() - day.askedAt > DAY_EVERY_MS) askDay(changed);
  const st = store.status ?? {};
  show('totals', totals(st.totals ?? {}));
  show('first-steps', num(st.totals?.acceptedItems) === 0 && firstSteps());
  const points = day.shown ? day.points : store.points;
  const choice = (span, text) => button(text, 'show-span', { span }, { 'aria-pressed': String(day.shown === (span === 'day')), class: 'choice' });
  show('flow-span', choice('hour', 'Last hour'), choice('day', 'Last day'));
  document.getElementById('flow-charts').hidden = points.length < 2;
  show('flow-none', points.length < 2 && h('p', { class: 'empty' }, day.shown ? 'The last day is shown once weir has run for two minutes.' : 'The charts begin a few seconds after weir does.'));
  if (points.length < 2) return;
  draw(document.getElementById('chart-throughput'), 'throughput', throughputData(points));
  draw(document.getElementById('chart-backlog'), 'backlog', backlogData(points));
  const flow = st.flow ?? {};
  show('caption-throughput', `Now ${perSecond(flow.acceptedPerSecond)} items/s in, ${perSecond(flow.deliveredPerSecond)} out, `
    + `${bytes(flow.sentBytesPerSecond)}/s sent. Shown: ${span(points.length * stepSeconds(points))}, to ${clock(Date.parse(points.at(-1).time))}.`);
  show('caption-backlog', backlogCaption(store));
  show('flow-table', table('Throughput and backlog', [
    { title: 'Until' }, { title: 'In, items/s', number: true }, { title: 'Out, items/s', number: true },
    { title: 'Pending', number: true }, { title: 'On disk', number: true },
  ], rowsOf(points)));
}

function backlogCaption(store) {
  const pending = num(store.status?.totals?.pendingItems);
  const drain = draining(store);
  if (pending === 0) return h('span', null, 'No backlog.');
  if (!drain) return h('span', null, `${plural(pending, 'item')} pending; it does not grow less at the moment.`);
  const share = 1 - drain.pending / drain.peak;
  return [
    h('span', { id: 'drain-text' }, `${plural(pending, 'item')} pending, ${drain.text} (${clock(store.now() + drain.left * 1000)}).`),
    drain.peak > drain.pending && h('progress', { id: 'drain-progress', max: drain.peak, value: drain.peak - drain.pending,
      'aria-label': `${percent(share)} of the backlog of ${count(drain.peak)} is delivered` }),
  ];
}

/** totals adds up: accepted is the sum of the others. */
function totals(t) {
  const dropped = Object.entries(t.droppedByReason ?? {}).sort((a, b) => num(b[1]) - num(a[1]));
  const entry = (name, value, mood, note) => h('div', { class: num(value) > 0 ? mood : '' },
    h('dt', null, name), h('dd', null, count(value)), note && h('dd', { class: 'fine' }, note));
  return h('dl', { class: 'totals', 'aria-label': 'Where all items are that were ever accepted' },
    entry('accepted', t.acceptedItems, ''),
    entry('delivered', t.deliveredItems, ''),
    entry('pending', t.pendingItems, ''),
    entry('held', t.heldItems, 'warn'),
    entry('quarantined', t.quarantinedItems, 'bad'),
    entry('dropped', t.droppedItems, 'bad', dropped.map(([reason, n]) => `${count(n)} ${words(reason)}`).join(', ')));
}

function firstSteps() {
  const host = location.hostname || '127.0.0.1';
  return h('div', { class: 'empty first' },
    h('h3', null, 'No data yet: point an SDK here'),
    h('p', null, 'With LangSmith’s SDK:'),
    h('pre', { tabindex: '0', 'aria-label': 'Environment for the LangSmith SDK' },
      `export LANGSMITH_TRACING=true\nexport LANGSMITH_ENDPOINT=http://${host}:4318`),
    h('p', null, 'With an OpenTelemetry SDK:'),
    h('pre', { tabindex: '0', 'aria-label': 'Environment for an OpenTelemetry SDK' },
      `export OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:4318\nexport OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`),
    h('p', { class: 'fine' }, 'Port 4318 is the default; weir printed its own addresses when it started. ',
      h('code', null, 'weir send-test'), ' proves the whole way with one real trace.'));
}
