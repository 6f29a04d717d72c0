// Quarantine: what LangSmith refused, why, and what to do about it.

import { call } from '../api.js';
import { button, h, show } from '../dom.js';
import { ago, at, bytes, clock, count, due, num, plural, took, words } from '../format.js';

const PAGE = 100;
const STATES = { probing: ['warn', 'heals by itself'], needs_person: ['bad', 'needs you'], releasing: ['good', 'being released'] };

// What the reader has opened: case id: {loading, answer, error}.
const opened = new Map();
// Cases beyond those that Watch follows, as they were when they were loaded.
const further = { cases: [], next: '', loadedMs: 0, error: '', loading: false };

/** renderCases brings the section up to date. */
export function renderCases(store) {
  const counts = store.status?.caseCounts ?? {};
  const live = [...store.cases.values()].sort(byUrgency);
  for (const id of opened.keys()) {
    if (!store.cases.has(id) && !further.cases.some((c) => c.id === id)) opened.delete(id);
  }
  const total = Math.max(num(counts.cases), live.length);
  if (total === 0) {
    show('cases-body', h('div', { class: 'empty' }, h('h3', null, 'Nothing is stuck'),
      h('p', null, 'LangSmith has refused nothing that weir still keeps. What it refuses will stand here, with the reason and what to do.')));
    return;
  }
  const known = new Set(live.map((c) => c.id));
  const rest = further.cases.filter((c) => !known.has(c.id));
  show('cases-body',
    h('p', { class: 'lead', 'data-key': 'lead' }, `${plural(total, 'case')} with ${plural(counts.items, 'item')}`,
      num(counts.needsPerson) > 0 && h('span', null, `; ${plural(counts.needsPerson, 'needs a person', 'need a person')}`), '.'),
    total > 1 && h('p', { class: 'actions', 'data-key': 'all' }, button('Release all…', 'release-all')),
    h('ul', { class: 'cases', 'data-key': 'live' }, live.map((c) => item(c, store))),
    rest.length > 0 && h('h3', { 'data-key': 'rest-head' }, `Further cases, as of ${clock(further.loadedMs)}`),
    rest.length > 0 && h('ul', { class: 'cases', 'data-key': 'rest' }, rest.map((c) => item(c, store))),
    further.error && h('p', { class: 'error', 'data-key': 'more-error' }, further.error),
    total > live.length && (further.loadedMs === 0 || further.next)
      && button(further.loading ? 'Loading…' : `Show more (${count(Math.max(0, total - live.length - rest.length))} left)`, 'more-cases', {},
        { 'data-key': 'more', 'aria-disabled': further.loading && 'true' }));
}

function byUrgency(a, b) {
  const rank = { needs_person: 0, probing: 1, releasing: 2 };
  return (rank[a.state] ?? 3) - (rank[b.state] ?? 3) || a.id - b.id;
}

function item(c, store) {
  const [mood, state] = STATES[c.state] ?? ['quiet', words(c.state)];
  const open = opened.has(c.id);
  const now = store.now();
  return h('li', { class: `case ${mood}`, 'data-key': `case-${c.id}`, id: `case-${c.id}` },
    h('h3', null, h('button', {
      type: 'button', class: 'opener', 'data-action': 'toggle-case', 'data-id': c.id,
      'aria-expanded': open ? 'true' : 'false', 'aria-controls': `case-body-${c.id}`,
    }, h('span', { class: 'case-title' }, h('span', { class: 'id' }, `Case ${c.id}`), ' ', words(c.cause) || words(c.reason)),
    h('span', { class: `chip ${mood}` }, state))),
    h('p', { class: 'facts' }, facts(c), ' · first ', ago(c.firstSeen, now), num(c.items) > 1 && [', last ', ago(c.lastSeen, now)],
      c.nextProbe && [' · next try ', due(c.nextProbe, now)],
      num(c.waitingItems) > 0 && ` · ${plural(c.waitingItems, 'item waits', 'items wait')} behind it`),
    c.remedy && h('p', { class: 'remedy' }, h('strong', null, 'What to do: '), c.remedy),
    h('div', { id: `case-body-${c.id}`, class: 'case-body', hidden: !open }, open && body(c, opened.get(c.id))),
    h('p', { class: 'actions' },
      button('Release…', 'release-case', { id: c.id }, { 'aria-label': `Release… case ${c.id}` }),
      !c.ownKey && button('Release under weir’s own key…', 'release-own-key', { id: c.id }, { 'aria-label': `Release under weir’s own key… case ${c.id}` }),
      button('Export', 'export-case', { id: c.id }, { 'aria-label': `Export case ${c.id}` }),
      button('Discard…', 'discard-case', { id: c.id }, { class: 'danger', 'aria-label': `Discard… case ${c.id}` })));
}

function facts(c) {
  const traces = num(c.traces) > 0 ? ` of ${c.tracesAtLeast ? 'at least ' : ''}${plural(c.traces, 'trace')}` : '';
  return `${plural(c.items, 'item')}${traces}, ${bytes(c.bytes)}${c.httpStatus ? ` · HTTP ${c.httpStatus}` : ''} · ${c.confidence}`;
}

function body(c, { loading, answer, error }) {
  if (loading) return h('p', { class: 'fine' }, 'Loading…');
  if (error) return h('p', { class: 'error' }, error);
  const full = answer.case ?? c;
  return [
    h('h4', null, 'Why'),
    (full.evidence ?? []).length > 0 ? h('ul', null, full.evidence.map((e) => h('li', null, e))) : h('p', null, 'Nothing more is known than the refusal itself.'),
    h('p', { class: 'fine' }, origin(full)),
    (full.alternatives ?? []).length > 0 && [h('h4', null, 'It could also be'), h('ul', null, full.alternatives.map((a) => h('li', null,
      h('strong', null, words(a.cause)), ` (${a.confidence}): ${[...(a.evidence ?? []), a.remedy].filter(Boolean).join(' ')}`)))],
    exchange(answer.exchange ?? {}, full),
    (answer.traceIds ?? []).length > 0 && [h('h4', null, 'Some of its traces'), h('ul', { class: 'ids' }, answer.traceIds.map(
      (id) => h('li', null, button(id, 'find-trace', { trace: id }, { class: 'link', title: 'Where is it?' }))))],
    h('p', null, button('Frames of this case', 'frames-of-case', { id: c.id }, { class: 'link' })),
  ];
}

function origin(c) {
  return [`lane ${c.lane}`, c.protocol, c.credential && `key ${c.credential}`, c.workspace && `workspace ${c.workspace}`,
    c.project && `project ${c.project}`, c.ownKey && 'under weir’s own key'].filter(Boolean).join(', ');
}

/** exchange is what weir asked and LangSmith answered, letter for letter. */
function exchange(x, c) {
  if (!x.method && !x.httpStatus && !x.error && !c.response) return null;
  const request = [`${x.method ?? ''} ${x.url ?? ''}`.trim(), x.sentBytes && `${count(x.sentBytes)} bytes${x.encoding ? `, ${x.encoding}` : ''}`];
  const answer = [
    x.httpStatus ? `HTTP ${x.httpStatus}` : 'no answer',
    ...(x.headers ?? []).map((header) => `${header.name}: ${header.value ?? ''}`),
    x.response && `\n${x.response}`,
    x.error && `\n${x.error}`,
  ];
  return [
    h('h4', null, 'The exchange'),
    h('p', { class: 'fine' }, x.time && at(x.time), x.elapsed && `, took ${took(x.elapsed)}`,
      x.requestId && `, LangSmith’s request id ${x.requestId}`),
    h('pre', { tabindex: '0', 'aria-label': 'Request' }, request.filter(Boolean).join('\n')),
    h('pre', { tabindex: '0', 'aria-label': 'Answer' }, answer.filter(Boolean).join('\n')),
  ];
}

/** toggleCase opens or closes a case; opening loads it anew. */
export async function toggleCase(id, changed, keepOpen = false) {
  if (opened.has(id) && !keepOpen) {
    opened.delete(id);
    changed();
    return;
  }
  const entry = { loading: true };
  opened.set(id, entry);
  changed();
  try {
    entry.answer = await call('GetCase', { id });
  } catch (err) {
    entry.error = err.message;
  }
  entry.loading = false;
  changed();
}

/**
 * moreCases loads the next page of all cases that has some which Watch does not
 * follow: that follows the most urgent ones, pages are in order of age.
 */
export async function moreCases(store, changed) {
  if (further.loading) return;
  further.loading = true;
  further.error = '';
  changed();
  try {
    let fresh;
    do {
      const answer = await call('ListCases', { pageSize: PAGE, pageToken: further.next });
      fresh = (answer.cases ?? []).filter((c) => !store.cases.has(c.id));
      further.cases.push(...fresh);
      further.next = answer.nextPageToken ?? '';
      further.loadedMs = store.now();
    } while (fresh.length === 0 && further.next);
  } catch (err) {
    further.error = err.message;
  }
  further.loading = false;
  changed();
}

/** forgetFurther drops the pages that were loaded, after something changed. */
export function forgetFurther(ids) {
  if (ids) further.cases = further.cases.filter((c) => !ids.includes(c.id));
  else Object.assign(further, { cases: [], next: '', loadedMs: 0 });
}
