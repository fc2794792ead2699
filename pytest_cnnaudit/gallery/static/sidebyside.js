'use strict';
// The same test on several models: one column each, so that their figures and filters can be compared
// at a glance; their charts over one another or side by side, their tables as one.

const TILES_SHOWN = 64;

function sideBySide(test, tests) {
  const columns = tests.filter((other) => other.measurements.length > 0 && isSameTest(other, test));
  if (columns.length < 2) return null;
  return element('section', { class: 'side-by-side' },
    element('h2', {}, 'Side by side'),
    element('ul', { class: 'columns' }, columns.map((other) => sideColumn(other, other === test))),
    sharedExhibits(columns).map((group) => (group[0].exhibit.kind === 'chart' ? comparedCharts(group) : comparedTables(group))));
}

function isSameTest(one, other) {
  const [a, b] = [nameParts(one.id), nameParts(other.id)];
  return a.path === b.path && a.name === b.name;
}

function sideName(test) {
  return nameParts(test.id).parameters || (test.model && test.model.name) || test.id;
}

function sideColumn(test, isCurrent) {
  const { tone, label } = OUTCOMES[test.outcome];
  const name = sideName(test);
  const grid = test.measurements.flatMap((measurement) => measurement.exhibits).find((exhibit) => exhibit.kind === 'grid');
  return element('li', { class: `side-column tone-${tone}` },
    element('h3', {}, mark(tone), element('span', { class: 'visually-hidden' }, `${label}: `),
      isCurrent ? element('strong', {}, breakable(name)) : element('a', { href: testAddress(test) }, breakable(name))),
    headlineMetrics(test),
    grid && element('div', { class: 'side-tiles' },
      grid.rows.slice(0, TILES_SHOWN).flatMap((row) => row.pictures).map(pictureImage)));
}

// ---- charts and tables that several of them have ----

// Groups of {model, exhibit}: those of one title and with the same axes or columns, the second of them
// with the second, and so on.
function sharedExhibits(columns) {
  const groups = new Map();
  for (const test of columns) {
    const times = new Map();
    const model = sideName(test).replace(/^\[(.*)\]$/s, '$1');
    for (const exhibit of test.measurements.flatMap((measurement) => measurement.exhibits)) {
      if (exhibit.kind !== 'chart' && exhibit.kind !== 'table') continue;
      const { kind, title, x, y, log_x, columns: names } = exhibit;
      const look = JSON.stringify([kind, title, x, y, log_x, names]);
      times.set(look, (times.get(look) || 0) + 1);
      const key = `${times.get(look)} ${look}`;
      groups.set(key, [...(groups.get(key) || []), { model, exhibit }]);
    }
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

function comparedCharts(group) {
  const { title, text } = group[0].exhibit;
  const areLines = group.every(({ exhibit }) => exhibit.series.every((series) => series.kind !== 'bars'));
  return element('section', { class: 'exhibit exhibit-chart' },
    element('h3', {}, title),
    text && element('p', { class: 'how-to-read' }, text),
    areLines ? chartFigure(overlaid(group)) : element('ul', { class: 'small-multiples' }, onOneScale(group).map(({ model, exhibit }) =>
      element('li', {}, element('h4', {}, breakable(model)), chartFigure(exhibit)))));
}

// What marks all of them share is marked once; a mark of one model says whose it is.
function overlaid(group) {
  const series = group.flatMap(({ model, exhibit }) => exhibit.series.map((each) => ({
    ...each, name: exhibit.series.length > 1 ? `${model}: ${seriesName(exhibit, each)}` : model,
  })));
  const marks = (axis) => {
    const isIn = (exhibit, { at, label }) => exhibit[axis].some((each) => each.at === at && each.label === label);
    const common = group[0].exhibit[axis].filter((each) => group.every(({ exhibit }) => isIn(exhibit, each)));
    const own = group.flatMap(({ model, exhibit }) => exhibit[axis]
      .filter((each) => !isIn({ [axis]: common }, each))
      .map((each) => ({ ...each, label: `${model}: ${each.label}` })));
    return [...common, ...own];
  };
  const ranges = group.flatMap(({ exhibit }) => exhibit.y_range || []);
  const range = ranges.length ? [Math.min(...ranges), Math.max(...ranges)] : null;
  return { ...group[0].exhibit, series, x_marks: marks('x_marks'), y_marks: marks('y_marks'), y_range: range };
}

function onOneScale(group) {
  const domains = group.map(({ exhibit }) => chartDomains(exhibit)).filter(({ x, y }) => x && y);
  if (!domains.length) return group;
  const all = (axis) => [Math.min(...domains.map((each) => each[axis][0])), Math.max(...domains.map((each) => each[axis][1]))];
  const y = withZero(all('y'));
  return group.map(({ model, exhibit }) => ({ model, exhibit: { ...exhibit, x_range: all('x'), y_range: y } }));
}

// One row for each name in the tables' first columns; each model has the other columns under its name, so that no
// figure stands without the name of its column. Prose is for a test's own page.
function comparedTables(group) {
  const { title, text, columns } = group[0].exhibit;
  const all = group.flatMap(({ exhibit }) => exhibit.rows);
  const places = columns.map((_, place) => place).slice(1);
  const short = places.filter((place) => all.every(({ cells }) => cells[place].length <= SHORT_CELL));
  const hasVerdicts = all.some((row) => row.status);
  const told = short.length || hasVerdicts ? short : places;
  const verdictPlace = columns.indexOf('verdict');
  const withVerdict = hasVerdicts && !told.includes(verdictPlace);
  const names = [withVerdict && 'verdict', ...told.map((place) => columns[place])].filter(Boolean);
  const cells = ({ cells: texts, status }) => {
    const badge = status && verdictBadge(status);
    const shown = told.map((place) => (badge && place === verdictPlace ? withBadge(badge, texts[place] === status ? '' : texts[place]) : texts[place]));
    return withVerdict ? [badge, ...shown] : shown;
  };
  const byFirst = group.map(({ exhibit }) => Map.groupBy(exhibit.rows, (row) => row.cells[0]));
  const rows = [...new Set(all.map((row) => row.cells[0]))].flatMap((first) => {
    const members = byFirst.map((rowsOf) => rowsOf.get(first) || []);
    const most = Math.max(...members.map((each) => each.length));
    return Array.from({ length: most }, (_, index) =>
      [first, ...members.flatMap((each) => (each[index] ? cells(each[index]) : names.map(() => '–')))]);
  });
  return element('section', { class: 'exhibit exhibit-table' },
    element('h3', {}, title),
    text && element('p', { class: 'how-to-read' }, text),
    textTable([columns[0], ...group.flatMap(() => names)], rows, {
      label: title, groups: group.map(({ model }) => ({ name: model, span: names.length })),
    }));
}
