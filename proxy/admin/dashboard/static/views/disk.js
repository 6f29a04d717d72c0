// What takes the disk. It is asked for now and then, not followed.

import { call } from '../api.js';
import { h, s, show, table } from '../dom.js';
import { at, bytes, clock, count, num, percent, words } from '../format.js';
import { laneName } from './lanes.js';

const EVERY_MS = 15_000;
const MEANINGS = {
  pending: 'to be sent', held: 'kept back by the quota guard', quarantined: 'refused by LangSmith', attachments: 'large attachments',
  settled: 'delivered or dropped; weir gives it back by itself', reserve: 'kept free for weir’s own needs', quota: 'the ledger of traces',
};

let answer = null;
let answeredMs = 0;
let error = '';
let askedAt = -Infinity;

/** renderDisk brings the section up to date, and asks anew when it is time. */
export function renderDisk(store, changed) {
  if (store.connection === 'live' && performance.now() - askedAt > EVERY_MS) ask(store, changed);
  const disk = store.status?.disk ?? {};
  const max = Math.max(1, num(disk.maxBytes));
  show('disk-body',
    h('p', null, h('progress', { max, value: Math.min(num(disk.usedBytes), max), class: num(disk.usedBytes) > 0.9 * max ? 'bad' : '', 'aria-label': 'Buffer used' })),
    h('p', null, `${bytes(disk.usedBytes)} of ${bytes(disk.maxBytes)} used (${percent(num(disk.usedBytes) / max)}), ${bytes(disk.freeBytes)} free on the file system; `
      + `below ${bytes(disk.minFreeBytes)} exports are refused.`),
    disk.refusing && h('p', { class: 'error' }, `Exports are refused: ${disk.refusing}`),
    error && h('p', { class: 'error' }, error),
    answer && uses(store));
}

async function ask(store, changed) {
  askedAt = performance.now();
  try {
    answer = await call('GetDiskUse');
    answeredMs = store.now();
    error = '';
  } catch (err) {
    error = `What takes the disk cannot be told: ${err.message}`;
  }
  changed();
}

function uses(store) {
  const rows = (answer.uses ?? []).filter((u) => num(u.bytes) > 0 || num(u.count) > 0);
  return [
    bar(rows),
    table('What takes the disk', [
      { title: 'What' }, { title: 'Size', number: true }, { title: 'Items', number: true }, { title: 'Could be freed', number: true }, { title: 'By the command' },
    ], rows.map((u) => ({ key: `use-${u.kind}`, cells: [
      [h('span', { class: `key use-${u.kind}`, 'aria-hidden': 'true' }), words(u.kind), h('br'), h('span', { class: 'fine' }, MEANINGS[u.kind] ?? '',
        u.oldestAt && [', oldest of ', at(u.oldestAt)])],
      bytes(u.bytes), num(u.items) > 0 ? count(u.items) : '–', num(u.discardableBytes) > 0 ? bytes(u.discardableBytes) : '–',
      u.command ? h('code', null, u.command) : '–']}))),
    lanes(store),
    h('p', { class: 'fine' }, `As of ${clock(answeredMs)}.`),
  ];
}

/** bar shows the parts of the whole side by side. */
function bar(rows) {
  const total = Math.max(1, rows.reduce((sum, u) => sum + num(u.bytes), 0));
  let x = 0;
  return s('svg', { class: 'parts', viewBox: '0 0 1000 14', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, rows.map((u) => {
    const width = (1000 * num(u.bytes)) / total;
    x += width;
    return s('rect', { class: `use-${u.kind}`, x: x - width, y: 0, width, height: 14 });
  }));
}

function lanes(store) {
  const rows = (answer.lanes ?? []).filter((l) => num(l.pendingBytes) + num(l.heldBytes) + num(l.quarantinedBytes) > 0);
  if (rows.length === 0) return null;
  return h('details', { 'data-key': 'by-lane' }, h('summary', null, 'By lane'), table('Disk by lane', [
    { title: 'Lane' }, { title: 'Pending', number: true }, { title: 'Held', number: true }, { title: 'Quarantined', number: true },
  ], rows.map((l) => ({ key: `disk-${l.lane}`, cells: [
    `${l.lane} ${laneName(store.lanes.get(l.lane) ?? {})}`, bytes(l.pendingBytes), bytes(l.heldBytes), bytes(l.quarantinedBytes)] }))));
}
