// The dashboard: follows weir and keeps the page what weir is.

import { discardCase, exportCase, releaseCases, releaseHeld } from './actions.js';
import { h, show } from './dom.js';
import { clock, span } from './format.js';
import { Store } from './store.js';
import { moreCases, renderCases, toggleCase } from './views/cases.js';
import { renderDisk } from './views/disk.js';
import { find } from './views/find.js';
import { renderFlow, showSpan } from './views/flow.js';
import { glance } from './views/glance.js';
import { renderLanes } from './views/lanes.js';
import { moreFrames, renderQueue, showQueue, toggleFrame } from './views/queue.js';
import { renderQuota } from './views/quota.js';

const store = new Store(changed);
let scheduled = false;
let announcedConnection = '';
let casesAnnounced = null;

/** changed has the page drawn once more, at the next frame. */
function changed() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    render();
  });
}

function render() {
  const page = document.body;
  page.dataset.connection = store.connection;
  const seen = store.seenMs > 0;
  document.getElementById('locked').hidden = store.connection !== 'locked';
  document.getElementById('content').hidden = !seen;
  document.getElementById('waiting').hidden = seen || store.connection === 'locked';
  renderConnection();
  if (store.connection === 'locked') renderLocked();
  if (!seen) return;
  show('glance', glance(store));
  renderFlow(store, changed);
  renderCases(store);
  renderQuota(store);
  renderLanes(store);
  renderDisk(store, changed);
  renderQueue(store);
  renderFoot();
  announceCases();
}

/** say speaks to screen readers, and shows what came of an action. */
function say(text) {
  document.getElementById('announcer').textContent = text;
}

function renderConnection() {
  const wait = Math.max(0, Math.ceil((store.retryAt - Date.now()) / 1000));
  const lost = store.connection === 'lost';
  show('connection', h('span', { class: `chip ${{ live: 'good', lost: 'bad', locked: 'warn' }[store.connection] ?? 'quiet'}` },
    { live: 'live', lost: 'connection lost', locked: 'token needed', connecting: 'connecting…' }[store.connection]));
  document.getElementById('banner').hidden = !lost;
  if (lost) {
    show('banner', h('p', null, h('strong', null, 'Connection lost, retrying'), wait > 0 ? ` in ${span(wait)}` : ' now', `: ${store.why}.`,
      store.seenMs > 0 && ` What is shown is as of ${clock(store.seenMs)}.`), h('button', { type: 'button', 'data-action': 'retry' }, 'Try now'));
  }
  if (store.connection === announcedConnection) return;
  if (lost) say('Connection to weir lost, retrying.');
  if (store.connection === 'live' && announcedConnection === 'lost') say('Connected to weir again.');
  announcedConnection = store.connection;
}

function renderLocked() {
  show('token-error', store.why);
  const field = document.getElementById('token');
  if (document.activeElement === document.body) field.focus();
}

function renderFoot() {
  const st = store.status ?? {};
  show('version', st.version && `weir ${st.version}`);
  show('upstream', st.upstream?.url && `to ${st.upstream.url.replace(/^https?:\/\//, '')}`);
  show('foot', `weir ${st.version ?? ''}`, st.startedAt && `, up ${span((store.now() - Date.parse(st.startedAt)) / 1000)}`,
    st.dataDir && [', data in ', h('code', null, st.dataDir)]);
  document.title = title();
}

/** title says the worst, for a tab that is not in front. */
function title() {
  if (store.connection !== 'live') return 'weir: not connected';
  const person = store.status?.caseCounts?.needsPerson ?? 0;
  return person > 0 ? `(${person}) weir needs you` : 'weir';
}

/** announceCases tells of a new case; counts that only change are not read out. */
function announceCases() {
  const ids = new Set(store.cases.keys());
  if (casesAnnounced) {
    const fresh = [...ids].filter((id) => !casesAnnounced.has(id));
    if (fresh.length === 1) say(`New case ${fresh[0]}: ${(store.cases.get(fresh[0]).cause ?? '').replaceAll('_', ' ')}.`);
    if (fresh.length > 1) say(`${fresh.length} new cases.`);
  }
  casesAnnounced = ids;
}

/** act does something that ends in a sentence, or in an error, and says it. */
async function act(button, work) {
  try {
    const sentence = await work();
    if (sentence) toast(sentence);
  } catch (err) {
    toast(err.message, true);
  }
  if (button.isConnected) button.focus();
}

let toastTimer;

function toast(text, bad = false) {
  show('toast', h('p', { class: bad ? 'bad' : 'good' }, text), h('button', { type: 'button', 'data-action': 'close-toast', 'aria-label': 'Close this message' }, '×'));
  document.getElementById('toast').hidden = false;
  say(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(closeToast, bad ? 30_000 : 12_000);
}

function closeToast() {
  document.getElementById('toast').hidden = true;
}

async function openCase(id) {
  await toggleCase(id, changed, true);
  render();
  const place = document.getElementById(`case-${id}`);
  place?.scrollIntoView({ block: 'start' });
  place?.querySelector('button')?.focus({ preventScroll: true });
}

function findTrace(id) {
  document.getElementById('trace').value = id;
  document.getElementById('find').scrollIntoView({ block: 'start' });
  return find(id, store, say);
}

function listFrames(filter) {
  showQueue(filter, store, changed);
  document.getElementById('queue-state').value = filter.state ?? '';
  document.getElementById('queue-order').value = filter.newestFirst ? 'newest' : 'oldest';
}

const ACTIONS = {
  'retry': () => store.retry?.(),
  'close-toast': closeToast,
  'show-span': ({ span: chosen }) => showSpan(chosen, changed),
  'open-case': ({ id }) => openCase(Number(id)),
  'toggle-case': ({ id }) => toggleCase(Number(id), changed),
  'more-cases': () => moreCases(store, changed),
  'release-case': ({ id }, button) => act(button, () => releaseCases({ ids: [Number(id)] })),
  'release-own-key': ({ id }, button) => act(button, () => releaseCases({ ids: [Number(id)] }, true)),
  'release-all': (_, button) => act(button, () => releaseCases({ all: true })),
  'discard-case': ({ id }, button) => act(button, () => discardCase(Number(id))),
  'export-case': ({ id }, button) => act(button, () => exportCase(Number(id))),
  'release-held': ({ account }, button) => act(button, () => releaseHeld(store.scopes.get(account))),
  'find-trace': ({ trace }) => findTrace(trace),
  'show-queue': () => listFrames({}),
  'frames-of-case': ({ id }) => {
    listFrames({ case: Number(id) });
    document.getElementById('queue').scrollIntoView({ block: 'start' });
  },
  'more-frames': () => moreFrames(store, changed),
  'toggle-frame': ({ frame }) => toggleFrame(frame, false, changed),
  'show-content': ({ frame }) => toggleFrame(frame, true, changed),
};

document.addEventListener('click', (event) => {
  const button = event.target.closest('[data-action]');
  if (button) ACTIONS[button.dataset.action]?.(button.dataset, button);
});
document.getElementById('find-form').addEventListener('submit', (event) => {
  event.preventDefault();
  findTrace(document.getElementById('trace').value);
});
document.getElementById('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = document.getElementById('token');
  if (field.value.trim()) store.unlock(field.value.trim());
  field.value = '';
});
document.getElementById('queue-filter').addEventListener('change', () => {
  const state = document.getElementById('queue-state').value;
  const newest = document.getElementById('queue-order').value === 'newest';
  listFrames({ ...(state && { state }), ...(newest && { newestFirst: true }) });
});
// A part that opens may hold a chart that had no width before.
document.addEventListener('toggle', changed, true);
document.addEventListener('themechange', changed);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
setInterval(changed, 1000); // what is said in relation to now

store.run();
