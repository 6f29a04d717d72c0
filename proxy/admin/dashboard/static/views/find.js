// Where is this trace?

import { call } from '../api.js';
import { button, h, show } from '../dom.js';
import { at, due, num, plural, words } from '../format.js';

const MOODS = { delivered: 'good', passed_on: 'good', pending: 'warn', held: 'warn', quarantined: 'bad', dropped: 'bad', discarded: 'bad' };
const NAMES = { passed_on: 'passed on' };

let turn = 0; // of the latest search; answers of earlier ones are late

/** find looks for a trace and shows where it is. */
export async function find(id, store, announce) {
  const mine = ++turn;
  const body = 'find-body';
  show(body, h('p', { class: 'fine' }, 'Looking through all that is on disk…'));
  try {
    const answer = await call('FindTrace', { traceId: id.trim() });
    if (mine !== turn) return;
    show(body, result(answer, store));
    announce(`Trace found: ${words(answer.state) || 'unknown'}.`);
  } catch (err) {
    if (mine !== turn) return;
    show(body, h('p', { class: 'error' }, err.message));
    announce(err.message);
  }
}

function result(answer, store) {
  const places = answer.places ?? [];
  if (places.length === 0) {
    return h('div', { class: 'result' }, h('h3', null, 'Unknown here'),
      h('p', null, `Nothing is known of trace ${answer.traceId}. It did not come through this weir, or so long ago that it is forgotten.`));
  }
  return h('div', { class: 'result' },
    h('h3', null, h('span', { class: `chip ${MOODS[answer.state] ?? 'quiet'}` }, NAMES[answer.state] ?? words(answer.state)), ' ', h('code', null, answer.traceId)),
    h('ul', null, places.map((p) => h('li', null, place(p, store)))));
}

function place(p, store) {
  return [
    h('strong', null, NAMES[p.state] ?? words(p.state)),
    num(p.items) > 0 && `: ${p.itemsAtLeast ? 'at least ' : ''}${plural(p.items, 'item')}`,
    p.lane && `, lane ${p.lane}`, p.project && `, project ${p.project}`,
    p.since && [', since ', at(p.since)], p.last && p.last !== p.since && [', last ', at(p.last)],
    p.month && `, counted in ${p.month}`, p.account && ` for ${p.account}`, '. ',
    p.reason && `${words(p.reason)}${p.detail ? ': ' : '. '}`, p.detail, p.until && [' Next try ', due(p.until, store.now()), '.'],
    p.case && [' ', button(`Look at case ${p.case}`, 'open-case', { id: p.case }, { class: 'link' })],
  ];
}
