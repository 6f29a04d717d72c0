// Quarantine in the browser: cases appear, and are released, discarded, exported
// and found by their buttons.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Weir, openDashboard, poll, startBrowser, startSmith, stopBrowser, troubleOf } from './rig.mjs';

before(startBrowser);
after(stopBrowser);

// What the look-alike answers to data that it does not like.
const REFUSAL = { status: 422, body: '{"detail":"value <b>is</b> out of range"}' };

const lastCase = (page) => page.locator('.case').last();
const dialog = (page) => page.getByRole('dialog');
const noCaseLeft = (page) => page.locator('#cases').getByRole('heading', { name: 'Nothing is stuck' }).waitFor();

test('a case appears live and is released by its button', async (t) => {
  const smith = await startSmith(t);
  const weir = await Weir.start(t, smith);
  const page = await openDashboard(t, weir);
  await noCaseLeft(page);

  await smith.refuse(REFUSAL);
  const [id] = await weir.send(1, { project: 'checkout' });
  await lastCase(page).waitFor();
  await page.locator('.tile.bad', { hasText: 'Is anything stuck?' }).waitFor();
  await page.getByRole('button', { name: /^Look at case/ }).click();

  await t.test('with the exact exchange, as text', async () => {
    const answer = page.getByLabel('Answer', { exact: true });
    await answer.waitFor();
    assert.match(await answer.textContent(), /^HTTP 422\n[\s\S]*\n\n\{"detail":"value <b>is<\/b> out of range"\}$/);
    assert.match(await page.getByLabel('Request', { exact: true }).textContent(), /^POST http:\/\/127\.0\.0\.1:\d+\/\S+\n[\d,]+ bytes/);
    assert.equal(await page.locator('.case b').count(), 0, 'what LangSmith answered became markup');
  });

  await t.test('not without a confirmation', async () => {
    await lastCase(page).getByRole('button', { name: /^Release… case/ }).click();
    await dialog(page).getByText('1 item of 1 case: would be sent again.').waitFor();
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'hidden' });
    assert.equal((await weir.call('GetStatus')).totals.quarantinedItems, '1');
  });

  await t.test('and comes back while LangSmith still refuses', async () => {
    const { cases: [before] } = await weir.call('ListCases');
    await lastCase(page).getByRole('button', { name: /^Release… case/ }).click();
    await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
    await page.locator('#toast').getByText('1 item of 1 case: released').waitFor();
    const again = await poll('the second refusal', async () => (await weir.call('ListCases')).cases?.find((c) => c.lastSeen !== before.lastSeen));
    await page.locator(`#case-${again.id}`).waitFor();
  });

  await t.test('and is gone once LangSmith takes it', async () => {
    await smith.take();
    await lastCase(page).getByRole('button', { name: /^Release… case/ }).click();
    await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
    await noCaseLeft(page);
    await weir.until('the delivery', (s) => s.totals.deliveredItems === '1');
    await page.getByLabel('Trace id').fill(id);
    await page.getByLabel('Trace id').press('Enter');
    await page.locator('#find .result').getByText('delivered').first().waitFor();
  });
  assert.deepEqual(await troubleOf(page), []);
});

test('a case is exported, found by a trace of it, and discarded', async (t) => {
  const smith = await startSmith(t);
  const weir = await Weir.start(t, smith);
  await smith.refuse(REFUSAL);
  const [id] = await weir.send(1, { text: 'a prompt that nobody may see by chance' });
  await weir.until('the case', (s) => s.totals.quarantinedItems === '1');
  const page = await openDashboard(t, weir);

  await t.test('find by trace id', async () => {
    await page.getByLabel('Trace id').fill('not an id');
    await page.getByRole('button', { name: 'Find', exact: true }).click();
    await page.locator('#find .error').waitFor();
    await page.getByLabel('Trace id').fill(id.toUpperCase());
    await page.getByRole('button', { name: 'Find', exact: true }).click();
    await page.locator('#find .result .chip', { hasText: 'quarantined' }).waitFor();
    await page.locator('#find').getByRole('button', { name: /^Look at case/ }).click();
    await page.locator('.case .opener[aria-expanded="true"]').waitFor();
    await page.getByLabel('Trace id').fill('00000000000000000000000000000abc');
    await page.getByRole('button', { name: 'Find', exact: true }).click();
    await page.locator('#find').getByText('Unknown here').waitFor();
  });

  await t.test('export', async () => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: /^Export case/ }).click()]);
    assert.match(download.suggestedFilename(), /^weir-case-\d+\.jsonl$/);
    const lines = (await readFile(await download.path(), 'utf8')).trim().split('\n').map((line) => JSON.parse(line));
    assert.deepEqual(lines.map((line) => line.kind), ['weir-quarantine', 'case', 'span', 'end']);
    await page.locator('#toast').getByText('1 item exported').waitFor();
    assert.equal((await weir.call('GetStatus')).totals.quarantinedItems, '1', 'an export changes nothing');
  });

  await t.test('discard', async () => {
    await page.getByRole('button', { name: /^Discard… case/ }).click();
    const confirm = dialog(page).getByRole('button', { name: 'Discard 1 item for good' });
    await confirm.waitFor();
    await dialog(page).getByRole('button', { name: 'Cancel' }).click();
    assert.equal((await weir.call('GetStatus')).totals.droppedItems ?? '0', '0');
    await page.getByRole('button', { name: /^Discard… case/ }).click();
    await confirm.click();
    await noCaseLeft(page);
    const { totals } = await weir.call('GetStatus');
    assert.deepEqual([totals.droppedItems, totals.droppedByReason], ['1', { discarded: '1' }]);
  });
  assert.equal((await page.content()).includes('nobody may see by chance'), false, 'content was shown unasked');
  assert.deepEqual(await troubleOf(page, 400), []);
});

test('more cases than are followed live are loaded when asked for, and released together', async (t) => {
  const smith = await startSmith(t);
  const weir = await Weir.start(t, smith);
  await smith.refuse(REFUSAL);
  const projects = Array.from({ length: 104 }, (_, i) => `project-${i}`);
  for (const project of projects) await weir.send(1, { project });
  await weir.until('the cases', (s) => s.caseCounts?.cases === 104);
  const page = await openDashboard(t, weir);
  await page.locator('#cases .lead', { hasText: '104 cases with 104 items' }).waitFor();
  await poll('the live cases', async () => await page.locator('.case').count() === 100);
  await page.getByRole('button', { name: 'Show more (4 left)' }).click();
  await poll('the others', async () => await page.locator('.case').count() === 104);
  assert.equal(new Set(await page.locator('.case').evaluateAll((all) => all.map((c) => c.id))).size, 104, 'a case is there twice');

  await smith.take();
  await page.getByRole('button', { name: 'Release all…' }).click();
  await dialog(page).getByText('104 items of 104 cases: would be sent again.').waitFor();
  await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
  await noCaseLeft(page);
  await weir.until('the delivery', (s) => s.totals.deliveredItems === '104');
  assert.deepEqual(await troubleOf(page), []);
});
