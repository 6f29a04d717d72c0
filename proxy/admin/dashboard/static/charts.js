// The charts, drawn by uPlot. Each has a caption in words and a table beside it;
// see views/flow.js and views/quota.js.

import uPlot from './uplot/uPlot.esm.js';
import { brief, bytes, clock, count, num, perSecond } from './format.js';

const HEIGHT_PX = 190;
const X_AXIS_PX = 26;
const drawn = new Map(); // element: {plot, kind, theme}

/** color resolves a colour of the style sheet, which may differ by theme. */
function color(name) {
  const probe = document.getElementById('color-probe');
  probe.className = `probe-${name}`;
  return getComputedStyle(probe).color;
}

function axis(extra) {
  return {
    stroke: color('muted'), font: '12px system-ui, sans-serif', labelFont: '12px system-ui, sans-serif',
    grid: { stroke: color('grid'), width: 1 }, ticks: { show: false }, gap: 6, ...extra,
  };
}

const timeAxis = () => axis({
  grid: { show: false }, space: 76, size: X_AXIS_PX,
  // Seconds where the ticks are closer than a minute.
  values: (_, ticks, __, ___, step) => ticks.map((t) => clock(t * 1000).slice(0, step < 60 ? 8 : 5)),
});

function countAxis(write) {
  return axis({ size: 58, space: 34, values: (_, ticks) => ticks.map((t) => (t === null ? '' : write(t))) });
}

/** fromZero leaves room above the highest value, and something to see at none. */
const fromZero = (_, __, max) => [0, Math.max(1, max * 1.1)];

function line(label, name, extra = {}) {
  return { label, stroke: color(name), width: 2, points: { show: false }, ...extra };
}

const KINDS = {
  throughput: () => ({
    scales: { y: { range: fromZero } },
    axes: [timeAxis(), countAxis(perSecond)],
    series: [{}, line('in', 'in', { fill: color('in-area') }), line('out', 'out')],
  }),
  backlog: () => ({
    scales: { y: { range: fromZero } },
    axes: [timeAxis(), countAxis(brief)],
    series: [{}, line('pending', 'pending', { fill: color('pending-area') })],
  }),
  month: () => ({
    scales: { x: { time: false }, y: { range: fromZero } },
    axes: [
      axis({ grid: { show: false }, space: 36, size: X_AXIS_PX, values: (_, ticks) => ticks.map((t) => (Number.isInteger(t) ? String(t + 1) : '')) }),
      countAxis(brief),
    ],
    series: [
      {},
      line('used', 'out', { fill: color('out-area') }),
      line('forecast', 'out', { dash: [5, 5] }),
      line('limit', 'limit', { width: 1.5 }),
    ],
  }),
};

/** draw makes or updates the chart of kind in element. Data is uPlot's. */
export function draw(element, kind, data) {
  const theme = getComputedStyle(document.documentElement).getPropertyValue('color-scheme') + matchMedia('(prefers-color-scheme: dark)').matches;
  let chart = drawn.get(element);
  if (chart && chart.theme !== theme) {
    chart.plot.destroy();
    chart = null;
  }
  if (!chart) {
    const options = {
      width: Math.max(200, element.clientWidth), height: HEIGHT_PX, padding: [8, 8, 0, 0],
      legend: { show: false }, cursor: { show: false }, ...KINDS[kind](),
    };
    chart = { plot: new uPlot(options, data, element), kind, theme };
    drawn.set(element, chart);
    resized.observe(element);
    return;
  }
  chart.plot.setData(data);
}

const resized = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const chart = drawn.get(target);
    if (!target.isConnected) {
      resized.unobserve(target);
      drawn.delete(target);
    } else if (chart && contentRect.width > 0) {
      chart.plot.setSize({ width: Math.floor(contentRect.width), height: HEIGHT_PX });
    }
  }
});

/** throughputData is items a second, of points of GetHistory. */
export function throughputData(points) {
  const seconds = stepSeconds(points);
  return [
    points.map((p) => Date.parse(p.time) / 1000),
    points.map((p) => num(p.acceptedItems) / seconds),
    points.map((p) => num(p.deliveredItems) / seconds),
  ];
}

export function backlogData(points) {
  return [points.map((p) => Date.parse(p.time) / 1000), points.map((p) => num(p.pendingItems))];
}

export function stepSeconds(points) {
  if (points.length < 2) return 5;
  const [a, b] = points.slice(-2).map((p) => Date.parse(p.time) / 1000);
  return Math.max(1, Math.round(b - a));
}

const DAY_MS = 86_400_000;

/**
 * monthOf is an account's month as a chart has it: for each day that has ended,
 * and for now, how many traces there were, then the forecast to the month's end.
 * What weir did not send itself has no day; it stands below all of them.
 */
export function monthOf(scope, nowMs) {
  const begin = Date.parse(`${scope.month}-01T00:00:00Z`);
  const from = new Date(begin);
  const length = (Date.UTC(from.getUTCFullYear(), from.getUTCMonth() + 1, 1) - begin) / DAY_MS;
  const today = Math.min(length, Math.max(0, (nowMs - begin) / DAY_MS));
  const used = num(scope.tracesUsed);
  const perDay = new Array(length).fill(0);
  for (const d of scope.days ?? []) {
    const day = (Date.parse(`${d.day}T00:00:00Z`) - begin) / DAY_MS;
    if (day >= 0 && day < length) perDay[day] += num(d.traces);
  }
  let sum = Math.max(0, used - perDay.reduce((a, b) => a + b, 0));
  const points = [{ x: 0, used: sum }];
  for (let day = 0; day + 1 <= today; day += 1) {
    sum = Math.min(used, sum + perDay[day]);
    points.push({ x: day + 1, used: sum });
  }
  if (points.at(-1).x < today) points.push({ x: today, used });
  points.at(-1).used = used;
  const projected = scope.projectedTraces ?? null;
  if (projected !== null && today < length) {
    points.at(-1).forecast = used;
    points.push({ x: length, forecast: Math.max(used, projected) });
  } else if (today < length) {
    points.push({ x: length });
  }
  return { points, limit: scope.tracesLimit ?? null, length, today };
}

export function monthData({ points, limit }) {
  return [
    points.map((p) => p.x),
    points.map((p) => p.used ?? null),
    points.map((p) => p.forecast ?? null),
    points.map(() => limit),
  ];
}

/** rowsOf sums points up into a few rows for a table, the newest first. */
export function rowsOf(points, rows = 12) {
  const size = Math.max(1, Math.ceil(points.length / rows));
  const seconds = stepSeconds(points);
  const out = [];
  for (let end = points.length; end > 0; end -= size) {
    const part = points.slice(Math.max(0, end - size), end);
    const sum = (name) => part.reduce((total, p) => total + num(p[name]), 0) / (part.length * seconds);
    const last = part.at(-1);
    out.push({
      key: last.time,
      cells: [clock(Date.parse(last.time)), perSecond(sum('acceptedItems')), perSecond(sum('deliveredItems')),
        count(last.pendingItems), bytes(last.pendingBytes)],
    });
  }
  return out;
}
