'use strict';
// Draws a chart: lines with their bands, or bars, over a pair of axes. It is drawn anew for
// every width, so that its text keeps its size; its numbers are also in a table under it.

const DENSE = 48; // points, beyond which only the one in focus is drawn
const SERIES_COLOURS = 6; // as many as style the classes series-0, series-1, …
const POINT_SHAPES = [
  (x, y) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z`,
  (x, y) => `M${x - 3.6} ${y - 3.6}h7.2v7.2h-7.2Z`,
  (x, y) => `M${x} ${y - 4.8}l4.8 8.4h-9.6Z`,
  (x, y) => `M${x} ${y - 5.2}l5.2 5.2l-5.2 5.2l-5.2 -5.2Z`,
];

function chartSection(chart, siblings) {
  return element('section', { class: 'exhibit exhibit-chart' },
    element('h3', {}, chart.title),
    chart.text && element('p', { class: 'how-to-read' }, chart.text),
    namesSamples(chart) ? chartWithSamples(chart, siblings) : chartFigure(chart));
}

// `onDrawn` is told of the canvas whenever it has been drawn anew; `numbers` makes the table under it.
function chartFigure(chart, { onDrawn = () => {}, numbers = chartNumbers } = {}) {
  const canvas = element('div', { class: 'chart-canvas' });
  const draw = (width) => {
    const focused = [...canvas.querySelectorAll('.chart-point')].indexOf(document.activeElement);
    const { svg, data } = chartDrawing(chart, width);
    canvas.replaceChildren(svg);
    canvas.chartData = data;
    if (data[0]) data[0].node.setAttribute('tabindex', '0');
    onDrawn(canvas);
    if (focused >= 0) data[focused].node.focus();
  };
  draw(640);
  drawToFit(canvas, draw);
  listenToChart(canvas);
  const undrawn = undrawnNote(chart);
  return element('figure', { class: 'chart' },
    chart.series.length > 1 && chartLegend(chart),
    canvas,
    undrawn && element('p', { class: 'facts' }, undrawn),
    numbers(chart));
}

function drawToFit(canvas, draw) {
  let drawn = 0;
  new ResizeObserver(([entry]) => requestAnimationFrame(() => {
    const width = Math.round(entry.contentRect.width);
    if (width < 120 || width === drawn) return;
    drawn = width;
    draw(width);
  })).observe(canvas);
}

function seriesName(chart, series) {
  return series.name || chart.y;
}

function chartLegend(chart) {
  return element('ul', { class: 'chart-legend' }, chart.series.map((series, index) => element('li', {},
    svgElement('svg', { class: `swatch series-${index % SERIES_COLOURS}`, viewBox: '0 0 24 12', 'aria-hidden': 'true' },
      series.kind === 'bars'
        ? svgElement('rect', { class: 'chart-bar', x: 5, y: 0, width: 14, height: 12, rx: 2 })
        : [svgElement('path', { class: 'chart-line', d: 'M0 6H24' }), pointShape(index, 12, 6)]),
    element('span', {}, seriesName(chart, series)))));
}

function pointShape(index, x, y) {
  return svgElement('path', { class: 'chart-dot', d: POINT_SHAPES[index % POINT_SHAPES.length](x, y) });
}

// ---- the drawing ----

function chartDrawing(chart, width) {
  const layout = chartLayout(chart, width);
  if (!layout) {
    return { svg: element('p', { class: 'facts' }, 'There is no finite number to draw.'), data: [] };
  }
  const data = chart.series.flatMap((series, index) =>
    (series.kind === 'bars' ? barData : pointData)(chart, layout, series, index));
  const svg = svgElement('svg', { class: 'chart-drawing', viewBox: `0 0 ${layout.width} ${layout.height}`, role: 'group' },
    svgElement('title', {}, chart.title),
    svgElement('desc', {}, chartDescription(chart)),
    chartAxes(chart, layout),
    chart.series.map((series, index) => series.kind !== 'bars' && bandPath(chart, layout, series, index)),
    chart.series.map((series, index) => series.kind !== 'bars' && linePath(chart, layout, series, index)),
    data.filter(({ isBar }) => isBar).map(({ node }) => node),
    verticalMarks(layout),
    horizontalMarks(chart, layout, data),
    data.filter(({ isBar }) => !isBar).map(({ node }) => node));
  return { svg, data };
}

function chartAxes(chart, { left, right, bottom, width, y, xLabels, yTicks, yTexts, labels }) {
  return svgElement('g', { 'aria-hidden': 'true' },
    yTicks.map((tick, index) => [
      svgElement('line', { class: 'chart-grid', x1: left, x2: right, y1: y(tick), y2: y(tick) }),
      svgElement('text', { class: 'chart-tick', x: left - 8, y: y(tick) + 4, 'text-anchor': 'end' }, yTexts[index]),
    ]).flat(),
    svgElement('line', { class: 'chart-axis', x1: left, x2: right, y1: bottom, y2: bottom }),
    xLabels.map(({ at, text }) => [
      svgElement('line', { class: 'chart-axis', x1: at, x2: at, y1: bottom, y2: bottom + 5 }),
      svgElement('text', { class: 'chart-tick', x: Math.max(at, textWidth(text) / 2), y: bottom + 19, 'text-anchor': 'middle' }, text),
    ]).flat(),
    svgElement('text', { class: 'chart-name', x: 0, y: 12 }, labels.name),
    svgElement('text', { class: 'chart-name', x: right, y: bottom + 39, 'text-anchor': 'end' }, shortened(chart.x, width - 16)));
}

// Points apart by one that has no place are not joined.
function runsOf(points, isIn) {
  const runs = [[]];
  for (const point of points) {
    if (isIn(point)) runs.at(-1).push(point);
    else if (runs.at(-1).length) runs.push([]);
  }
  return runs.filter((run) => run.length);
}

function joined(pairs) {
  return pairs.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join('L');
}

function linePath(chart, { x, y }, series, index) {
  const runs = runsOf(pointsOf(chart, series), (point) => point.isDrawn);
  return svgElement('path', { class: `chart-line series-${index % SERIES_COLOURS}`, 'aria-hidden': 'true',
    d: runs.map((run) => `M${joined(run.map((point) => [x(point.x), y(point.y)]))}`).join('') });
}

function bandPath(chart, { x, y }, series, index) {
  const runs = runsOf(pointsOf(chart, series), (point) => point.isDrawn && point.band);
  if (!runs.length) return null;
  const across = (run) => (run.length > 1 ? run.map((point) => [x(point.x), point.band]) // a lone point's band is a bar
    : [[x(run[0].x) - 3, run[0].band], [x(run[0].x) + 3, run[0].band]]);
  const outline = (run) => [
    ...across(run).map(([left, band]) => [left, y(band[1])]),
    ...across(run).reverse().map(([left, band]) => [left, y(band[0])]),
  ];
  return svgElement('path', { class: `chart-band series-${index % SERIES_COLOURS}`, 'aria-hidden': 'true',
    d: runs.map((run) => `M${joined(outline(run))}Z`).join('') });
}

function binText({ from, to, isOpen }) {
  return isOpen ? `${numberText(from, 4)} and more` : `${numberText(from, 4)} to ${numberText(to, 4)}`;
}

// What the keyboard and the pointer find: a node with its place, its words, and the ids of the samples it counts.
function datum(chart, series, index, place, lines, children) {
  const said = chart.series.length > 1 ? [seriesName(chart, series), ...lines] : lines;
  const node = svgElement('g', {
    class: `chart-point series-${index % SERIES_COLOURS}`, tabindex: '-1', role: 'img',
    'aria-label': said.join(' · '),
  }, children);
  return { node, lines: said, series: index, place, samples: (series.samples && series.samples[place]) || [] };
}

function pointData(chart, { x, y }, series, index) {
  const points = pointsOf(chart, series).filter((point) => point.isDrawn);
  return points.map((point) => {
    const [left, top] = [x(point.x), y(point.y)];
    const remarks = series.remarks ? series.remarks[point.index] : [];
    const lines = [`${chart.y} ${bandedText(point.y, point.band, 3)}`, `${chart.x} ${placeText(chart, point.x)}`, ...remarks];
    const shape = pointShape(index, left, top);
    const isHollow = Boolean(series.hollow && series.hollow[point.index]);
    shape.classList.toggle('is-hollow', isHollow);
    shape.classList.toggle('is-dense', points.length > DENSE && !isHollow);
    const ring = svgElement('circle', { class: 'chart-ring', cx: left, cy: top, r: 9 });
    return { ...datum(chart, series, index, point.index, lines, [ring, shape]), x: left, y: top, anchor: ring };
  });
}

function barData(chart, { x, y, top, bottom }, series, index) {
  return drawnBins(chart, series).map((bin) => {
    const apart = x(bin.end) - x(bin.start) > 5 ? 0.75 : 0;
    const [left, right] = [x(bin.start) + apart, x(bin.end) - apart];
    const [high, low] = [Math.min(y(bin.count), y(0)), Math.max(y(bin.count), y(0))];
    const lines = [`${chart.y} ${numberText(bin.count)}`, `${chart.x} ${binText(bin)}`];
    const box = { x: left, width: Math.max(right - left, 0.5) };
    const bar = svgElement('rect', { class: `chart-bar ${bin.isOpen ? 'is-open' : ''}`, ...box, y: high, height: low - high });
    const column = svgElement('rect', { class: 'chart-column', ...box, y: top, height: bottom - top });
    return { ...datum(chart, series, index, bin.index, lines, [column, bar]), x: (left + right) / 2, y: high, left, right, isBar: true, anchor: bar };
  });
}

// ---- marks ----

// Dashes, and a pale line under them that keeps them legible on bars.
function markLine(ends) {
  return ['chart-mark-ground', 'chart-mark'].map((name) => svgElement('line', { class: name, ...ends }));
}

function verticalMarks({ labels, x, bottom }) {
  const lines = labels.marks.flatMap(({ at, row }) => markLine({ x1: x(at), x2: x(at), y1: 12 + row * 18 + 6, y2: bottom }));
  const texts = labels.marks.flatMap(({ text, centre, half, row }) => [ // on ground that lines of labels above stop at
    svgElement('rect', { class: 'chart-label-ground', x: centre - half - 3, width: half * 2 + 6, y: row * 18 - 2, height: 20 }),
    svgElement('text', { class: 'chart-mark-label', x: centre, y: 12 + row * 18, 'text-anchor': 'middle' }, text),
  ]);
  return svgElement('g', { 'aria-hidden': 'true' }, lines, texts);
}

// The label of a horizontal mark stands at that end and side of it which has the least data.
function horizontalMarks(chart, { left, right, top, y }, data) {
  const placed = [];
  const marks = chart.y_marks.filter(({ at }) => Number.isFinite(at)).map(({ at, label }) => {
    const text = shortened(label, (right - left) * 0.6, BOLD);
    const width = textWidth(text, BOLD);
    const places = [-6, 15].flatMap((offset) => [right - width - 4, left + 8].map((x) => ({ x, baseline: y(at) + offset })));
    const crowd = (place) => data.filter((each) => each.x > place.x - 12 && each.x < place.x + width + 12
      && (each.isBar ? each.y < place.baseline : Math.abs(each.y - place.baseline + 5) < 18)).length
      + (place.baseline - 12 < top ? 100 : 0)
      + (placed.some((other) => Math.abs(other.x - place.x) < 60 && Math.abs(other.baseline - place.baseline) < 16) ? 200 : 0);
    const place = places.reduce((best, each) => (crowd(each) < crowd(best) ? each : best));
    placed.push(place);
    return [
      markLine({ x1: left, x2: right, y1: y(at), y2: y(at) }),
      svgElement('text', { class: 'chart-mark-label', x: place.x, y: place.baseline }, text),
    ];
  });
  return svgElement('g', { 'aria-hidden': 'true' }, marks.flat(2));
}

// ---- without axes, for the overview ----

function chartThumbnail(chart) {
  const domains = chartDomains(chart);
  if (!domains.x || !domains.y) return null;
  const [width, height] = [242, 56];
  const x = scaleBetween(withExtent(domains.x, chart.log_x), 2, width - 2, chart.log_x);
  const y = scaleBetween(withExtent(chart.y_range ? domains.y : withZero(domains.y)), height - 2, 2);
  const layout = { x, y, top: 0, bottom: height };
  return element('div', { class: 'thumbnails' },
    svgElement('svg', { class: 'thumbnail-chart', viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' },
      svgElement('line', { class: 'chart-axis', x1: 0, x2: width, y1: height - 1, y2: height - 1 }),
      chart.series.map((series, index) => (series.kind === 'bars'
        ? barData(chart, layout, series, index).map(({ anchor }) => svgElement('g', { class: `series-${index % SERIES_COLOURS}` }, anchor))
        : [bandPath(chart, layout, series, index), linePath(chart, layout, series, index)])).flat()));
}

// ---- in words ----

function chartDescription(chart) {
  const series = chart.series.map((each) => `${seriesName(chart, each)}: ${each.kind === 'bars'
    ? counted(each.counts.length, 'bin') : counted(each.x.length, 'point')}`);
  const marks = [...chart.x_marks.map((each) => markText(each, chart.x)), ...chart.y_marks.map((each) => markText(each, chart.y))];
  return [`${chart.y} over ${chart.x}`, series.join(', '), ...marks].join('. ') + '.';
}

function markText({ at, label }, axis) {
  return `${label} at ${axis} ${at === null ? 'not a number' : numberText(at)}`;
}
