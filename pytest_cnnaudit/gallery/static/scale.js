'use strict';
// Draws a metric on a small scale: the axis, the side that passes, the 95 % interval,
// the value and its thresholds. Numbers stand beside it as text.

const OPERATORS = { '>=': '≥', '<=': '≤', '>': '>', '<': '<', '==': '=', '!=': '≠' };

function metricTone(metric) {
  if (!metric.thresholds.length) return 'idle';
  return metric.thresholds.every((threshold) => threshold.holds) ? 'good' : 'bad';
}

// ---- numbers as text ----

function shortNumber(number) {
  return String(Number(number.toPrecision(4)));
}

// How the report shows the value tells how to show its neighbours: to how many
// decimals, and whether as percent or in 255ths ("31 %" for 0.31, "4.0/255" for 0.0157).
function notation(metric) {
  const parts = (metric.display + metric.unit).match(/^([+-]?\d+(?:\.(\d+))?)(\s?(?:%|\/\d+))?\D*$/);
  if (!parts) return { factor: 1, decimals: null, suffix: '' };
  const [, shown, { length: decimals } = '', scale = ''] = parts;
  const factor = scale.endsWith('%') ? 100 : Number(scale.trim().slice(1));
  const isScaled = scale && Math.abs(shown - metric.value * factor) <= 10 ** -decimals;
  return isScaled ? { factor, decimals, suffix: scale } : { factor: 1, decimals, suffix: '' };
}

function rounded(metric, number) {
  const { factor, decimals } = notation(metric);
  return decimals === null ? shortNumber(number * factor) : (number * factor).toFixed(decimals);
}

function valueText(metric) {
  if (metric.value === null) return metric.display || 'not a number';
  if (!metric.unit || metric.display.endsWith(metric.unit)) return metric.display;
  const gap = /^\p{Letter}/u.test(metric.unit) ? ' ' : ''; // "3 ms", but "2/255"
  return metric.display + gap + metric.unit;
}

// The report holds no infinity: an end of the interval that is null is open.
function interval(metric) {
  return metric.ci95 && [metric.ci95[0] ?? -Infinity, metric.ci95[1] ?? Infinity];
}

function intervalText(metric) {
  if (!metric.ci95) return '';
  const shown = (end) => (Number.isFinite(end) ? rounded(metric, end) : `${end < 0 ? '−' : ''}∞`);
  return `(${interval(metric).map(shown).join('–')})`;
}

// A threshold is a promise: it is shown in full, never rounded to the value's digits.
function thresholdText(metric, threshold) {
  const { factor, suffix } = notation(metric);
  const number = Number((threshold.value * factor).toPrecision(4));
  return `${OPERATORS[threshold.op] || threshold.op} ${number}${suffix}`;
}

// By how much a threshold was missed; kept from rounding to zero.
function missText(metric, threshold) {
  const word = { '>=': 'short by', '>': 'short by', '<=': 'over by', '<': 'over by' }[threshold.op];
  if (threshold.holds || metric.value === null || !word) return '';
  const gap = Math.abs(metric.value - threshold.value);
  const text = rounded(metric, gap);
  const { factor, suffix } = notation(metric);
  return `${word} ${Number(text) === 0 ? Number((gap * factor).toPrecision(1)) : text}${suffix}`;
}

function isCloseCall(metric, threshold) {
  if (!metric.ci95) return false;
  const [low, high] = interval(metric);
  return low <= threshold.value && threshold.value <= high;
}

function thresholdVerdict(metric, threshold) {
  const tone = threshold.holds ? 'good' : 'bad';
  const miss = missText(metric, threshold);
  return element('span', { class: `threshold-verdict tone-${tone}` },
    element('b', {}, thresholdText(metric, threshold)), ' ',
    mark(tone), element('span', { class: 'visually-hidden' }, threshold.holds ? 'holds' : 'missed'),
    miss && element('span', { class: 'miss' }, ` ${miss}`),
    isCloseCall(metric, threshold) && element('span', { class: 'close-call', title: 'The 95 % interval holds the threshold' }, 'close call'));
}

// "0.31 (0.27–0.35) ≥ 0.35"
function metricNumbers(metric) {
  const interval = intervalText(metric);
  return element('span', { class: 'numbers' },
    element('span', { class: 'value' }, valueText(metric)), ' ',
    interval && element('span', { class: 'interval', title: '95 % interval' }, interval), ' ',
    metric.thresholds.map((threshold) => [thresholdVerdict(metric, threshold), ' ']).flat());
}

// ---- the picture ----

// The metric's own range where it has one; else from zero, unless that would
// squeeze the value and its thresholds into one spot.
function metricDomain(metric) {
  const marks = [metric.value, ...(metric.ci95 || []), ...metric.thresholds.map((threshold) => threshold.value)]
    .filter(Number.isFinite);
  const least = Math.min(...marks);
  const most = Math.max(...marks);
  const spread = most - least;
  if (metric.range) return [Math.min(metric.range[0], least), Math.max(metric.range[1], most)];
  if (spread === 0) return null;
  const farFromZero = spread < 0.1 * Math.max(Math.abs(least), Math.abs(most));
  if (farFromZero) return [least - spread, most + spread];
  return [Math.min(0, least - 0.15 * spread * (least < 0)), Math.max(0, most + 0.15 * spread)];
}

// The stretch in which every threshold holds; null where there is no such side to show.
function passingStretch(thresholds, [low, high]) {
  const from = thresholds.filter(({ op }) => op.startsWith('>')).map(({ value }) => value);
  const to = thresholds.filter(({ op }) => op.startsWith('<')).map(({ value }) => value);
  if (!from.length && !to.length) return null;
  const start = Math.max(low, ...from);
  const end = Math.min(high, ...to);
  return start <= end ? [start, end] : null;
}

// Positions are in percent, so the picture fits any width without being redrawn. A band ends where the picture does.
function metricScale(metric) {
  const domain = metricDomain(metric);
  if (!domain || domain[0] === domain[1]) return null;
  const [low, high] = domain;
  const percent = (value) => `${((value - low) / (high - low)) * 100}%`;
  const band = (className, [from, to], y, height) => {
    const [start, end] = [Math.max(from, low), Math.min(to, high)];
    return svgElement('rect', {
      class: className, x: percent(start), width: `${((end - start) / (high - low)) * 100}%`, y, height, rx: height / 2,
    });
  };
  const passing = passingStretch(metric.thresholds, domain);
  const { factor, suffix } = notation(metric);
  const endLabel = (value) => element('span', { class: 'end' }, shortNumber(value * factor) + suffix);
  const drawing = svgElement('svg', { class: 'axis', height: 24 },
    svgElement('rect', { class: 'track', x: 0, width: '100%', y: 10, height: 4, rx: 2 }),
    passing && band('passing', passing, 10, 4),
    metric.ci95 && band('interval-band', interval(metric), 6, 12),
    metric.thresholds.map(({ value }) =>
      svgElement('line', { class: 'threshold', x1: percent(value), x2: percent(value), y1: 2, y2: 22 })),
    metric.value !== null && svgElement('circle', { class: 'dot', cx: percent(metric.value), cy: 12, r: 5.5 }));
  return element('div', { class: `scale tone-${metricTone(metric)}`, 'aria-hidden': 'true' }, endLabel(low), drawing, endLabel(high));
}
