'use strict';
// Reading a chart: by pointer, by keyboard (a chart is one stop for Tab, arrows move inside),
// and as a table of its numbers.

const REACH = 48; // pixels between the pointer and the point it means

function listenToChart(canvas) {
  canvas.addEventListener('pointermove', (event) => pointAt(canvas, event));
  canvas.addEventListener('pointerdown', (event) => pointAt(canvas, event));
  canvas.addEventListener('pointerleave', (event) => { if (event.pointerType !== 'touch') leaveChart(canvas); });
  canvas.addEventListener('focusin', (event) => focusDatum(canvas, event.target));
  canvas.addEventListener('focusout', () => leaveChart(canvas));
  canvas.addEventListener('keydown', (event) => moveInChart(canvas, event));
}

// A finger leaves no pointer behind that could move away: the next touch elsewhere ends the reading.
window.addEventListener('pointerdown', (event) => {
  const active = document.querySelector('.chart-point.is-active');
  if (active && !event.target.closest('.chart-canvas')) leaveChart(active.closest('.chart-canvas'));
});

// Scrolling hides the tooltip; what the keyboard has brought into view is still being read.
window.addEventListener('scroll', () => {
  const canvas = document.activeElement.closest('.chart-canvas');
  if (canvas) focusDatum(canvas, document.activeElement);
}, { passive: true });

function showDatum(canvas, datum) {
  leaveChart(canvas);
  datum.node.classList.add('is-active');
  const [title, ...lines] = datum.lines;
  showTooltip(datum.anchor, { title }, ...lines, ...(datum.hint ? [datum.hint] : []));
}

function leaveChart(canvas) {
  for (const active of canvas.querySelectorAll('.is-active')) active.classList.remove('is-active');
  hideTooltip();
}

function pointAt(canvas, event) {
  const datum = datumAt(canvas, event);
  if (datum) showDatum(canvas, datum);
  else leaveChart(canvas);
}

// A bar is meant anywhere in its column; a point, from near it.
function datumAt(canvas, event) {
  const svg = canvas.querySelector('svg');
  if (!svg) return null;
  const frame = svg.getBoundingClientRect();
  const scale = svg.viewBox.baseVal.width / frame.width;
  const [x, y] = [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
  const distance = (datum) => (datum.isBar && datum.left <= x && x <= datum.right
    ? Math.max(0, datum.y - y) / 10 : Math.hypot(datum.x - x, datum.y - y));
  const nearest = canvas.chartData.reduce((best, datum) => (!best || distance(datum) < distance(best) ? datum : best), null);
  return nearest && distance(nearest) < REACH ? nearest : null;
}

function focusDatum(canvas, target) {
  const datum = canvas.chartData.find(({ node }) => node === target);
  if (!datum) return;
  for (const { node } of canvas.chartData) node.setAttribute('tabindex', node === target ? '0' : '-1');
  showDatum(canvas, datum);
}

// Left and right along a series, up and down to the other series at the nearest place.
function moveInChart(canvas, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const data = canvas.chartData;
  const current = data.find(({ node }) => node === event.target);
  const along = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  const across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!current || !(along || across)) return;
  event.preventDefault();
  event.stopPropagation(); // the page's own arrows lead to other tests
  if (along) {
    const siblings = data.filter(({ series }) => series === current.series);
    const wanted = siblings.indexOf(current) + along;
    siblings[Math.min(Math.max(wanted, 0), siblings.length - 1)].node.focus();
    return;
  }
  const drawn = [...new Set(data.map(({ series }) => series))];
  const other = drawn[drawn.indexOf(current.series) + across];
  const nearest = data.filter(({ series }) => series === other)
    .reduce((best, each) => (!best || Math.abs(each.x - current.x) < Math.abs(best.x - current.x) ? each : best), null);
  if (nearest) nearest.node.focus();
}

// ---- the numbers as tables ----

function chartNumbers(chart) {
  const lines = chart.series.filter((series) => series.kind !== 'bars');
  const bars = chart.series.filter((series) => series.kind === 'bars');
  const marks = [...chart.x_marks.map((each) => [each.label, chart.x, each.at]), ...chart.y_marks.map((each) => [each.label, chart.y, each.at])];
  return element('details', { class: 'chart-numbers' },
    element('summary', {}, 'The numbers'),
    lines.length > 0 && numbersTable(chart, chart.x, lineRows(chart, lines), lines),
    groupedByEdges(bars).map((group) => numbersTable(chart, chart.x, binRows(group, chart.log_x), group)),
    marks.length > 0 && dataTable(['mark', 'axis', 'at'], marks.map(([label, axis, at]) => [label, axis, numberText(at, 6)])));
}

function numbersTable(chart, name, rows, columns) {
  const headings = columns.length === 1 && !columns[0].name ? [chart.y] : columns.map((series) => seriesName(chart, series));
  return dataTable([name, ...headings], rows);
}

// One row for each x that any of the lines has.
function lineRows(chart, lines) {
  const xs = [...new Set(lines.flatMap((line) => line.x))].sort((one, other) => one - other);
  const cells = lines.map((line) => {
    const points = new Map(line.x.map((x, index) => [x, index]));
    return (x) => (points.has(x) ? pointText(line, points.get(x)) : '');
  });
  return xs.map((x) => [placeText(chart, x), ...cells.map((cell) => cell(x))]);
}

function pointText(line, index) {
  return bandedText(line.y[index], line.low && [line.low[index], line.high[index]], 4);
}

function groupedByEdges(bars) {
  const groups = new Map();
  for (const series of bars) groups.set(String(series.edges), [...(groups.get(String(series.edges)) || []), series]);
  return [...groups.values()];
}

function binRows(group, isLog) {
  return binsOf(group[0], isLog).map((bin, index) => [binText(bin), ...group.map((series) => numberText(series.counts[index]))]);
}
