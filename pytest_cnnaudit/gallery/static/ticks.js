'use strict';
// Round numbers along an axis, how numbers are written, and how much room their text takes.

// ---- where ticks are ----

// 1, 2 or 5 times a power of ten: the smallest such step with which `most` of them cover the span.
function roundStep(span, most) {
  const rough = span / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * (1 - 1e-9));
}

function linearTicks([low, high], most, leastStep = 0) {
  const step = Math.max(roundStep(high - low, most), leastStep);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

// Powers of ten, with 2 and 5 times them or every so many of them, as room allows;
// on a stretch too short for that, round numbers.
function logTicks([low, high], most) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const powers = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const within = (factors, every) => powers.filter((power) => power % every === 0)
    .flatMap((power) => factors.map((factor) => Number(`${factor}e${power}`)))
    .filter((tick) => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
  const candidates = [within([1, 2, 5], 1), ...powers.map((_, index) => within([1], index + 1))];
  const ticks = candidates.find((found) => found.length <= most) || [];
  return ticks.length > 1 ? ticks : linearTicks([low, high], most);
}

// A domain widened to the ticks around it.
function widened([low, high], most, leastStep = 0) {
  const step = Math.max(roundStep(high - low, most), leastStep);
  return [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
}

// ---- how numbers are written ----

// Ticks of one axis have the same number of decimals.
function tickTexts(ticks, isLog) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : Math.abs(ticks[0]) || 1;
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const isExtreme = decimals > 4 || ticks.some((tick) => Math.abs(tick) >= 1e6);
  return ticks.map((tick) => {
    if (isLog || isExtreme) return powerText(tick);
    return tick.toLocaleString('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  });
}

function powerText(number) {
  const size = Math.abs(number);
  return size !== 0 && (size < 1e-3 || size >= 1e5)
    ? number.toExponential().replace('e+', 'e') : Number(number.toPrecision(6)).toLocaleString('en', { maximumFractionDigits: 8 });
}

// To four digits; what is whole, exactly.
function numberText(number, digits = 4) {
  if (!Number.isFinite(number)) return 'not a number';
  if (Number.isInteger(number)) return number.toLocaleString('en');
  return String(Number(number.toPrecision(digits)));
}

// "0.258 (0.190–0.340)": a value and its band to the same decimals.
function bandedText(value, band, digits) {
  if (!band || !band.every(Number.isFinite) || !Number.isFinite(value)) return numberText(value, digits);
  const size = Math.abs(value) || Math.max(...band.map(Math.abs));
  const decimals = size ? Math.min(Math.max(0, digits - 1 - Math.floor(Math.log10(size))), 12) : 0;
  const [middle, low, high] = [value, ...band].map((each) => each.toFixed(decimals));
  return `${middle} (${low}–${high})`;
}

// ---- how much room text takes ----

const ruler = document.createElement('canvas').getContext('2d');

function textWidth(text, weight = 400) {
  ruler.font = `${weight} 12px ${getComputedStyle(document.body).fontFamily}`; // as charts.css has it
  return ruler.measureText(text).width;
}

function shortened(text, room, weight = 400) {
  if (textWidth(text, weight) <= room) return text;
  const letters = [...text.slice(0, 200)];
  while (letters.length > 1 && textWidth(`${letters.join('')}…`, weight) > room) letters.pop();
  return `${letters.join('').trimEnd()}…`;
}
