// What the buttons change: each asks first, with weir's own dry run as preview.

import { CallError, call, stream } from './api.js';
import { ask } from './dialog.js';
import { bytes, count, num, plural } from './format.js';
import { forgetFurther } from './views/cases.js';

// A browser keeps a download in memory before it is saved.
const MAX_EXPORT_BYTES = 512 << 20;

/** releaseCases sends what cases hold again; which is {ids} or {all}. */
export function releaseCases(which, asOwnKey = false) {
  const request = { ...which, asOwnKey };
  const name = which.all ? 'all cases' : `case ${which.ids[0]}`;
  return ask({
    title: `Release ${name}${asOwnKey ? ' under weir’s own key' : ''}?`,
    intro: asOwnKey ? 'The data goes out under weir’s own key and in its workspace, whatever key the application used.'
      : 'weir sends it again at once. What LangSmith still refuses comes back into quarantine.',
    confirm: 'Release',
    preview: async () => {
      const would = await call('ReleaseCases', { ...request, dryRun: true });
      return { text: releaseText(would, 'would be sent again'), possible: (would.cases ?? []).length > 0 };
    },
    act: async () => {
      const done = await call('ReleaseCases', request);
      forgetFurther(which.ids);
      return releaseText(done, 'released; they are sent now');
    },
  });
}

function releaseText(r, verb) {
  const waiting = num(r.waitingItems) > 0 ? `, and ${plural(r.waitingItems, 'item that waits', 'items that wait')} behind` : '';
  return `${plural(r.items, 'item')} of ${plural((r.cases ?? []).length, 'case')}${waiting}: ${verb}.`;
}

/** discardCase drops what a case holds for good. */
export function discardCase(id) {
  return ask({
    title: `Discard case ${id}?`,
    intro: 'The data is dropped for good and counted as discarded. Export it first if anybody may want it.',
    confirm: 'Discard',
    danger: true,
    preview: async () => {
      const would = await call('DiscardCases', { ids: [id], dryRun: true });
      return { text: `${discardText(would)} would be gone.`, possible: true, confirm: `Discard ${plural(would.items, 'item')} for good` };
    },
    act: async () => {
      const done = await call('DiscardCases', { ids: [id] });
      forgetFurther([id]);
      return `${discardText(done)}: discarded.`;
    },
  });
}

function discardText(r) {
  const attachments = num(r.attachmentBytes) > 0 ? `, ${bytes(r.attachmentBytes)} of it attachments` : '';
  return `${plural(r.items, 'item')} (${r.bytesAtLeast ? 'at least ' : ''}${bytes(r.bytes)} on disk${attachments})`;
}

/** exportCase has the browser save what a case holds, and says what that was. */
export async function exportCase(id) {
  const chunks = [];
  let size = 0;
  let summary = {};
  await stream('ExportCases', { ids: [id] }, (message) => {
    if (message.chunk) {
      chunks.push(Uint8Array.from(atob(message.chunk), (c) => c.charCodeAt(0)));
      size += chunks.at(-1).length;
    }
    if (message.summary) summary = message.summary;
    if (size > MAX_EXPORT_BYTES) {
      throw new CallError('too_large', `This is too much for a browser: use weir quarantine export ${id} --out FILE`);
    }
  });
  const url = URL.createObjectURL(new Blob(chunks, { type: 'application/x-ndjson' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `weir-case-${id}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // once the download has begun
  const lost = num(summary.unreadableItems) > 0 ? ` ${plural(summary.unreadableItems, 'item')} cannot be read from weir’s disk.` : '';
  return `Case ${id}: ${plural(summary.items, 'item')} exported, nothing was changed. weir import takes the file back.${lost}`;
}

/** releaseHeld orders a release of held traces of one account. */
export function releaseHeld(scope) {
  const request = (values) => ({
    account: scope.account,
    ...(values.traces ? { traces: Math.max(1, Math.floor(Number(values.traces))) } : {}),
    ...(values.project !== 'all' ? { project: values.project.slice(1) } : {}),
    oldestFirst: values.oldestFirst,
  });
  const projects = (scope.projects ?? []).filter((p) => num(p.tracesHeld) > 0);
  return ask({
    title: 'Release held traces?',
    intro: `${plural(scope.tracesHeld, 'trace is', 'traces are')} held. Each that is released counts in this month.`,
    confirm: 'Release',
    fields: [
      { name: 'traces', label: 'At most', type: 'number', min: '1', hint: 'as many as there is room for' },
      { name: 'project', label: 'Of project', options: [['all', 'all projects'],
        ...projects.map((p) => [`=${p.project ?? ''}`, `${p.project || 'none named'} (${count(p.tracesHeld)})`])] },
      { name: 'oldestFirst', label: 'The oldest first, not the newest', type: 'checkbox' },
    ],
    preview: async (values) => {
      const would = await call('ReleaseHeld', { ...request(values), dryRun: true });
      const n = num(would.traces);
      const text = n > 0 ? `${plural(n, 'trace')} would be released.` : 'There is no room now: the limit is reached. Raise it, or wait for the next month.';
      return { text, possible: n > 0, confirm: n > 0 ? `Release ${plural(n, 'trace')}` : 'Release' };
    },
    act: async (values) => {
      const done = await call('ReleaseHeld', request(values));
      return `${plural(done.traces, 'trace')} ordered for release.`;
    },
  });
}
