// The queue, frame by frame, and what is in a frame: only when asked for.

import { call } from '../api.js';
import { button, h, show } from '../dom.js';
import { ago, bytes, clock, count, plural } from '../format.js';

const PAGE = 50;
const MAX_IDS = 20;

// filter null: the reader has not asked for the queue.
const list = { filter: null, frames: [], next: '', asOf: 0, loading: false, error: '' };
const frames = new Map(); // frame id: {loading, answer, error}

/** renderQueue brings the section up to date. */
export function renderQueue(store) {
  document.getElementById('queue-filter').hidden = list.filter === null;
  if (list.filter === null) {
    show('queue-body', h('p', null, 'Data is kept and sent in frames. ', button('Show the frames', 'show-queue', {}, { id: 'show-queue' })));
    return;
  }
  show('queue-body',
    list.error && h('p', { class: 'error' }, list.error),
    list.asOf > 0 && list.frames.length === 0 && h('p', { class: 'empty' }, 'There is no such frame: nothing waits here.'),
    list.frames.length > 0 && h('ul', { class: 'frames', 'data-key': 'frames' }, list.frames.map((f) => frame(f, store))),
    list.asOf > 0 && h('p', { class: 'fine' }, `As of ${clock(list.asOf)}${list.filter.case ? `, case ${list.filter.case}` : ''}.`),
    list.loading && h('p', { class: 'fine' }, 'Loading…'),
    list.next && !list.loading && button('Show more', 'more-frames', {}, { 'data-key': 'more' }));
}

function frame(f, store) {
  const entry = frames.get(f.id);
  return h('li', { class: 'frame', 'data-key': `frame-${f.id}` },
    h('p', null, h('button', { type: 'button', class: 'opener', 'data-action': 'toggle-frame', 'data-frame': f.id, 'aria-expanded': entry ? 'true' : 'false' },
      h('span', { class: 'id' }, f.id), h('span', null, `${f.state}${f.sending ? ', on its way' : ''}`),
      h('span', { class: 'fine' }, `lane ${f.lane}${f.case ? `, case ${f.case}` : ''} · ${plural(f.items, 'item')}, ${plural(f.traces, 'trace')}, ${bytes(f.bytes)} · `,
        f.acceptedAt ? ago(f.acceptedAt, store.now()) : ''))),
    entry && h('div', { class: 'frame-body' }, opened(f, entry)));
}

function opened(f, { loading, answer, error }) {
  if (loading) return h('p', { class: 'fine' }, 'Loading…');
  if (error) return h('p', { class: 'error' }, error);
  const ids = answer.traceIds ?? [];
  return [
    h('p', { class: 'fine' }, `${bytes(answer.rawBytes)} before compression, ${plural(ids.length, 'trace id')}.`),
    h('ul', { class: 'ids' }, ids.slice(0, MAX_IDS).map((id) => h('li', null, button(id, 'find-trace', { trace: id }, { class: 'link', title: 'Where is it?' })))),
    ids.length > MAX_IDS && h('p', { class: 'fine' }, `and ${count(ids.length - MAX_IDS)} more`),
    answer.content
      ? [h('pre', { tabindex: '0', class: 'content', 'aria-label': `Content of frame ${f.id}` }, answer.content.map(pretty).join('\n')),
        answer.contentCut && h('p', { class: 'fine' }, 'There is more; weir quarantine export writes all of a case.')]
      : h('p', null, button('Show content', 'show-content', { frame: f.id }), ' ',
        h('span', { class: 'fine' }, 'What applications sent, prompts and answers included.')),
  ];
}

function pretty(line) {
  try {
    return JSON.stringify(JSON.parse(line), null, 2);
  } catch {
    return line;
  }
}

/** showQueue lists frames by a filter of ListFrames, from the start. */
export function showQueue(filter, store, changed) {
  Object.assign(list, { filter, frames: [], next: '', asOf: 0, error: '' });
  frames.clear();
  return moreFrames(store, changed);
}

export async function moreFrames(store, changed) {
  const { filter } = list;
  list.loading = true;
  changed();
  try {
    const answer = await call('ListFrames', { ...filter, pageSize: PAGE, pageToken: list.next });
    if (filter !== list.filter) return; // another list was asked for meanwhile
    list.frames.push(...(answer.frames ?? []));
    list.next = answer.nextPageToken ?? '';
    list.asOf = store.now();
  } catch (err) {
    if (filter !== list.filter) return;
    list.error = err.message;
  }
  list.loading = false;
  changed();
}

/** toggleFrame opens or closes a frame; content says whether to load that, too. */
export async function toggleFrame(id, content, changed) {
  if (frames.has(id) && !content) {
    frames.delete(id);
    changed();
    return;
  }
  const entry = { loading: true };
  frames.set(id, entry);
  changed();
  try {
    entry.answer = await call('GetFrame', { id, content });
    if (content) entry.answer.content ??= [];
  } catch (err) {
    entry.error = err.message;
  }
  entry.loading = false;
  changed();
}
