// What the tests stand on: a LangSmith look-alike, a weir in front of it, and a
// real Chromium in front of that. Everything listens on loopback, waits for
// conditions and never for a while, and ends with the test that started it.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

// No wait comes near this unless something is broken.
export const PATIENCE_MS = Number(process.env.WEIR_PATIENCE_MS ?? 60_000);

// Where run put what the tests start.
const TOOLS = process.env.WEIR_TOOLS;
const CHROMIUM = process.env.WEIR_CHROMIUM ?? '/usr/bin/chromium';
const KEY = 'lsv2_pt_0123456789abcdef0123456789abcdef_weir000001';

// An environment without proxies, LANGSMITH_* and WEIR_* of whoever runs this.
const BARE = { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: tmpdir(), LC_ALL: 'C.UTF-8' };

/** Program is a process that says on standard output where it listens. */
class Program {
  /** start runs name and resolves once found has read what it needs from the lines so far. */
  static async start(name, args, env, found) {
    const p = new Program();
    p.log = '';
    p.child = spawn(join(TOOLS, name), args, { env: { ...BARE, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    p.child.stderr.on('data', (data) => { p.log += data; });
    p.ended = new Promise((resolve) => p.child.on('exit', (code, signal) => resolve(code ?? signal)));
    await new Promise((resolve, reject) => {
      createInterface({ input: p.child.stdout }).on('line', (line) => {
        p.log += `${line}\n`;
        p.found ??= found(p.log);
        if (p.found) resolve();
      });
      p.ended.then((code) => reject(new Error(`${name} ended with ${code}:\n${p.log}`)));
      p.child.on('error', reject);
    });
    return p;
  }

  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    const hung = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE_MS);
    const code = await this.ended;
    clearTimeout(hung);
    if (code !== 0) throw new Error(`a program ended with ${code}:\n${this.log}`);
  }
}

const endings = new WeakMap(); // test: what ends with it

/** atEnd has something done when a test ends, the latest first. */
function atEnd(t, done) {
  if (!endings.has(t)) {
    endings.set(t, []);
    t.after(async () => {
      for (const end of endings.get(t).reverse()) await end();
    });
  }
  endings.get(t).push(done);
}

/** temp makes a directory that goes with the test. */
async function temp(t) {
  const dir = await mkdtemp(join(tmpdir(), 'weir-browser-'));
  atEnd(t, () => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** Smith is a look-alike with its control API. */
export async function startSmith(t) {
  const p = await Program.start('smith', ['-control'], {}, (log) => /^(127\.0\.0\.1:\d+)$/m.exec(log)?.[1]);
  atEnd(t, () => p.stop());
  const url = `http://${p.found}`;
  const control = async (method, call, body) => {
    const response = await fetch(`${url}/__smith/${call}`, { method, body: body && JSON.stringify(body) });
    if (!response.ok) throw new Error(`smith ${call}: ${await response.text()}`);
  };
  return {
    url,
    /** refuse has every request with traces answered by a fault. */
    refuse: (fault) => control('POST', 'faults', { standing: { match: 'ingest', count: -1, ...fault } }),
    take: () => control('DELETE', 'faults'),
    clock: (offset) => control('POST', 'clock', { offset }),
  };
}

/**
 * Weir is a weir that can be stopped and started again at the same addresses. Its
 * clock is moved where hours are given.
 */
export class Weir {
  static async start(t, smith, { flags = [], token = '', hours = null } = {}) {
    const w = new Weir();
    const dir = await temp(t);
    w.smith = smith;
    w.args = ['--upstream', smith.url, '--data-dir', join(dir, 'data'), '--forward-linger', '20ms', '--grpc-addr', 'off', ...flags];
    w.env = { LANGSMITH_API_KEY: KEY };
    if (token) {
      await writeFile(join(dir, 'token'), token, { mode: 0o600 });
      w.args.push('--admin-token-file', join(dir, 'token'));
    }
    if (hours !== null) {
      w.clockFile = join(dir, 'clock');
      w.env.WEIR_TEST_CLOCK = w.clockFile;
      await w.setClock(hours);
    }
    w.token = token;
    atEnd(t, () => w.stop());
    await w.run();
    return w;
  }

  async setClock(hours) {
    await this.smith.clock(`${hours}h`);
    await writeFile(this.clockFile, `${hours}h`);
  }

  async run() {
    const at = (url) => (url ? url.slice('http://'.length) : '127.0.0.1:0');
    this.program = await Program.start(this.clockFile ? 'weir-movable' : 'weir',
      ['run', '--http-addr', at(this.http), '--admin-addr', at(this.admin), ...this.args], this.env, (log) => {
        const http = /LANGSMITH_ENDPOINT=(\S+)/.exec(log)?.[1];
        const admin = /^\s*admin\s+(\S+)$/m.exec(log)?.[1];
        return http && admin && { http, admin: `http://${admin}` };
      });
    Object.assign(this, this.program.found);
  }

  async stop() {
    const { program } = this;
    this.program = null;
    if (program) await program.stop();
  }

  /** call makes a call of the AdminService past the browser. */
  async call(name, request = {}) {
    const response = await fetch(`${this.admin}/weir.v1.AdminService/${name}`, {
      method: 'POST', body: JSON.stringify(request),
      headers: { 'Content-Type': 'application/json', ...(this.token && { Authorization: `Bearer ${this.token}` }) },
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${name}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** until resolves with the status once holds is true of it. */
  until(what, holds) {
    return poll(what, async () => {
      const status = await this.call('GetStatus');
      return holds(status) && status;
    });
  }

  /** send sends traces of a few spans each and resolves to their ids. */
  async send(traces, { project = '', spans = 1, text = 'What is a weir?' } = {}) {
    const ids = Array.from({ length: traces }, () => randomBytes(16).toString('hex'));
    const nanos = BigInt(Date.now()) * 1_000_000n;
    for (let i = 0; i < ids.length; i += 500) {
      const all = ids.slice(i, i + 500).flatMap((traceId) => Array.from({ length: spans }, () => ({
        traceId, spanId: randomBytes(8).toString('hex'), name: 'ask', kind: 1,
        startTimeUnixNano: String(nanos), endTimeUnixNano: String(nanos + 1_000_000n),
        attributes: [{ key: 'gen_ai.prompt', value: { stringValue: text } }],
      })));
      const response = await fetch(`${this.http}/v1/traces`, {
        method: 'POST', headers: { 'Content-Type': 'application/json', ...(project && { 'Langsmith-Project': project }) },
        body: JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: all }] }] }),
      });
      if (!response.ok) throw new Error(`weir took no traces: ${response.status} ${await response.text()}`);
    }
    return ids;
  }
}

/** poll resolves to what look returns once that is true. */
export async function poll(what, look, patienceMs = PATIENCE_MS) {
  const limit = Date.now() + patienceMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > limit) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 25); }); // the pause of polling, not a guess
  }
}

let browser;

/** startBrowser starts the one Chromium of a test file. */
export async function startBrowser() {
  // Each is known to keep Chromium from calling home or from needing a display.
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
}

export const stopBrowser = () => browser?.close();

/**
 * openPage opens a page in a profile of its own and watches what it does. The
 * page's trouble is what must stay empty: errors on the console, violations of the
 * Content-Security-Policy, requests to anywhere but the origin it came from.
 */
export async function openPage(t, origin, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', timezoneId: 'UTC', acceptDownloads: true, ...options,
  });
  atEnd(t, () => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.trouble = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) page.trouble.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (err) => page.trouble.push(`error: ${err.message}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith('data:') && !url.startsWith('blob:')) page.trouble.push(`outside request: ${url}`);
  });
  await page.addInitScript(() => {
    globalThis.violations = [];
    document.addEventListener('securitypolicyviolation', (e) => globalThis.violations.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile ?? ''}`));
  });
  await page.goto(`${origin}/`);
  return page;
}

/** openDashboard opens the page and waits until it shows weir's state. */
export async function openDashboard(t, weir, options) {
  const page = await openPage(t, weir.admin, options);
  await page.locator('#glance .tile').first().waitFor();
  return page;
}

/**
 * troubleOf is all that a page did and should not have done. Chromium itself
 * writes a line for each answer that is an error: those with an expected status
 * are left out.
 */
export async function troubleOf(page, ...expected) {
  const answered = (line) => expected.some((status) => line.includes(`server responded with a status of ${status} `));
  return [...page.trouble.filter((line) => !answered(line)), ...(await page.evaluate(() => globalThis.violations)).map((v) => `policy: ${v}`)];
}
