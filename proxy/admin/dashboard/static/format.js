// Numbers, sizes and times as a person reads them.

import { h } from './dom.js';

/** num is a number of a message; 64-bit ones are strings, zeros are left out. */
export const num = (value) => Number(value ?? 0);

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** count is a number in full: 12,345. */
export const count = (value) => whole.format(num(value));

/** brief is a number as short as it can be said: 12.3K. */
export const brief = (value) => (Math.abs(num(value)) < 10_000 ? count(value) : short.format(num(value)));

/** plural is a count of things: 1 item, 12 items. */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${num(value) === 1 ? one : many}`;

/** perSecond is a rate: 0.4, 12, 1,240. */
export function perSecond(value) {
  const rate = num(value);
  if (rate > 0 && rate < 0.05) return '<0.1';
  return rate < 10 && rate !== 0 ? rate.toFixed(1) : count(rate);
}

/** bytes is a size in binary units, as the command line writes it. */
export function bytes(value) {
  let size = num(value);
  if (size < 1024) return `${Math.round(size)} B`;
  let unit = -1;
  do {
    size /= 1024;
    unit += 1;
  } while (size >= 1023.95 && unit < 4);
  return `${size < 9.95 ? size.toFixed(1) : Math.round(size)} ${['KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit]}`;
}

export const percent = (share) => `${share > 0 && share < 0.01 ? '<1' : Math.round(share * 100)} %`;

/** seconds of a duration such as "3.5s". */
export const seconds = (duration) => (duration ? Number.parseFloat(duration) : 0);

/** took is how long a call took: 212 ms, 3.5 s. */
export function took(duration) {
  const ms = seconds(duration) * 1000;
  return ms < 1 ? 'less than 1 ms' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** span is a length of time in one or two units: 40 s, 3 min, 2 h 5 min. */
export function span(totalSeconds) {
  const t = Math.max(0, Math.round(totalSeconds));
  if (t < 60) return `${t} s`;
  if (t < 3600) return t < 600 && t % 60 ? `${Math.floor(t / 60)} min ${t % 60} s` : `${Math.round(t / 60)} min`;
  if (t < 86_400) {
    const minutes = Math.round((t % 3600) / 60) % 60;
    return `${Math.floor(t / 3600)} h${minutes ? ` ${minutes} min` : ''}`;
  }
  const hours = Math.floor((t % 86_400) / 3600);
  return `${plural(Math.floor(t / 86_400), 'day')}${hours ? ` ${hours} h` : ''}`;
}

const utc = (date) => `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
const clockOf = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayOf = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

/** clock is a time of day in the reader's zone. */
export const clock = (ms) => clockOf.format(new Date(ms));

function timeElement(date, text) {
  return h('time', { datetime: date.toISOString(), title: utc(date) }, text);
}

/** at is a moment in the reader's zone, UTC on hover. */
export function at(text) {
  const date = new Date(text);
  return timeElement(date, dayOf.format(date));
}

/** ago says how long ago a moment was, by weir's clock. */
export function ago(text, nowMs) {
  const date = new Date(text);
  const past = (nowMs - date.getTime()) / 1000;
  return timeElement(date, past < 1 ? 'just now' : `${span(past)} ago`);
}

/** due says when something will be, by weir's clock. */
export function due(text, nowMs) {
  const date = new Date(text);
  const wait = (date.getTime() - nowMs) / 1000;
  return timeElement(date, wait < 1 ? 'now' : `in ${span(wait)}`);
}

/** words writes a stable code for people: key_revoked, key revoked. */
export const words = (code) => (code ?? '').replaceAll('_', ' ');

/** accountName is an account's name without what all of them begin with. */
export function accountName(account) {
  return (account ?? '').replace(/^https?:\/\//, '');
}
