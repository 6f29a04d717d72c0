// The first screen: is data flowing, is anything stuck, will the quota last. Each
// answer is a word or two, a sentence, and where there is something to do, what.

import { button, h } from '../dom.js';
import { accountName, ago, at, brief, count, due, num, percent, perSecond, plural, seconds, span, words } from '../format.js';

/** glance is the three answers. */
export function glance(store) {
  return [flowing(store), stuck(store), lasting(store)].map(tile);
}

function tile({ key, question, mood, answer, detail, more }) {
  return h('section', { class: `tile ${mood}`, 'data-key': key, 'aria-labelledby': `q-${key}` },
    h('h2', { id: `q-${key}`, class: 'question' }, question),
    h('p', { class: 'answer', id: `answer-${key}` }, h('span', { class: 'mark', 'aria-hidden': 'true' }), answer),
    detail && h('p', { class: 'detail' }, detail),
    more);
}

/** flowing answers the first question. */
export function flowing(store) {
  const st = store.status ?? {};
  const totals = st.totals ?? {};
  const flow = st.flow ?? {};
  const say = (mood, answer, detail, more) => ({ key: 'flow', question: 'Is data flowing?', mood, answer, detail, more });
  const now = store.now();
  const pending = num(totals.pendingItems);
  const last = st.upstream?.lastDeliveredAt;
  const since = last && ['last delivery ', ago(last, now)];
  if (st.disk?.refusing) return say('bad', 'No, exports are refused', st.disk.refusing);
  if (st.draining) return say('warn', 'Draining', `No new data is taken; ${plural(pending, 'item')} to go.`);
  if (num(totals.acceptedItems) === 0) return say('quiet', 'No data yet', 'Point an SDK here; below is how.');
  if (st.upstream?.waitingReason) {
    return say('warn', 'LangSmith takes nothing now', [
      words(st.upstream.waitingReason), '. Data is kept on disk; next try ',
      st.upstream.nextAttempt ? due(st.upstream.nextAttempt, now) : 'soon', '.']);
  }
  const moving = num(flow.acceptedPerSecond) > 0 || num(flow.deliveredPerSecond) > 0;
  if (moving) {
    const out = num(flow.deliveredPerSecond);
    // More than half a minute's worth, and not growing less.
    const late = !flow.drainedIn && pending > 30 * Math.max(1, num(flow.acceptedPerSecond));
    const behind = pending > 0 && out === 0 ? 'In, but not out' : late && 'It falls behind';
    return say(behind ? 'warn' : 'good', behind || 'Yes', [
      `${perSecond(flow.acceptedPerSecond)} items a second in, ${perSecond(flow.deliveredPerSecond)} out`, behind && since && [', ', since], '.']);
  }
  if (pending > 0) return say('warn', 'A backlog waits', [`${plural(pending, 'item')} to go`, since && [', ', since], '. The lanes say why.']);
  return say('good', 'All is delivered', [since ? ['Nothing comes in at the moment; ', since] : 'Nothing comes in at the moment', '.']);
}

/** stuck answers the second one. */
export function stuck(store) {
  const st = store.status ?? {};
  const counts = st.caseCounts ?? {};
  const person = num(counts.needsPerson);
  const parked = [...store.lanes.values()].filter((lane) => lane.state === 'LANE_STATE_PARKED');
  const held = num(st.totals?.heldItems);
  const problems = st.problems ?? [];
  const say = (mood, answer, detail, more) => ({ key: 'stuck', question: 'Is anything stuck?', mood, answer, detail, more });
  if (person > 0) {
    const first = [...store.cases.values()].find((c) => c.state === 'needs_person');
    return say('bad', `${plural(person, 'case needs', 'cases need')} you`, first ? first.remedy : 'They are listed below.',
      first && button(`Look at case ${first.id}`, 'open-case', { id: first.id }));
  }
  if (problems.length > 0 || parked.length > 0) {
    const text = problems[0] ?? `Lane ${parked[0].id}: ${parked[0].lastError ?? words(parked[0].reason)}`;
    return say('bad', 'Something needs you', text, problems.length > 1 && h('details', null,
      h('summary', null, `${plural(problems.length - 1, 'more problem')}`),
      h('ul', null, problems.slice(1).map((p) => h('li', null, p)))));
  }
  if (num(counts.probing) > 0) {
    return say('warn', plural(counts.probing, 'case heals by itself', 'cases heal by themselves'), `weir tries again and releases ${plural(counts.items, 'item')} once LangSmith takes them. Nothing to do.`);
  }
  if (held > 0) return say('warn', `${plural(held, 'item')} held`, 'The quota guard keeps them until there is room; see the quota below.');
  if (num(counts.releasing) > 0) return say('good', 'Being released', `${plural(counts.releasing, 'case')}, at work on it.`);
  return say('good', 'Nothing is stuck', 'No refused data, no held traces.');
}

/** worst is the account whose quota ends first. */
export function worst(scopes) {
  const rank = (s) => {
    if (s.refusedReason) return 3;
    if (s.tracesLimit === undefined) return -1;
    const share = (num(s.tracesUsed) + num(s.tracesReserved)) / Math.max(1, s.tracesLimit);
    return (s.forecastExhaustedAt ? 1 : 0) + Math.min(1, share);
  };
  return [...scopes].sort((a, b) => rank(b) - rank(a))[0];
}

/** lasting answers the third one. */
export function lasting(store) {
  const scopes = [...store.scopes.values()];
  const s = worst(scopes);
  const say = (mood, answer, detail) => ({ key: 'quota', question: 'Will the quota last?', mood, answer, detail });
  if (!s) return say('quiet', 'Nothing is counted yet', 'The month begins with the first trace.');
  return { ...say(...verdict(s)), more: s.tracesLimit !== undefined && [gauge(s), scopes.length > 1 && h('p', { class: 'fine' },
    `Of ${plural(scopes.length, 'account')}, the one that ends first: ${accountName(s.account)}`)] };
}

/** verdict is [mood, answer, detail, the same in a word or two] on one account. */
export function verdict(s) {
  const used = num(s.tracesUsed);
  const limit = s.tracesLimit;
  const held = num(s.tracesHeld);
  const kept = held > 0 ? ` ${plural(held, 'trace is', 'traces are')} held.` : '';
  if (s.refusedReason) {
    return ['bad', 'LangSmith refuses traces', [`${words(s.refusedReason)}, since `, s.refusedSince ? at(s.refusedSince) : 'a while',
      s.refusedUntil && [', until ', at(s.refusedUntil)], `.${kept}`], 'refused'];
  }
  if (limit === undefined) return ['quiet', 'No limit is set', `${plural(used, 'trace')} this month.`, 'no limit'];
  if (used + num(s.tracesReserved) >= limit) return ['bad', 'It is used up', `${count(used)} of ${count(limit)} traces; policy “${s.policy}”.${kept}`, 'used up'];
  if (s.forecastExhaustedAt) {
    return ['bad', 'No', ['At this pace it ends ', at(s.forecastExhaustedAt), ` (policy “${s.policy}”).${kept}`], 'will not last'];
  }
  if (s.projectedTraces !== undefined) {
    return ['good', 'Yes', `${percent(s.projectedTraces / Math.max(1, limit))} of it at the month’s end, at this pace.${kept}`, 'lasts'];
  }
  return ['good', 'So far', `${percent(used / Math.max(1, limit))} used; too little is known for a forecast.${kept}`, 'no forecast yet'];
}

/** gauge is how much is used, with a mark where the month will end. */
export function gauge(s) {
  const limit = Math.max(1, s.tracesLimit);
  const used = num(s.tracesUsed) + num(s.tracesReserved);
  const text = `${count(used)} of ${count(s.tracesLimit)} traces used`
    + (s.projectedTraces === undefined ? '' : `, ${count(s.projectedTraces)} expected at the month’s end`);
  return h('div', { class: 'gauge' },
    h('progress', { class: used >= limit || s.forecastExhaustedAt ? 'bad' : '', max: limit, value: Math.min(used, limit), 'aria-label': text }),
    h('p', { class: 'fine' }, `${brief(used)} of ${brief(s.tracesLimit)}`,
      s.projectedTraces !== undefined && ` · forecast ${brief(s.projectedTraces)}`));
}

/** draining says how far a backlog has come, if one grows less. */
export function draining(store) {
  const st = store.status ?? {};
  const pending = num(st.totals?.pendingItems);
  const left = seconds(st.flow?.drainedIn);
  if (pending === 0 || !st.flow?.drainedIn) return null;
  let peak = pending;
  for (let i = store.points.length - 1; i >= 0 && num(store.points[i].pendingItems) > 0; i -= 1) {
    peak = Math.max(peak, num(store.points[i].pendingItems));
  }
  return { pending, peak, left, text: left < 1 ? 'empty in a moment' : `empty in about ${span(left)}` };
}
