// The page itself: what it loads, whom it fits, who gets in.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import axe from 'axe-core';
import { Weir, openDashboard, openPage, poll, startBrowser, startSmith, stopBrowser, troubleOf } from './rig.mjs';

before(startBrowser);
after(stopBrowser);

/** refusedCase starts a weir with a case, a backlog behind a refused key, and something delivered. */
async function refusedCase(t, options) {
  const smith = await startSmith(t);
  const weir = await Weir.start(t, smith, options);
  await weir.send(5, { project: 'support' });
  await weir.until('the delivery', (s) => s.totals.deliveredItems === '5');
  await smith.refuse({ status: 422, body: '{"detail":"invalid"}' });
  await weir.send(2, { project: 'a-project-with-quite-a-long-name-that-has-to-be-broken-somewhere' });
  await weir.until('the case', (s) => s.totals.quarantinedItems === '2');
  return weir;
}

/** violations are what axe-core finds that matters. Over CDP, so that the page's policy does not concern it. */
async function violations(page) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.filter((v) => ['serious', 'critical'].includes(v.impact))
    .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target.join(' ')} ${n.failureSummary}`).join('; ')}`);
}

const overflow = (page) => page.evaluate(() => {
  const wide = [...document.body.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1
    && !e.closest('.places, .unseen, thead, pre, canvas'));
  return { page: document.documentElement.scrollWidth - innerWidth, wide: wide.slice(0, 5).map((e) => `${e.tagName}.${e.className}`) };
});

test('an empty weir says how to begin, and the page does nothing it should not', async (t) => {
  const weir = await Weir.start(t, await startSmith(t));
  const page = await openDashboard(t, weir);
  await page.locator('#answer-flow', { hasText: 'No data yet' }).waitFor();
  await page.locator('#answer-stuck', { hasText: 'Nothing is stuck' }).waitFor();
  await page.getByText('No data yet: point an SDK here').waitFor();
  await page.getByLabel('Environment for the LangSmith SDK').filter({ hasText: /LANGSMITH_ENDPOINT=http:\/\/127\.0\.0\.1:/ }).waitFor();
  await page.locator('#chart-throughput canvas').waitFor();
  assert.deepEqual(await violations(page), []);
  await page.getByRole('button', { name: 'Last day' }).click();
  await page.getByText('The last day is shown once weir has run for two minutes.').waitFor();
  await page.getByRole('button', { name: 'Last hour' }).click();
  await page.locator('#caption-throughput').waitFor();
  assert.deepEqual(await troubleOf(page), []);
});

test('accessible and without sideways scrolling, in both themes and on a phone', async (t) => {
  const weir = await refusedCase(t);
  for (const [name, options] of Object.entries({
    'light': {},
    'dark': { colorScheme: 'dark' },
    'phone': { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
    'phone, dark': { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, colorScheme: 'dark' },
  })) {
    await t.test(name, async (t) => {
      const page = await openDashboard(t, weir, options);
      await page.locator('.case .opener').click();
      await page.getByLabel('Answer', { exact: true }).waitFor();
      await page.getByRole('button', { name: 'Show the frames' }).click();
      await page.locator('.frame').first().waitFor();
      await page.locator('main details').evaluateAll((all) => all.forEach((details) => { details.open = true; }));
      assert.deepEqual(await violations(page), []);
      assert.deepEqual(await overflow(page), { page: 0, wide: [] });
      await page.getByRole('button', { name: /^Discard… case/ }).click();
      await page.getByRole('button', { name: /^Discard 2 items/ }).waitFor();
      assert.deepEqual(await violations(page), []);
      assert.deepEqual(await troubleOf(page), []);
    });
  }
});

test('dark as the system is, or as the reader has it', async (t) => {
  const weir = await Weir.start(t, await startSmith(t));
  const page = await openDashboard(t, weir, { colorScheme: 'dark' });
  const luminance = () => page.evaluate(() => {
    const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number);
    return (r + g + b) / 3;
  });
  assert.ok(await luminance() < 60);
  const button = page.getByRole('button', { name: /^Theme:/ });
  await button.click();
  assert.equal(await button.textContent(), 'Theme: light');
  assert.ok(await luminance() > 200);
  await page.reload();
  await page.locator('#glance .tile').first().waitFor();
  assert.ok(await luminance() > 200, 'the choice is kept');
  await page.emulateMedia({ colorScheme: 'light' });
  await button.click();
  assert.ok(await luminance() < 60);
  assert.deepEqual(await troubleOf(page), []);
});

test('everything by keyboard alone', async (t) => {
  const weir = await refusedCase(t);
  const page = await openDashboard(t, weir);
  await page.locator('.case').waitFor();
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
  /** tabTo presses Tab until something has the focus; what is focused must be seen. */
  const tabTo = async (name) => {
    for (let i = 0; i < 60; i += 1) {
      await page.keyboard.press('Tab');
      if (name.test(await focused())) {
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        assert.notEqual(outline, 'none', `${name} shows no focus`);
        return;
      }
    }
    throw new Error(`Tab never comes to ${name}`);
  };
  await tabTo(/^To the content$/);
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'content');
  await tabTo(/^Case \d/);
  await page.keyboard.press('Enter');
  await page.getByLabel('Answer', { exact: true }).waitFor();
  assert.match(await focused(), /^Case \d/, 'opening a case keeps the focus');
  await tabTo(/^Discard…$/);
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Discard 2 items for good' }).waitFor();
  assert.equal(await focused(), 'Cancel', 'the harmless answer has the focus');
  await page.keyboard.press('Escape');
  await poll('the focus to be back', async () => /^Discard…$/.test(await focused()));
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Discard 2 items for good' }).waitFor();
  await page.evaluate(() => { // faster than the event that tells of the closing
    document.getElementById('dialog').close();
    document.activeElement.click();
  });
  await page.getByRole('button', { name: 'Discard 2 items for good' }).waitFor();
  await tabTo(/^Discard 2 items for good$/);
  await page.keyboard.press('Enter');
  await page.locator('#cases').getByRole('heading', { name: 'Nothing is stuck' }).waitFor();
  await poll('the result to be said', async () => /2 items .*discarded/.test(await page.locator('#announcer').textContent()));
  assert.deepEqual(await troubleOf(page), []);
});

test('a token is asked for, and a wrong one is said', async (t) => {
  const weir = await Weir.start(t, await startSmith(t), { token: 'the-right-one' });
  await weir.send(1);
  const page = await openPage(t, weir.admin);
  const field = page.getByLabel('Admin token', { exact: true });
  await field.waitFor();
  assert.equal(await page.locator('#content').isVisible(), false);
  assert.deepEqual(await violations(page), []);
  await field.fill('a-wrong-one');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').getByText('This token is not the one of this weir.').waitFor();
  await field.fill('the-right-one');
  await page.getByRole('button', { name: 'Unlock' }).click();
  await page.locator('#flow .totals', { hasText: 'accepted1' }).waitFor();
  assert.equal(page.url().includes('right'), false);
  await page.reload();
  await page.locator('#flow .totals', { hasText: 'accepted1' }).waitFor();
  const { status } = await fetch(`${weir.admin}/metrics`);
  assert.equal(status, 401);
  assert.deepEqual(await troubleOf(page, 401), []);
});

test('a page of another site can read nothing and change nothing', async (t) => {
  const weir = await refusedCase(t);
  const site = createServer((request, response) => response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>evil</title>'));
  await new Promise((resolve) => { site.listen(0, '127.0.0.1', resolve); });
  t.after(() => site.close());
  // The same machine by another name and port: another origin, and another site.
  const page = await openPage(t, `http://localhost:${site.address().port}`);
  const tried = await page.evaluate(async (admin) => {
    const attempt = (work) => work.then((v) => v, (err) => `refused: ${err.name}`);
    const post = (type, mode) => attempt(fetch(`${admin}/weir.v1.AdminService/DiscardCases`, {
      method: 'POST', mode, headers: type ? { 'Content-Type': type } : {}, body: '{"all":true}',
    }).then((r) => (r.type === 'opaque' ? 'opaque' : `status ${r.status}`)));
    const load = (tag, attribute, path) => new Promise((resolve) => {
      const element = document.createElement(tag);
      element.onload = () => resolve('loaded');
      element.onerror = () => resolve('refused');
      element[attribute] = admin + path;
      if (tag === 'link') element.rel = 'stylesheet';
      document.head.append(element);
    });
    const form = () => new Promise((resolve) => {
      const frame = document.createElement('iframe');
      frame.name = 'target';
      frame.onload = () => resolve('answered');
      document.body.append(frame);
      const f = document.createElement('form');
      Object.assign(f, { method: 'POST', enctype: 'text/plain', action: `${admin}/weir.v1.AdminService/DiscardCases`, target: 'target' });
      const input = document.createElement('input');
      Object.assign(input, { name: '{"all":true,"x":"', value: '"}' });
      f.append(input);
      document.body.append(f);
      f.submit();
    });
    return {
      read: await attempt(fetch(`${admin}/`).then(() => 'read')),
      json: await post('application/json', 'cors'),
      text: await post('text/plain', 'no-cors'),
      script: await load('script', 'src', '/dashboard/theme.js'),
      style: await load('link', 'href', '/dashboard/base.css'),
      icon: await load('img', 'src', '/dashboard/icon.svg'),
      form: await form(),
    };
  }, weir.admin);
  assert.deepEqual(tried, {
    read: 'refused: TypeError', json: 'refused: TypeError', text: 'opaque', script: 'refused', style: 'refused', icon: 'refused', form: 'answered',
  });
  const { totals } = await weir.call('GetStatus');
  assert.deepEqual([totals.quarantinedItems, totals.droppedItems ?? '0'], ['2', '0']);

  await t.test('and cannot show it in a frame', async () => {
    await page.evaluate((admin) => {
      const frame = document.createElement('iframe');
      frame.id = 'framed';
      frame.src = `${admin}/`;
      document.body.append(frame);
    }, weir.admin);
    const frame = await (await page.waitForSelector('#framed')).contentFrame();
    await poll('the frame to be answered', () => !['', 'about:blank'].includes(frame.url()));
    assert.equal(await frame.locator('#glance').count(), 0);
  });
});
