// Lanes: one row for each destination, with its last error.

import { h, show, table } from '../dom.js';
import { at, brief, bytes, due, num, plural, seconds, span, words } from '../format.js';

const STATES = {
  LANE_STATE_IDLE: ['quiet', 'idle'], LANE_STATE_SENDING: ['good', 'sending'],
  LANE_STATE_WAITING: ['warn', 'waiting'], LANE_STATE_PARKED: ['bad', 'parked'],
};
const ORDER = ['LANE_STATE_PARKED', 'LANE_STATE_WAITING', 'LANE_STATE_SENDING', 'LANE_STATE_IDLE'];
const MAX_LANES = 200;

/** laneName says where a lane's data goes, and whose it is. */
export function laneName(lane) {
  return [lane.credential, lane.workspace && `workspace ${lane.workspace}`, lane.project && `project ${lane.project}`].filter(Boolean).join(', ');
}

/** renderLanes brings the section up to date. */
export function renderLanes(store) {
  const lanes = [...store.lanes.values()].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state)
    || num(b.pendingItems) - num(a.pendingItems) || a.id - b.id);
  if (lanes.length === 0) {
    show('lanes-body', h('p', { class: 'empty' }, 'No lanes yet. There is one for each key, workspace and project that data comes for.'));
    return;
  }
  const now = store.now();
  show('lanes-body', table('Lanes', [
    { title: 'Lane' }, { title: 'State' }, { title: 'Pending', number: true }, { title: 'Oldest', number: true },
    { title: 'Delivered', number: true }, { title: 'Quarantined', number: true }, { title: 'Last error' },
  ], lanes.slice(0, MAX_LANES).map((lane) => ({ key: `lane-${lane.id}`, cells: cells(lane, now) }))),
  lanes.length > MAX_LANES && h('p', { class: 'fine' }, `${plural(lanes.length - MAX_LANES, 'more lane is', 'more lanes are')} not shown; `,
    h('code', null, 'weir status'), ' lists all.'));
}

function cells(lane, now) {
  const [mood, state] = STATES[lane.state] ?? ['quiet', 'unknown'];
  return [
    [h('span', { class: 'id' }, `${lane.id}`), ' ', lane.protocol, h('br'), h('span', { class: 'fine' }, laneName(lane))],
    [h('span', { class: `chip ${mood}` }, state), lane.reason && [h('br'), h('span', { class: 'fine' }, words(lane.reason))],
      lane.nextAttempt && [h('br'), h('span', { class: 'fine' }, 'next try ', due(lane.nextAttempt, now))],
      lane.since && mood !== 'good' && mood !== 'quiet' && [h('br'), h('span', { class: 'fine' }, 'since ', at(lane.since))]],
    num(lane.pendingItems) > 0 ? [brief(lane.pendingItems), h('br'), h('span', { class: 'fine' }, bytes(lane.pendingBytes))] : '0',
    lane.oldestAge ? span(seconds(lane.oldestAge)) : '–',
    brief(lane.deliveredItems),
    brief(lane.quarantinedItems),
    lane.lastError ? h('span', { class: 'last-error' }, lane.lastError) : '–',
  ];
}
