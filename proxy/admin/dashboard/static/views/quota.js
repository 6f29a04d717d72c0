// The quota: the month of every account against its limit.

import { draw, monthData, monthOf } from '../charts.js';
import { button, h, show, table } from '../dom.js';
import { accountName, at, brief, bytes, count, due, num, percent, plural, words } from '../format.js';
import { gauge, verdict, worst } from './glance.js';

const MAX_PROJECTS = 8;

/** renderQuota brings the section up to date. */
export function renderQuota(store) {
  const scopes = [...store.scopes.values()].sort((a, b) => (a.account < b.account ? -1 : 1));
  if (scopes.length === 0) {
    show('quota-body', h('p', { class: 'empty' }, 'Nothing is counted yet. The month’s count begins with the first trace.'));
    return;
  }
  const first = worst(scopes);
  show('quota-body', scopes.map((s) => account(s, store, scopes.length === 1 || s === first)));
  for (const element of document.querySelectorAll('[data-chart="month"]')) {
    const scope = store.scopes.get(element.dataset.account);
    if (scope && element.clientWidth > 0) draw(element, 'month', monthData(monthOf(scope, store.now())));
  }
}

function account(s, store, open) {
  const [mood, , detail, word] = verdict(s);
  return h('details', { class: 'account', 'data-key': s.account, open },
    h('summary', null, h('h3', null, accountName(s.account)), h('span', { class: `chip ${mood}` }, word)),
    h('p', { class: 'detail' }, detail, s.provisional && ' The tenant is not known yet, so the account may be one with another.'),
    s.tracesLimit !== undefined && gauge(s),
    month(s, store),
    numbers(s),
    held(s),
    windows(s, store),
    projects(s));
}

function month(s, store) {
  const m = monthOf(s, store.now());
  const forecast = s.projectedTraces === undefined ? 'Too little is known for a forecast.'
    : `At ${brief(Math.round(s.perDay ?? 0))} traces a day, ${count(s.projectedTraces)} at the month’s end.`;
  const limit = s.tracesLimit === undefined ? 'no limit' : `limit ${count(s.tracesLimit)}`;
  const others = num(s.tracesUsed) - (s.days ?? []).reduce((sum, d) => sum + num(d.traces), 0);
  return h('figure', { class: 'chart' },
    h('h4', null, `${monthName(s.month)}: traces against the limit`),
    legend([['out', 'used'], s.projectedTraces !== undefined && ['out dashed', 'forecast'], s.tracesLimit !== undefined && ['limit', 'limit']]),
    h('div', { class: 'plot', 'data-keep': '', 'data-chart': 'month', 'data-account': s.account, 'data-key': 'plot', 'aria-hidden': 'true' }),
    h('figcaption', null, `${count(s.tracesUsed)} traces used, ${limit}. ${forecast}`,
      s.forecastExhaustedAt && [' The limit is reached ', at(s.forecastExhaustedAt), '.'],
      others > 0 && ` ${plural(others, 'trace')} of unknown days (of others, or from before) stand at the month’s begin.`),
    h('details', null, h('summary', null, 'As a table'), table(`Traces of ${s.month}`,
      [{ title: 'Day of month, UTC' }, { title: 'Traces until its end', number: true }, { title: 'Forecast', number: true }],
      m.points.filter((p) => p.x > 0).map((p) => ({ key: String(p.x), cells: [
        p.x === m.today ? 'now' : String(p.x), p.used === undefined ? '' : count(p.used), p.forecast === undefined ? '' : count(p.forecast)] })))));
}

function monthName(text) {
  const date = new Date(`${text}-01T00:00:00Z`);
  return Number.isNaN(date.getTime()) ? text : date.toLocaleDateString('en-GB', { month: 'long', year: 'numeric', timeZone: 'UTC' });
}

/** legend names the lines of a chart: [style, name]. */
export function legend(entries) {
  return h('ul', { class: 'legend' }, entries.filter(Boolean).map(
    ([style, name]) => h('li', null, h('span', { class: `key ${style}`, 'aria-hidden': 'true' }), name)));
}

function numbers(s) {
  const entry = (name, value) => h('div', null, h('dt', null, name), h('dd', null, value));
  return h('dl', { class: 'numbers' },
    entry('policy at the limit', s.policy ?? 'none'),
    entry('on their way', count(s.tracesReserved)),
    entry('held', count(s.tracesHeld)),
    entry('dropped', count(s.tracesDropped)),
    entry('of others', count(s.tracesOthers)),
    num(s.projectedCostUsd) > 0 && entry('cost by the month’s end', `$${num(s.projectedCostUsd).toFixed(2)}`));
}

function held(s) {
  const releases = s.releases ?? [];
  if (num(s.tracesHeld) === 0 && releases.length === 0) return null;
  return h('div', { class: 'held' },
    h('p', null, `${plural(s.tracesHeld, 'trace is', 'traces are')} held on disk until there is room.`),
    releases.length > 0 && h('ul', null, releases.map((r) => h('li', null,
      `Release of ${r.traces === undefined ? 'as many as there is room for' : plural(r.traces, 'trace')} (${words(r.reason)}`,
      r.project !== undefined && `, project ${r.project || 'none'}`, ')', r.after && [', not before ', at(r.after)], '.'))),
    num(s.tracesHeld) > 0 && button('Release held traces…', 'release-held', { account: s.account }));
}

function windows(s, store) {
  const limited = (s.windows ?? []).filter((w) => w.limit !== undefined);
  if (limited.length === 0) return null;
  const write = (w, value) => (w.name === 'bytes' ? bytes(value) : count(value));
  return h('div', { class: 'windows' }, h('h4', null, 'This hour'), limited.map((w) => h('p', null,
    h('progress', { max: Math.max(1, w.limit), value: Math.min(num(w.used), w.limit), 'aria-label': `${w.name} of this hour` }),
    h('span', { class: 'fine' }, `${write(w, w.used)} of ${write(w, w.limit)}${w.name === 'bytes' ? '' : ` ${w.name}`}`,
      w.endsAt && [', anew ', due(w.endsAt, store.now())]))));
}

function projects(s) {
  const all = [...(s.projects ?? [])].sort((a, b) => num(b.tracesUsed) + num(b.tracesHeld) - num(a.tracesUsed) - num(a.tracesHeld));
  if (all.length === 0) return null;
  const rows = (list) => table('Projects', [
    { title: 'Project' }, { title: 'Used', number: true }, { title: 'Share', number: true }, { title: 'Budget', number: true },
    { title: 'Held', number: true }, { title: 'Dropped', number: true },
  ], list.map((p) => ({ key: `p-${p.project ?? ''}`, cells: [
    p.project || 'none named', count(p.tracesUsed), percent(num(p.share)), p.tracesLimit === undefined ? '–' : count(p.tracesLimit),
    count(p.tracesHeld), count(p.tracesDropped)] })));
  return h('div', null, h('h4', null, 'Projects'), rows(all.slice(0, MAX_PROJECTS)),
    all.length > MAX_PROJECTS && h('details', { 'data-key': 'more' },
      h('summary', null, plural(all.length - MAX_PROJECTS, 'more project')), rows(all.slice(MAX_PROJECTS, 1000))));
}
