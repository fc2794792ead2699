'use strict';
// The same test on several models: one column each, so that their figures and filters can be compared at a glance.

const TILES_SHOWN = 64;

function sideBySide(test, tests) {
  const columns = tests.filter((other) => other.measurements.length > 0 && isSameTest(other, test));
  if (columns.length < 2) return null;
  return element('section', { class: 'side-by-side' },
    element('h2', {}, 'Side by side'),
    element('ul', { class: 'columns' }, columns.map((other) => sideColumn(other, other === test))));
}

function isSameTest(one, other) {
  const [a, b] = [nameParts(one.id), nameParts(other.id)];
  return a.path === b.path && a.name === b.name;
}

function sideColumn(test, isCurrent) {
  const { tone, label } = OUTCOMES[test.outcome];
  const name = nameParts(test.id).parameters || (test.model && test.model.name) || test.id;
  const grid = test.measurements.flatMap((measurement) => measurement.exhibits).find((exhibit) => exhibit.kind === 'grid');
  return element('li', { class: `side-column tone-${tone}` },
    element('h3', {}, mark(tone), element('span', { class: 'visually-hidden' }, `${label}: `),
      isCurrent ? element('strong', {}, breakable(name)) : element('a', { href: testAddress(test) }, breakable(name))),
    headlineMetrics(test),
    grid && element('div', { class: 'side-tiles' },
      grid.rows.slice(0, TILES_SHOWN).flatMap((row) => row.pictures).map(pictureImage)));
}
