// What the page shows as it changes: a backlog that drains, a connection that is
// lost, the month against its limit, held traces, the queue.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Weir, openDashboard, poll, startBrowser, startSmith, stopBrowser, troubleOf } from './rig.mjs';
import { hoursTo, monthOfTraffic } from './scenes.mjs';

before(startBrowser);
after(stopBrowser);

const number = (text) => Number(/[\d,]+/.exec(text)[0].replaceAll(',', ''));

test('a backlog grows and drains before one’s eyes, with progress and a time', async (t) => {
  const smith = await startSmith(t);
  // Small requests, one at a time, so that there is something to see.
  const weir = await Weir.start(t, smith, { flags: ['--forward-concurrency', '1', '--forward-max-request-bytes', '64KiB'] });
  await smith.refuse({ status: 503 });
  const page = await openDashboard(t, weir);
  await weir.send(4000, { text: 'What is a weir? '.repeat(40) });
  await page.locator('#answer-flow', { hasText: 'LangSmith takes nothing now' }).waitFor();
  await page.locator('#caption-backlog', { hasText: '4,000 items pending; it does not grow less' }).waitFor();
  await page.locator('#lanes .chip', { hasText: 'waiting' }).waitFor();

  // The time is told from steps of five seconds on: one has to see all of it.
  await poll('a step with the backlog', async () => (await weir.call('GetHistory')).points?.at(-1).pendingItems === '4000');
  await smith.refuse({ latency: '400ms' });
  const eta = page.locator('#drain-text');
  await eta.filter({ hasText: /items pending, empty in about \d/ }).waitFor();
  const first = number(await eta.textContent());
  const progress = page.locator('#drain-progress');
  await progress.waitFor();
  await poll('progress', async () => {
    const text = await eta.textContent({ timeout: 1000 }).catch(() => '0');
    return number(text) < first && (await progress.count() === 0 || await progress.evaluate((p) => p.value / p.max > 0.1));
  });
  await smith.take();
  await page.locator('#caption-backlog', { hasText: 'No backlog.' }).waitFor();
  assert.equal((await weir.call('GetStatus')).totals.deliveredItems, '4000');
  assert.deepEqual(await troubleOf(page), []);
});

test('a lost connection is said, nothing stale looks fresh, and it recovers', async (t) => {
  const smith = await startSmith(t);
  const weir = await Weir.start(t, smith);
  await weir.send(3);
  await weir.until('the delivery', (s) => s.totals.deliveredItems === '3');
  const page = await openDashboard(t, weir);
  await page.locator('#connection', { hasText: 'live' }).waitFor();
  await page.locator('#flow .totals', { hasText: 'delivered3' }).waitFor();

  await weir.stop();
  const banner = page.locator('#banner');
  await banner.getByText('Connection lost, retrying').waitFor();
  await banner.getByText(/What is shown is as of \d\d:\d\d:\d\d\./).waitFor();
  await page.locator('#connection', { hasText: 'connection lost' }).waitFor();
  assert.equal(await page.locator('body').getAttribute('data-connection'), 'lost');
  assert.ok(Number(await page.locator('#content').evaluate((e) => getComputedStyle(e).opacity)) < 0.7);
  assert.equal(await page.title(), 'weir: not connected');
  assert.match(await page.locator('#announcer').textContent(), /Connection to weir lost/);

  await weir.run();
  await banner.waitFor({ state: 'hidden' });
  await page.locator('#connection', { hasText: 'live' }).waitFor();
  await weir.send(2);
  await page.locator('#flow .totals', { hasText: 'delivered5' }).waitFor();
  assert.match(await page.locator('#announcer').textContent(), /Connected to weir again/);
  // The refused connections are Chromium's own lines.
  assert.deepEqual((await troubleOf(page)).filter((line) => !/net::ERR_/.test(line)), []);
});

test('the month stands against its limit, with the forecast', async (t) => {
  const smith = await startSmith(t);
  const weir = await monthOfTraffic(t, smith, { limit: 3000 });
  const page = await openDashboard(t, weir);
  const { scopes: [scope] } = await weir.call('GetQuota');
  assert.ok(scope.projectedTraces > 3000 && scope.forecastExhaustedAt, JSON.stringify(scope));

  await page.locator('#answer-quota', { hasText: 'No' }).waitFor();
  const gauge = page.locator('.tile .gauge progress');
  assert.equal(await gauge.evaluate((p) => p.value), scope.tracesUsed);
  assert.equal(await gauge.evaluate((p) => p.max), 3000);
  const figure = page.locator('#quota figure');
  await figure.locator('canvas').waitFor();
  const caption = await figure.locator('figcaption').textContent();
  assert.ok(caption.includes(`${scope.projectedTraces.toLocaleString('en')} at the month’s end`), caption);
  assert.match(caption, /The limit is reached \d+ \w+/);
  await figure.getByText('As a table').click();
  const days = figure.locator('tbody tr');
  assert.ok(await days.count() > 15, 'a row for each day');
  assert.match(await days.last().textContent(), new RegExp(scope.projectedTraces.toLocaleString('en')));
  assert.deepEqual(await troubleOf(page), []);
});

test('held traces are released with a preview', async (t) => {
  const smith = await startSmith(t);
  const weir = await Weir.start(t, smith, { hours: hoursTo(1), flags: ['--quota-traces', '10', '--no-quota-ask-langsmith'] });
  await weir.send(20, { project: 'checkout' });
  await weir.until('the hold', (s) => s.totals.heldItems === '10' && s.totals.deliveredItems === '10');
  const page = await openDashboard(t, weir);
  await page.locator('#answer-quota', { hasText: 'It is used up' }).waitFor();
  const dialog = page.getByRole('dialog');

  await t.test('nothing, while there is no room', async () => {
    await page.getByRole('button', { name: 'Release held traces…' }).click();
    await dialog.getByText('There is no room now').waitFor();
    assert.equal(await dialog.getByRole('button', { name: 'Release', exact: true }).isDisabled(), true);
    await page.keyboard.press('Escape');
  });
  await t.test('as many as asked for, in the next month', async () => {
    const { scopes: [{ month }] } = await weir.call('GetQuota');
    await weir.setClock(hoursTo(33));
    await poll('the next month', async () => (await weir.call('GetQuota')).scopes[0].month !== month);
    await weir.setClock(hoursTo(33) + 1); // the release has its place in the first minutes
    await weir.until('the turn, which releases a fifth of the limit', (s) => s.totals.deliveredItems === '12');
    await page.locator('#quota', { hasText: '8 traces are held' }).waitFor();
    await page.getByRole('button', { name: 'Release held traces…' }).click();
    await dialog.getByRole('button', { name: 'Release 8 traces' }).waitFor();
    await dialog.getByLabel('At most').fill('3');
    await dialog.getByRole('button', { name: 'Release 3 traces' }).click();
    await page.locator('#toast').getByText('3 traces ordered for release').waitFor();
    await weir.until('three more', (s) => s.totals.deliveredItems === '15' && s.totals.heldItems === '5');
  });
  assert.deepEqual(await troubleOf(page), []);
});

test('the queue is shown when asked for, and content only when asked for again', async (t) => {
  const smith = await startSmith(t);
  const weir = await Weir.start(t, smith);
  await smith.refuse({ status: 503 });
  const [id] = await weir.send(1, { text: 'a very private prompt' });
  const page = await openDashboard(t, weir);
  assert.equal(await page.locator('.frame').count(), 0);
  await page.getByRole('button', { name: 'Show the frames' }).click();
  await page.locator('.frame .opener', { hasText: '1 item, 1 trace' }).click();
  await page.locator('.frame-body').getByRole('button', { name: id.slice(-12) }).waitFor();
  assert.equal((await page.content()).includes('a very private prompt'), false);
  await page.getByRole('button', { name: 'Show content' }).click();
  await page.getByLabel(/^Content of frame/).filter({ hasText: 'a very private prompt' }).waitFor();
  await page.getByLabel('State').selectOption('held');
  await page.locator('#queue').getByText('There is no such frame').waitFor();
  assert.deepEqual(await troubleOf(page), []);
});
