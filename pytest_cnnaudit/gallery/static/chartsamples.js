'use strict';
// A chart whose bars or points name the samples they count: a click, or Enter, shows these beside it.

const FEW_IDS = 24; // as many are listed without being asked

function namesSamples(chart) {
  return chart.series.some(({ samples }) => samples && samples.some((ids) => ids.length));
}

function chartWithSamples(chart, siblings) {
  const rowOf = rowFinder(siblings);
  const isBars = chart.series.every((series) => series.kind === 'bars');
  const hint = element('p', { class: 'facts' }, `Choose a ${isBars ? 'bar' : 'point'} to see the samples that it counts.`);
  const panel = element('div', { class: 'chart-samples' }, hint);
  const announced = element('p', { class: 'visually-hidden', role: 'status' });
  let canvas = null;
  let open = null; // which datum is: its series and its place in that

  const isOpen = (datum) => open !== null && datum.series === open.series && datum.place === open.place;

  function onDrawn(drawn) {
    canvas = drawn;
    for (const datum of canvas.chartData.filter(({ samples }) => samples.length)) {
      datum.node.setAttribute('role', 'button');
      datum.node.classList.add('has-samples');
    }
    markOpen();
  }

  function markOpen() {
    for (const datum of canvas.chartData.filter(({ samples }) => samples.length)) {
      datum.node.setAttribute('aria-expanded', String(isOpen(datum)));
      datum.node.classList.toggle('is-open-datum', isOpen(datum));
      datum.hint = isOpen(datum) ? 'Click or Enter: close' : `Click or Enter: show ${counted(datum.samples.length, 'sample')}`;
    }
  }

  function choose(datum) {
    if (!datum || !datum.samples.length) return;
    if (isOpen(datum)) return close();
    open = datum;
    const title = samplesTitle(chart, datum);
    panel.replaceChildren(...samplesPanel(title, datum.samples, rowOf, close));
    announced.textContent = title;
    markOpen();
    datum.node.focus({ preventScroll: true });
    focusDatum(canvas, datum.node); // which may have had the focus before, and another hint
  }

  function close() {
    const { node } = canvas.chartData.find(isOpen);
    open = null;
    panel.replaceChildren(hint);
    announced.textContent = '';
    markOpen();
    node.focus({ preventScroll: true });
  }

  const figure = chartFigure(chart, { onDrawn });
  canvas.addEventListener('click', (event) => choose(datumAt(canvas, event)));
  canvas.addEventListener('pointermove', (event) => canvas.classList.toggle('is-over-samples', Boolean(datumAt(canvas, event)?.samples.length)));
  canvas.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    choose(canvas.chartData.find(({ node }) => node === event.target));
  });
  return element('div', {
    class: 'chart-with-samples',
    onkeydown: (event) => {
      if (event.key !== 'Escape' || !open) return;
      event.stopPropagation(); // the page's own Escape leads back to all tests
      close();
    },
  }, figure, element('div', {}, announced, panel));
}

function samplesTitle(chart, { series, place, samples }) {
  const of = chart.series[series];
  const where = of.kind === 'bars' ? `with ${chart.x} ${binText(binsOf(of, chart.log_x)[place])}` : `at ${chart.x} ${numberText(of.x[place], 6)}`;
  return `${chart.series.length > 1 ? `${seriesName(chart, of)}: ` : ''}${counted(samples.length, 'sample')} ${where}`;
}

// Finds the row that shows a sample, with its exhibit: the one of all samples is asked first.
function rowFinder(siblings) {
  const shown = siblings.filter(({ kind }) => kind !== 'chart' && kind !== 'table');
  const places = new Map();
  for (const exhibit of [...shown].sort((one, other) => (other.kind === 'samples') - (one.kind === 'samples'))) {
    for (const row of exhibit.rows) if (row.pictures.length && !places.has(row.title)) places.set(row.title, { row, exhibit });
  }
  return (id) => places.get(id);
}

function samplesPanel(title, ids, rowOf, close) {
  const found = ids.map(rowOf).filter(Boolean);
  const missing = ids.filter((id) => !rowOf(id));
  return [
    element('header', {},
      element('h4', {}, title),
      element('button', { class: 'close-samples', type: 'button', 'aria-label': 'Close these samples', title: 'Close (Escape)', onclick: close }, '✕')),
    found.length > 0 && tilesOf(title, found),
    missing.length > 0 && element('details', { class: 'samples-unseen', open: missing.length <= FEW_IDS },
      element('summary', {}, found.length ? `No picture is kept of ${missing.length.toLocaleString('en')} more` : 'No picture is kept of these'),
      element('ul', {}, missing.map((id) => element('li', {}, breakable(id))))),
  ].filter(Boolean);
}

// The columns have names where all rows come from one exhibit.
function tilesOf(title, found) {
  const [{ exhibit }] = found;
  const isOne = found.every((each) => each.exhibit === exhibit);
  const shown = { ...exhibit, kind: 'samples', title, columns: isOne ? exhibit.columns : [], rows: found.map(({ row }) => row) };
  const { list, more, show } = rowList(shown);
  const tiles = element('div', {}, list, more);
  fitPictures(tiles, shown);
  show(shown.rows);
  return tiles;
}
