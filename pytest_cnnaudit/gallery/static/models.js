'use strict';
// Models side by side: one row for each test that ran for several of them, one column for each model.

const MATRIX_ROWS = 8; // those with the worst outcome; the others on demand

function modelName(test) {
  return test.model ? test.model.name : null;
}

function modelNames(tests) {
  return [...new Set(tests.map(modelName).filter(Boolean))].sort((one, other) => one.localeCompare(other, 'en', { numeric: true }));
}

function modelMatrix(tests) {
  const rows = matrixRows(tests.filter(modelName));
  const models = modelNames(rows.flatMap((row) => row.tests));
  if (!rows.length) return null;
  const table = element('table', { class: 'matrix', role: 'table' },
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' },
      ['test', ...models].map((name) => element('th', { role: 'columnheader', scope: 'col' }, breakable(name))))),
    element('tbody', { role: 'rowgroup' }, rows.map((row) => matrixRow(row, models))));
  const isFolded = rows.length > MATRIX_ROWS;
  table.classList.toggle('is-folded', isFolded);
  table.classList.add(...paperClasses(models.length + 3)); // the test's name takes the room of three
  const unfold = ({ currentTarget }) => {
    table.classList.remove('is-folded');
    currentTarget.remove();
    table.querySelector(`tbody tr:nth-child(${MATRIX_ROWS + 1}) a`).focus();
  };
  return element('section', { class: 'models' },
    element('h2', {}, 'Models side by side'),
    element('div', { class: 'matrix-frame', tabindex: '0', role: 'region', 'aria-label': 'Models side by side' }, table),
    isFolded && element('button', { class: 'more', type: 'button', onclick: unfold }, `Show all ${counted(rows.length, 'test')}`));
}

// ---- rows ----

// {path, name, parameters, tests}. What a test is given besides the model makes rows of their own, where some
// of them have several models.
function matrixRows(tests) {
  const byName = Map.groupBy(tests, (test) => { const { path, name } = nameParts(test.id); return `${path}::${name}`; });
  return [...byName.values()].filter((group) => modelNames(group).length > 1).flatMap((group) => {
    const { path, name } = nameParts(group[0].id);
    if (modelNames(group).length === group.length) return [{ path, name, parameters: '', tests: group }];
    const split = [...Map.groupBy(group, otherParameters)].map(([parameters, members]) => ({ path, name, parameters, tests: members }))
      .filter((row) => modelNames(row.tests).length > 1);
    return split.length ? split : [{ path, name, parameters: '', tests: group }];
  });
}

function otherParameters(test) {
  return nameParts(test.id).parameters.slice(1, -1).replace(modelName(test), '').split('-').filter(Boolean).join('-');
}

function matrixRow({ path, name, parameters, tests }, models) {
  const lead = tests.map(headlineMetric).find(Boolean);
  const metricOf = (test) => (lead && allMetrics(test).find((metric) => metric.name === lead.name)) || headlineMetric(test);
  const shown = tests.map(metricOf).filter((metric) => metric && metric.name === lead.name);
  const best = bestValue(shown);
  const domain = metricDomain(...shown); // one for the row, so that its dots can be compared by their place
  const entry = (test) => {
    const metric = metricOf(test);
    const isComparable = Boolean(metric) && metric.name === lead.name;
    return matrixEntry(test, metric, {
      title: isComparable ? '' : metric && metric.name,
      isBest: isComparable && metric.value !== null && metric.value === best,
      domain: isComparable ? domain : metric && metricDomain(metric),
    });
  };
  return element('tr', { role: 'row' },
    element('th', { role: 'rowheader', scope: 'row' },
      element('span', { class: 'matrix-test' }, breakable(name), parameters && element('span', { class: 'parameters' }, '[', breakable(parameters), ']')),
      element('span', { class: 'path' }, path),
      lead && element('span', { class: 'metric-name' }, lead.name)),
    models.map((model) => {
      const members = tests.filter((test) => modelName(test) === model);
      return element('td', { role: 'cell' },
        element('span', { class: 'column-name', 'aria-hidden': 'true' }, model),
        members.length ? members.map(entry) : element('span', { class: 'count' }, 'not run'));
    }));
}

// ---- cells ----

function headlineMetric(test) {
  return thresholdMetrics(test)[0] || allMetrics(test)[0];
}

// The value that is better than another; null where none is.
function bestValue(metrics) {
  const values = metrics.map((metric) => metric.value).filter(Number.isFinite);
  const direction = metrics.length ? metrics[0].higher_is_better ?? null : null;
  if (direction === null || new Set(values).size < 2) return null;
  return direction ? Math.max(...values) : Math.min(...values);
}

function matrixEntry(test, metric, { title, isBest, domain }) {
  const { tone, label } = OUTCOMES[test.outcome];
  const change = metric && baselineChange(metric);
  return element('a', { href: testAddress(test), class: `matrix-entry tone-${tone} ${isBest ? 'is-best' : ''}`, title: test.id },
    mark(tone), element('span', { class: 'visually-hidden' }, `${label}: `),
    title && element('span', { class: 'metric-name' }, title),
    element('span', { class: 'value' }, metric ? valueText(metric) : label),
    isBest && element('span', { class: 'visually-hidden' }, ' (best)'),
    metric && domain && domain[0] < domain[1]
      && element('span', { class: `mini-scale tone-${metricTone(metric)}`, 'aria-hidden': 'true' }, scaleDrawing(metric, domain)),
    metric && metric.isBound && element('span', { class: 'bound', title: BOUND_TEXT }, 'bound'),
    change && element('span', { class: `change tone-${change.tone}` },
      element('b', {}, change.text), ' · ', element('span', { class: 'change-word' }, change.word),
      element('span', { class: 'visually-hidden' }, ` since ${metric.baseline.of}`)));
}
