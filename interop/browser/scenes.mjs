// Months and troubles, played to a weir: for tests and for pictures.

import { Weir } from './rig.mjs';

const HOUR_MS = 3_600_000;

/** hoursTo is how far a clock is to be moved to be on a day of next month, noon UTC. */
export function hoursTo(day) {
  const now = new Date();
  return Math.round((Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, day, 12) - now.getTime()) / HOUR_MS);
}

/**
 * monthOfTraffic starts a weir that lives through most of a month: some traces
 * each day, a little more each week, so that the limit will not do.
 */
export async function monthOfTraffic(t, smith, { limit = 3000, days = 17, flags = [] } = {}) {
  const weir = await Weir.start(t, smith, { hours: hoursTo(1), flags: ['--quota-traces', String(limit), '--no-quota-ask-langsmith', ...flags] });
  let sent = 0;
  for (let day = 1; day <= days; day += 1) {
    await weir.setClock(hoursTo(day));
    const weekend = day % 7 > 4;
    const traces = Math.round(limit / 30 * (weekend ? 0.5 : 1.05 + day / 60));
    await weir.send(traces, { project: ['checkout-agent', 'support', 'search'][day % 3] });
    sent += traces;
    await weir.until(`day ${day}`, (s) => Number(s.totals.deliveredItems) === sent);
  }
  return weir;
}
