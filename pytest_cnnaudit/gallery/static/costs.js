'use strict';
// The passes through the model that a run spent, and what it had from the cache instead.

function isFromCache({ cached }) {
  return Boolean(cached) && cached.batches === null;
}

// ---- of a measurement ----

function costLine({ cost, cached }) {
  const parts = Object.entries(cost || {}).filter(([, count]) => count).map(([kind, count]) => `${count.toLocaleString('en')} ${kind}`);
  const spent = parts.length > 0 && `Samples through the model: ${parts.join(' · ')}`;
  const text = cached ? cachedText(cached, spent) : spent;
  return text ? element('p', { class: 'facts cost' }, text) : null;
}

function cachedText({ measured, batches }, spent) {
  if (batches === null) return `From the cache, measured ${timeText(measured)}.${spent ? ` ${spent} then, none in this run.` : ''}`;
  const continued = `${counted(batches, 'batch')} of an earlier run (${timeText(measured)}) continued.`;
  return spent ? `${continued} ${spent}, those of the earlier run among them.` : continued;
}

// ---- of the run ----

// What came from the cache was spent in an earlier run.
function costText(tests) {
  const costs = tests.flatMap((test) => test.measurements).filter((measurement) => !isFromCache(measurement)).map(({ cost }) => cost || {});
  const passes = (kind) => costs.reduce((sum, cost) => sum + (cost[kind] || 0), 0).toLocaleString('en');
  return `${passes('forward')} forward, ${passes('backward')} backward passes of single samples`;
}

// "12 of 15 measurements, 1 continued an earlier run", or null where nothing did.
function cacheText(tests) {
  const measurements = tests.flatMap((test) => test.measurements);
  const whole = measurements.filter(isFromCache).length;
  const continued = measurements.filter(({ cached }) => cached).length - whole;
  const parts = [
    whole > 0 && `${whole} of ${counted(measurements.length, 'measurement')}`,
    continued > 0 && `${counted(continued, 'measurement')} continued an earlier run`,
  ].filter(Boolean);
  return parts.join(', ') || null;
}
