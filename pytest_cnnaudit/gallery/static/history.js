'use strict';
// A metric over the runs of the history: a small line on its card, and charts of a measurement's metrics.

const LINE_WIDTH = 96;
const LINE_HEIGHT = 22;
const METRICS_A_CHART = 4; // more lines cannot be told apart

function hasHistory({ history }) {
  return Boolean(history) && history.length > 1;
}

function historyEnds({ ci95 }) {
  return ci95 && [ci95[0] ?? NaN, ci95[1] ?? NaN];
}

// ---- on the card ----

// It opens the charts of its measurement.
function historyButton(metric) {
  if (!hasHistory(metric)) return null;
  const { history } = metric;
  const said = `${metric.name} over ${counted(history.length, 'run')}, from ${history[0].display} to ${history.at(-1).display}: show the chart`;
  return element('button', { class: `history-button tone-${metricTone(metric)}`, type: 'button', 'aria-label': said, title: said, onclick: openHistory },
    historyLine(metric), element('span', { 'aria-hidden': 'true' }, counted(history.length, 'run')));
}

function openHistory({ currentTarget }) {
  const details = currentTarget.closest('.measurement').querySelector('.history');
  details.open = true;
  details.scrollIntoView({ block: 'nearest' });
  details.querySelector('summary').focus();
}

function historyLine({ history, thresholds }) {
  const points = history.map((point, place) => ({ place, y: point.value, band: historyEnds(point) }));
  const bands = points.flatMap(({ band }) => band || []);
  const limits = thresholds.map(({ value }) => value);
  const marks = [...points.map(({ y }) => y), ...bands, ...limits].filter(Number.isFinite);
  if (!marks.length) return null;
  const x = scaleBetween([0, history.length - 1], 4, LINE_WIDTH - 5);
  const y = scaleBetween(withExtent([Math.min(...marks), Math.max(...marks)]), LINE_HEIGHT - 4, 4);
  const lines = runsOf(points, (point) => Number.isFinite(point.y));
  const banded = runsOf(points, ({ band }) => band && band.every(Number.isFinite)).filter((run) => run.length > 1);
  const last = points.at(-1);
  return svgElement('svg', { class: 'history-line', width: LINE_WIDTH, height: LINE_HEIGHT, viewBox: `0 0 ${LINE_WIDTH} ${LINE_HEIGHT}`, 'aria-hidden': 'true' },
    banded.map((run) => svgElement('path', { class: 'interval-band', d: `M${joined([
      ...run.map(({ place, band }) => [x(place), y(band[1])]), ...[...run].reverse().map(({ place, band }) => [x(place), y(band[0])]),
    ])}Z` })),
    limits.map((limit) => svgElement('line', { class: 'history-limit', x1: 0, x2: LINE_WIDTH, y1: y(limit), y2: y(limit) })),
    svgElement('path', { class: 'history-path', d: lines.map((run) => `M${joined(run.map((point) => [x(point.place), y(point.y)]))}`).join('') }),
    Number.isFinite(last.y) && svgElement('circle', { class: 'dot', cx: x(last.place), cy: y(last.y), r: 3.5 }));
}

// ---- charts under the metrics ----

function historySection(metrics) {
  const told = metrics.filter(hasHistory);
  if (!told.length) return null;
  const longest = told.reduce((most, { history }) => (history.length > most.length ? history : most), told[0].history);
  return element('details', { class: 'history' },
    element('summary', {}, 'Over time: ', element('span', { class: 'count' }, `${counted(longest.length, 'run')} since ${timeText(longest[0].started).slice(0, 10)}`)),
    element('p', { class: 'how-to-read' }, howToReadHistory(told)),
    element('ul', { class: 'small-multiples' }, historyGroups(told).map((group) =>
      element('li', {}, chartFigure(historyChart(group), { numbers: historyNumbers })))));
}

function howToReadHistory(metrics) {
  const points = metrics.flatMap(({ history }) => history);
  return ['The runs in their order, evenly spaced whatever the time between them.',
    points.some(({ ci95 }) => ci95) && 'The band is the 95 % interval.',
    metrics.some(({ thresholds }) => thresholds.length) && 'The dashed line is what this run’s threshold asks.',
    points.some(isShort) && 'A hollow point: the test did not pass then.',
    points.some(({ complete }) => complete === false) && 'Where the numbers say “bound”, a run stopped early, when the verdict was certain.',
  ].filter(Boolean).join(' ');
}

function isShort({ outcome }) {
  return outcome !== 'passed';
}

function outcomeLabel(outcome) {
  return (OUTCOMES[outcome] || { label: outcome }).label; // a later version may know more of them
}

// Metrics of one range share a chart; those without one may be of any size.
function historyGroups(metrics) {
  const alike = Map.groupBy(metrics, (metric) => (metric.range ? JSON.stringify([metric.unit, metric.range]) : metric));
  return [...alike.values()].flatMap((group) => (group.length <= METRICS_A_CHART ? [group] : group.map((metric) => [metric])));
}

function historyChart(metrics) {
  const runs = new Map(metrics.flatMap(({ history }) => history.map((point) => [point.run, point])));
  const order = [...runs.keys()].sort((one, other) => one - other);
  const places = new Map(order.map((run, place) => [run, place]));
  const [{ name: alone, unit }] = metrics;
  const isAlone = metrics.length === 1;
  const end = (side) => ({ ci95 }) => (ci95 ? ci95[side] : null);
  return {
    title: `${metrics.map(({ name }) => name).join(', ')} over time`,
    x: 'run',
    y: isAlone ? [alone, unit && `(${unit})`].filter(Boolean).join(' ') : unit || 'value',
    x_names: runNames(order.map((run) => runs.get(run).started)),
    runs: order.map((run) => runs.get(run)),
    series: metrics.map(({ name, history }) => ({
      kind: 'line',
      name: isAlone ? '' : name,
      x: history.map(({ run }) => places.get(run)),
      y: history.map(({ value }) => value),
      low: history.map(end(0)),
      high: history.map(end(1)),
      remarks: history.map(({ outcome, commit }) => [outcomeLabel(outcome), commit && `commit ${commit}`].filter(Boolean)),
      hollow: history.map(isShort),
      history,
    })),
    x_marks: [],
    y_marks: metrics.flatMap((metric) => metric.thresholds.map((threshold) => ({
      at: threshold.value, label: [!isAlone && metric.name, thresholdText(metric, threshold)].filter(Boolean).join(' '),
    }))),
    log_x: false,
    y_range: null,
  };
}

// The date alone where that tells the runs apart.
function runNames(times) {
  const texts = times.map(timeText);
  const dates = texts.map((text) => text.slice(0, 10));
  return new Set(dates).size === dates.length ? dates : texts;
}

function historyNumbers({ runs, series, y }) {
  const cell = (point) => (point ? [point.display, intervalText({ ...point, unit: '' }), point.complete === false && '(bound)'].filter(Boolean).join(' ') : '');
  const rows = runs.map((run) => {
    const points = series.map(({ history }) => history.find((point) => point.run === run.run));
    return [timeText(run.started), ...points.map(cell), outcomeLabel(run.outcome), run.commit || 'not known'];
  });
  return element('details', { class: 'chart-numbers' },
    element('summary', {}, 'The numbers'),
    dataTable(['run', ...series.map(({ name }) => name || y), 'test', 'commit'], rows.reverse()));
}
