'use strict';
// Draws a metric on a small scale: the axis, the side that passes, the 95 % interval,
// the value, its thresholds and the baseline. Numbers stand beside it as text.

const OPERATORS = { '>=': '≥', '<=': '≤', '>': '>', '<': '<', '==': '=', '!=': '≠' };
const SQUEEZED = 0.05; // of a metric's range: closer together, a value and its threshold cannot be told apart
const BOUND_TEXT = 'It stopped early, when the verdict was certain: this is a bound, not the value.';

// Whether the test asked something of it: a threshold, or to be no worse than its baseline.
function isJudged({ thresholds, baseline }) {
  return thresholds.length > 0 || Boolean(baseline && baseline.verdict);
}

function metricTone(metric) {
  if (!isJudged(metric)) return 'idle';
  const isWorse = Boolean(metric.baseline) && metric.baseline.verdict === 'worse';
  return metric.thresholds.every((threshold) => threshold.holds) && !isWorse ? 'good' : 'bad';
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
  return [threshold.on, OPERATORS[threshold.op] || threshold.op, number + suffix].filter(Boolean).join(' ');
}

// What a threshold was held against: the value, or an end of its interval.
function judgedNumber(metric, { on }) {
  const end = { 'lower end': 0, 'upper end': 1 }[on];
  if (end === undefined) return metric.value;
  return metric.ci95 ? metric.ci95[end] : null;
}

// A distance between two values; kept from rounding to zero.
function gapText(metric, gap) {
  const text = rounded(metric, gap);
  const { factor, suffix } = notation(metric);
  return `${Number(text) === 0 ? Number((gap * factor).toPrecision(1)) : text}${suffix}`;
}

function missText(metric, threshold) {
  const word = { '>=': 'short by', '>': 'short by', '<=': 'over by', '<': 'over by' }[threshold.op];
  const judged = judgedNumber(metric, threshold);
  if (threshold.holds || judged === null || !word) return '';
  return `${word} ${gapText(metric, Math.abs(judged - threshold.value))}`;
}

// Whoever holds an end of the interval against a threshold has allowed for chance already.
function isCloseCall(metric, threshold) {
  if (!metric.ci95 || threshold.on) return false;
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

// ---- the change since the baseline ----

// Whether the 95 % interval of the difference leaves zero out. Its ends follow from those of the two
// intervals (Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10).
function isBeyondChance(metric, baseline) {
  const difference = metric.value - baseline.value;
  const reach = (value, ends, side) => {
    if (!ends) return 0;
    return ends[side] === null ? Infinity : Math.abs(ends[side] - value);
  };
  const [own, other] = difference > 0 ? [0, 1] : [1, 0]; // the ends that face one another
  return Math.abs(difference) > Math.hypot(reach(metric.value, metric.ci95, own), reach(baseline.value, baseline.ci95, other));
}

// {text: "+0.03", word: "better", tone, why}, or null where there is nothing to compare. A verdict that was reached
// sample by sample knows more than the two intervals do.
function baselineChange(metric) {
  const { baseline } = metric;
  if (!baseline) return null;
  const isKnown = metric.value !== null && baseline.value !== null;
  if (baseline.verdict) return { text: isKnown ? stepText(metric) : `${baseline.display} → ${valueText(metric)}`, ...verdictWords(metric) };
  if (!isKnown) return null;
  const difference = metric.value - baseline.value;
  const text = stepText(metric);
  if (difference === 0) return { text, word: 'no change', tone: 'idle' };
  if (!isBeyondChance(metric, baseline)) return { text, word: 'within the interval', tone: 'idle' };
  if ((metric.higher_is_better ?? null) === null) return { text, word: 'changed', tone: 'idle' };
  return metric.higher_is_better === difference > 0
    ? { text, word: 'better', tone: 'good' } : { text, word: 'worse', tone: 'bad' };
}

function stepText(metric) {
  const difference = metric.value - metric.baseline.value;
  return difference === 0 ? '±0' : (difference < 0 ? '−' : '+') + gapText(metric, Math.abs(difference));
}

function verdictWords(metric) {
  const { verdict, test, tolerance, lost, gained } = metric.baseline;
  const pairs = (lost || gained) && `${counted(lost || 0, metric.of || 'sample')} lost, ${gained || 0} gained`;
  const why = [test, pairs].filter(Boolean).join('; ');
  if (verdict === 'worse') return { word: 'worse', tone: 'bad', why };
  if (verdict === 'better') return { word: 'better', tone: 'good', why: 'accept it to make it the new baseline' };
  if (verdict === 'same') return { word: 'no change', tone: 'idle', why: '' };
  if (verdict === 'within the tolerance' && tolerance) {
    return { word: `within the tolerance ${gapText(metric, tolerance)}`, tone: 'idle', why: '' };
  }
  return { word: verdict, tone: 'idle', why };
}

function changeNote(metric) {
  const change = baselineChange(metric);
  if (!change) return null;
  const { display, of } = metric.baseline;
  return element('span', { class: `change tone-${change.tone}`, title: `${of}: ${display}` },
    element('b', {}, change.text), ` since ${of} · `, element('span', { class: 'change-word' }, change.word),
    change.why && `: ${change.why}`);
}

// "0.31 (0.27–0.35) ≥ 0.35"
function metricNumbers(metric) {
  const interval = intervalText(metric);
  return element('span', { class: 'numbers' },
    element('span', { class: 'value' }, valueText(metric)), ' ',
    metric.isBound && element('span', { class: 'bound', title: BOUND_TEXT }, 'bound'), ' ',
    interval && element('span', { class: 'interval', title: '95 % interval' }, interval), ' ',
    metric.thresholds.map((threshold) => [thresholdVerdict(metric, threshold), ' ']).flat(),
    changeNote(metric));
}

// ---- the picture ----

function metricMarks({ value, ci95, thresholds, baseline }) {
  const known = baseline ? [baseline.value, ...(baseline.ci95 || [])] : [];
  return [value, ...(ci95 || []), ...thresholds.map((threshold) => threshold.value), ...known].filter(Number.isFinite);
}

// The metrics' own range where they have one; else from zero. Where that would squeeze the values,
// their thresholds and baselines into one spot, what lies around them is shown larger.
function metricDomain(...metrics) {
  const marks = metrics.flatMap(metricMarks);
  const ends = metrics.flatMap((metric) => metric.range || []);
  const least = Math.min(...marks);
  const most = Math.max(...marks);
  const spread = most - least;
  const range = ends.length > 0 && [Math.min(...ends, least), Math.max(...ends, most)];
  if (!(spread > 0)) return range || null;
  const isPlain = metrics.length === 1 && !metrics[0].thresholds.length && !metrics[0].baseline;
  if (range && (isPlain || spread >= SQUEEZED * (range[1] - range[0]))) return range;
  if (range) return roundedOut(Math.max(range[0], least - 2 * spread), Math.min(range[1], most + 2 * spread), spread);
  const farFromZero = spread < 0.1 * Math.max(Math.abs(least), Math.abs(most));
  if (farFromZero) return roundedOut(least - spread, most + spread, spread);
  return [Math.min(0, least - 0.15 * spread * (least < 0)), Math.max(0, most + 0.15 * spread)];
}

// Ends that can be read: with no more digits than the marks between them need.
function roundedOut(low, high, spread) {
  const step = 10 ** Math.floor(Math.log10(spread));
  const clean = (number) => Number(number.toPrecision(12));
  return [clean(Math.floor(clean(low / step)) * step), clean(Math.ceil(clean(high / step)) * step)];
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
function scaleDrawing(metric, [low, high]) {
  const percent = (value) => `${((value - low) / (high - low)) * 100}%`;
  const band = (className, [from, to], y, height) => {
    const [start, end] = [Math.max(from, low), Math.min(to, high)];
    return svgElement('rect', {
      class: className, x: percent(start), width: `${((end - start) / (high - low)) * 100}%`, y, height, rx: height / 2,
    });
  };
  const passing = passingStretch(metric.thresholds, [low, high]);
  const isDrawn = baselineChange(metric) && metric.baseline.value !== null;
  const baseline = isDrawn && metric.baseline;
  return svgElement('svg', { class: 'axis', height: 24 },
    svgElement('rect', { class: 'track', x: 0, width: '100%', y: 10, height: 4, rx: 2 }),
    passing && band('passing', passing, 10, 4),
    metric.ci95 && band('interval-band', interval(metric), 6, 12),
    baseline && baseline.ci95 && band('baseline-interval', interval(baseline), 11, 2),
    baseline && svgElement('circle', { class: 'baseline-mark', cx: percent(baseline.value), cy: 12, r: 7.5 }),
    metric.thresholds.map(({ value }) =>
      svgElement('line', { class: 'threshold', x1: percent(value), x2: percent(value), y1: 1, y2: 23 })),
    metric.value !== null && svgElement('circle', { class: 'dot', cx: percent(metric.value), cy: 12, r: 5.5 }));
}

// What the marks on the scales mean.
function scaleLegend(metrics) {
  const key = (name, ...shapes) => element('li', {}, svgElement('svg', { width: 22, height: 16, viewBox: '0 4 22 16' }, shapes), name);
  const circle = (className, r) => svgElement('circle', { class: className, cx: 11, cy: 12, r });
  return element('ul', { class: 'legend tone-idle', 'aria-hidden': 'true' },
    key('value', circle('dot', 5.5)),
    metrics.some((metric) => metric.ci95) && key('95 % interval', svgElement('rect', { class: 'interval-band', x: 0, width: 22, y: 6, height: 12, rx: 6 })),
    metrics.some((metric) => metric.thresholds.length) && key('threshold', svgElement('line', { class: 'threshold', x1: 11, x2: 11, y1: 4, y2: 20 })),
    [...new Set(metrics.filter((metric) => baselineChange(metric) && metric.baseline.value !== null).map((metric) => metric.baseline.of))].map((of) =>
      key(of, svgElement('rect', { class: 'baseline-interval', x: 0, width: 22, y: 11, height: 2 }), circle('baseline-mark', 7.5))));
}

function metricScale(metric) {
  const domain = metricDomain(metric);
  if (!domain || domain[0] === domain[1]) return null;
  const { factor, suffix } = notation(metric);
  const endLabel = (value) => element('span', { class: 'end' }, shortNumber(value * factor) + suffix);
  return element('div', { class: `scale tone-${metricTone(metric)}`, 'aria-hidden': 'true' },
    endLabel(domain[0]), scaleDrawing(metric, domain), endLabel(domain[1]));
}
