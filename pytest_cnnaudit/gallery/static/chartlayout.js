'use strict';
// What of a chart there is to draw, and where: its bins and points, the stretch of each axis, ticks and labels.

const LEAST_HEIGHT = 250;
const MOST_HEIGHT = 330;
const BOLD = 600; // the weight of a mark's label

// ---- what there is to draw ----

// The bins of a histogram, each with its drawn `start` and `end`. One that is open at its end
// is as wide as the one before, and apart from it by half that.
function binsOf({ edges, counts }, isLog) {
  return counts.map((count, index) => {
    const [before, from, to] = [edges[index - 1] ?? null, edges[index], edges[index + 1]];
    const isOpen = to === null && from !== null && index === counts.length - 1;
    if (!isOpen) return { index, from, to, count, isOpen, start: from, end: to };
    const beyond = (widths) => (isLog ? from * ((from / (before ?? from / 2)) ** widths) : from + (from - (before ?? from - 1)) * widths);
    return { index, from, to, count, isOpen, start: beyond(0.5), end: beyond(1.5) };
  });
}

function hasPlace(chart, x) {
  return Number.isFinite(x) && (!chart.log_x || x > 0);
}

function pointsOf(chart, series) {
  return series.x.map((x, index) => ({
    index,
    x,
    y: series.y[index],
    band: series.low && [series.low[index], series.high[index]].every(Number.isFinite)
      ? [series.low[index], series.high[index]] : null,
  })).map((point) => ({ ...point, isDrawn: hasPlace(chart, point.x) && Number.isFinite(point.y) }));
}

function drawnBins(chart, series) {
  return binsOf(series, chart.log_x).filter(({ start, end, count }) =>
    hasPlace(chart, start) && hasPlace(chart, end) && Number.isFinite(count));
}

function undrawnNote(chart) {
  if (!chart.log_x) return '';
  const isLost = (x) => Number.isFinite(x) && x <= 0;
  const lost = chart.series.flatMap((series) => (series.kind === 'bars' ? series.edges.slice(0, -1) : series.x)).filter(isLost);
  if (!lost.length) return '';
  return `${counted(lost.length, undrawnNoun(chart))} at or below zero, for which a logarithmic axis has no place, ${lost.length === 1 ? 'is' : 'are'} in the numbers only.`;
}

function undrawnNoun(chart) {
  return chart.series.every((series) => series.kind === 'bars') ? 'bin' : 'point';
}

function chartDomains(chart) {
  const xs = [...chart.x_marks.map(({ at }) => at).filter((at) => hasPlace(chart, at)), ...(chart.x_range || [])];
  const ys = [...chart.y_marks.map(({ at }) => at), ...(chart.y_range || [])];
  for (const series of chart.series) {
    if (series.kind === 'bars') {
      for (const { start, end, count } of drawnBins(chart, series)) { xs.push(start, end); ys.push(0, count); }
    } else {
      for (const { x, y, band, isDrawn } of pointsOf(chart, series)) if (isDrawn) { xs.push(x); ys.push(y, ...(band || [])); }
    }
  }
  const extent = (values) => {
    const finite = values.filter(Number.isFinite);
    return finite.length ? [finite.reduce((a, b) => Math.min(a, b)), finite.reduce((a, b) => Math.max(a, b))] : null;
  };
  return { x: extent(xs), y: extent(ys) };
}

// Zero belongs to the picture, unless that would flatten it.
function withZero([low, high]) {
  return high - low < 0.1 * Math.max(Math.abs(low), Math.abs(high)) ? [low, high] : [Math.min(0, low), Math.max(0, high)];
}

function withExtent([low, high], isLog) {
  if (low < high) return [low, high];
  if (isLog) return [low / 2, high * 2];
  return low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
}

// ---- where it is drawn ----

function chartLayout(chart, width) {
  const domains = chartDomains(chart);
  if (!domains.x || !domains.y) return null;
  const height = Math.round(Math.min(Math.max(width / 2, LEAST_HEIGHT), MOST_HEIGHT));
  const isCount = chart.series.every((series) => series.kind === 'bars' && series.counts.every(Number.isInteger));
  const mostRows = Math.round(height / 50);
  const yDomain = widened(withExtent(chart.y_range ? domains.y : withZero(domains.y)), mostRows, isCount ? 1 : 0);
  const yTicks = linearTicks(yDomain, mostRows, isCount ? 1 : 0);
  const yTexts = tickTexts(yTicks);
  const left = Math.ceil(Math.max(...yTexts.map((text) => textWidth(text)))) + 10;
  const xDomain = withExtent(domains.x, chart.log_x);
  const { ticks: xTicks, texts: xTexts } = chart.x_names
    ? namedTicks(chart.x_names, width - left) : fittingTicks(xDomain, chart.log_x, width - left);
  const right = Math.round(width - Math.max(12, textWidth(xTexts.at(-1) || '') / 2 + 2));
  const x = scaleBetween(xDomain, left + 8, right - 8, chart.log_x); // first and last points stand clear of the ends
  const labels = topLabels(chart, width, x);
  const xLabels = withOpenEnd(chart, x, xTicks.map((tick, index) => ({ at: x(tick), text: xTexts[index] })));
  const top = 14 + labels.rows * 18;
  const bottom = top + height - 80;
  const y = scaleBetween(yDomain, bottom, top);
  return { width, height: bottom + 46, left, right, top, bottom, x, y, xLabels, yTicks, yTexts, labels };
}

// As many ticks as have room for their texts.
function fittingTicks(domain, isLog, room) {
  for (let most = Math.max(2, Math.floor(room / 48)); ; most -= 1) {
    const ticks = isLog ? logTicks(domain, most) : linearTicks(domain, most);
    const texts = tickTexts(ticks, isLog);
    const widest = texts.reduce((most, text) => Math.max(most, textWidth(text)), 0);
    if (most === 2 || ticks.length * (widest + 20) <= room) return { ticks, texts };
  }
}

// Places on an axis may have names instead of numbers, `x_names`: as many as have room, the last among them.
function namedTicks(names, room) {
  const widest = names.reduce((most, name) => Math.max(most, textWidth(name)), 0);
  const every = Math.max(1, Math.ceil(names.length / Math.max(1, Math.floor(room / (widest + 20)))));
  const ticks = [...names.keys()].filter((place) => (names.length - 1 - place) % every === 0);
  return { ticks, texts: ticks.map((place) => names[place]) };
}

function placeText(chart, x) {
  return chart.x_names ? chart.x_names[x] : numberText(x, 6);
}

// An open-ended bin has no place on the axis but a name: "≥ 1.6". Ticks that it displaces go.
function withOpenEnd(chart, x, ticks) {
  const open = chart.series.filter((series) => series.kind === 'bars').flatMap((series) => drawnBins(chart, series)).find((bin) => bin.isOpen);
  if (!open) return ticks;
  const end = { at: (x(open.start) + x(open.end)) / 2, text: `≥ ${numberText(open.from)}` };
  const room = (tick) => end.at - tick.at - (textWidth(end.text) + textWidth(tick.text)) / 2;
  return [...ticks.filter((tick) => tick.at <= x(open.from) + 1 && room(tick) > 14), end];
}

function scaleBetween([low, high], start, end, isLog = false) {
  const position = isLog ? Math.log : Number;
  const [from, to] = [position(low), position(high)];
  return (value) => start + ((position(value) - from) / (to - from)) * (end - start);
}

// The y axis's name and the labels of vertical marks share the lines above the plot.
function topLabels(chart, width, x) {
  const name = shortened(chart.y, width - 8);
  const taken = [[[0, textWidth(name) + 8]]];
  const marks = chart.x_marks.filter(({ at }) => hasPlace(chart, at)).sort((one, other) => one.at - other.at).map((each) => {
    const text = shortened(each.label, width * 0.7, BOLD);
    const half = textWidth(text, BOLD) / 2;
    const centre = Math.min(Math.max(x(each.at), half + 2), width - half - 2);
    const isFree = (row) => row.every(([from, to]) => centre + half + 8 < from || centre - half - 8 > to);
    let row = taken.findIndex(isFree);
    if (row < 0) row = taken.push([]) - 1;
    taken[row].push([centre - half, centre + half]);
    return { ...each, text, centre, half, row };
  });
  return { name, marks, rows: taken.length };
}
