// Makes the pictures of docs/images: node pictures.mjs DIR (run --update does it).
// A weir in the middle of a month, with traffic, an outage that is over, and a case
// that needs a person. The numbers differ a little each time.

import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openDashboard, poll, startBrowser, startSmith, stopBrowser, troubleOf } from './rig.mjs';
import { monthOfTraffic } from './scenes.mjs';

const MAX_BYTES = 200 * 1024;
const TRAFFIC_MS = 120_000;
const EVERY_MS = 500;

/**
 * traffic sends a while like a busy service; then LangSmith takes nothing for
 * some seconds, and less than before after that, so that there is a backlog to see. */
async function traffic(weir, smith) {
  const began = Date.now();
  let last = 0;
  let peak = 0;
  let refused = '';
  const want = async (name, change) => {
    if (refused !== name) await change();
    refused = name;
  };
  await poll('the traffic', async () => {
    if (Date.now() - last < EVERY_MS) return false;
    last = Date.now();
    const share = (last - began) / TRAFFIC_MS;
    if (share > 0.5 && share < 0.62) await want('outage', () => smith.refuse({ status: 503 }));
    if (share >= 0.62) await want('slow', () => smith.refuse({ latency: '1200ms' }));
    const spans = { '': 120 + 50 * Math.sin(share * 14), 'outage': 350, 'slow': 40 }[refused];
    await weir.send(1, { project: 'checkout-agent', spans: Math.round(spans) });
    const pending = Number((await weir.call('GetStatus')).totals.pendingItems);
    peak = Math.max(peak, pending);
    return share >= 1 || (refused === 'slow' && pending < peak * 0.6);
  }, TRAFFIC_MS + 60_000);
}

/** picture takes one and checks that it is small, and that the page did nothing wrong. */
async function picture(page, dir, name, part) {
  const path = join(dir, `${name}.png`);
  await page.evaluate(() => scrollTo(0, 0));
  await (part ? page.locator(part) : page).screenshot({ path, animations: 'disabled' });
  const { size } = await stat(path);
  if (size > MAX_BYTES) throw new Error(`${path} has ${size} bytes, at most ${MAX_BYTES} are wanted`);
  const trouble = await troubleOf(page);
  if (trouble.length > 0) throw new Error(trouble.join('\n'));
  console.log(`${path}: ${Math.ceil(size / 1024)} KiB`);
}

const ends = [];
const t = { after: (end) => ends.push(end) };
const dir = process.argv[2];
await mkdir(dir, { recursive: true });
await startBrowser();
try {
  const smith = await startSmith(t);
  const weir = await monthOfTraffic(t, smith, {
    limit: 6000, flags: ['--forward-concurrency', '1', '--forward-max-request-bytes', '64KiB'],
  });
  await smith.refuse({ status: 422, body: '{"detail":"invalid input: dotted_order does not match trace id"}' });
  await weir.send(3, { project: 'search' });
  await weir.until('the case', (s) => s.totals.quarantinedItems === '3');
  await smith.take();
  const light = await openDashboard(t, weir, { viewport: { width: 1280, height: 1000 } });
  const dark = await openDashboard(t, weir, { viewport: { width: 1280, height: 1000 }, colorScheme: 'dark' });
  const phone = await openDashboard(t, weir, { viewport: { width: 360, height: 780 }, isMobile: true, deviceScaleFactor: 2 });
  await traffic(weir, smith);
  await smith.refuse({ latency: '2500ms' }); // the rest of the backlog is to last for all pictures
  for (const page of [light, dark, phone]) {
    await page.locator('#chart-throughput canvas').waitFor();
    await page.locator('#quota canvas').first().waitFor();
  }
  await light.locator('#drain-text').waitFor();
  await picture(light, dir, 'dashboard-light');
  await picture(dark, dir, 'dashboard-dark');
  await picture(phone, dir, 'dashboard-phone');
  await light.locator('.case .opener').first().click();
  await light.getByLabel('Answer', { exact: true }).waitFor();
  await picture(light, dir, 'dashboard-case', '#cases');
  await picture(light, dir, 'dashboard-quota', '#quota');
} finally {
  for (const end of ends.reverse()) await end();
  await stopBrowser();
}
