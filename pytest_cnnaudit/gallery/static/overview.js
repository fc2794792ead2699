'use strict';
// The overview: the verdict, what to know about the run, and the tests, worst first.

const METRICS_PER_TEST = 4;
const THUMBNAILS = 4;
const SLOWEST = 5;

// Kept while the reader visits a test, so that coming back shows the same list.
const overviewState = { outcome: 'all', model: 'all', kind: 'all', closeCalls: false, search: '', scroll: 0 };

function overviewView(report, note) {
  const list = element('div', { id: 'test-list' });
  const tally = element('p', { class: 'tally', role: 'status' });
  const refresh = () => fillTestList(list, tally, report);
  const view = element('div', { class: 'overview' },
    note && element('p', { class: 'banner', role: 'alert' }, note),
    verdictHeader(report, refresh),
    warningsBanner(runWarnings(report.run, report.tests)),
    modelMatrix(report.tests),
    report.tests.length > 0 && listControls(report.tests, refresh),
    element('div', { class: 'list-heading' }, tally, scaleLegend(report.tests.flatMap(allMetrics))),
    list,
    runFacts(report));
  refresh();
  return view;
}

// ---- the verdict ----

function verdictHeader({ run, tests }, refresh) {
  const { text, tone } = verdict(run, tests);
  return element('header', { class: `verdict tone-${tone}` },
    element('h1', { tabindex: '-1' }, mark(tone), element('span', {}, text)),
    tests.length > 0 && outcomeBar(tests),
    closeCallsLine(tests, refresh));
}

function hasCloseCall(test) {
  return allMetrics(test).some((metric) => metric.thresholds.some((threshold) => isCloseCall(metric, threshold)));
}

function closeCallsLine(tests, refresh) {
  const close = tests.filter(hasCloseCall).length;
  if (!close) return null;
  const button = element('button', {
    class: 'close-calls', type: 'button', 'aria-pressed': String(overviewState.closeCalls),
    onclick: () => {
      overviewState.closeCalls = !overviewState.closeCalls;
      button.setAttribute('aria-pressed', String(overviewState.closeCalls));
      refresh();
    },
  }, counted(close, 'close call'));
  return element('p', { class: 'close-calls-line' }, button, ' where the 95 % interval holds the threshold: more samples could turn the verdict.');
}

function outcomeBar(tests) {
  const bar = element('div', { class: 'outcome-bar', 'aria-hidden': 'true' });
  for (const outcome of OUTCOME_ORDER) {
    const count = countOutcomes(tests, outcome);
    if (!count) continue;
    const part = element('span', { class: `outcome-${outcome} tone-${OUTCOMES[outcome].tone}` });
    part.style.flexGrow = count;
    bar.append(part);
  }
  return bar;
}

function warningsBanner(warnings) {
  if (!warnings.length) return null;
  return element('aside', { class: 'banner', 'aria-label': 'About this run' },
    element('ul', {}, warnings.map((warning) => element('li', {}, warning))));
}

// ---- filters and search ----

function listControls(tests, refresh) {
  const outcomes = OUTCOME_ORDER.filter((outcome) => countOutcomes(tests, outcome))
    .map((outcome) => [outcome, OUTCOMES[outcome].label, countOutcomes(tests, outcome)]);
  const models = modelNames(tests).map((name) => [name, name, tests.filter((test) => modelName(test) === name).length]);
  const search = element('input', {
    type: 'search', id: 'search', placeholder: 'Search tests', autocomplete: 'off', spellcheck: 'false',
    oninput: (event) => { overviewState.search = event.target.value; refresh(); },
  });
  search.value = overviewState.search;
  return element('search', { class: 'controls' },
    filterChips('outcome', [['all', 'all', tests.length], ...outcomes], refresh),
    kindSelect(tests, refresh),
    element('label', {}, element('span', { class: 'visually-hidden' }, 'Search tests by name'), search),
    models.length > 1 && filterChips('model', [['all', 'all models', tests.length], ...models], refresh));
}

function filterChips(name, choices, refresh) {
  const choose = ({ currentTarget: chosen }) => {
    overviewState[name] = chosen.dataset[name];
    for (const chip of chosen.parentElement.children) chip.setAttribute('aria-pressed', String(chip === chosen));
    refresh();
  };
  return element('div', { class: `chips chips-${name}`, role: 'group', 'aria-label': `Filter by ${name}` },
    choices.map(([value, label, count]) => element('button', {
      class: 'chip', type: 'button', [`data-${name}`]: value, 'aria-pressed': String(overviewState[name] === value), onclick: choose,
    }, label, element('span', { class: 'count' }, String(count)))));
}

function kindSelect(tests, refresh) {
  const kinds = [...new Set(tests.flatMap((test) => test.measurements.map((measurement) => measurement.name)))].sort();
  if (kinds.length < 2) return null;
  const select = element('select', {
    id: 'kind', 'aria-label': 'Filter by measurement',
    onchange: (event) => { overviewState.kind = event.target.value; refresh(); },
  },
    element('option', { value: 'all' }, 'any measurement'),
    kinds.map((kind) => element('option', { value: kind }, kind.replaceAll('_', ' '))));
  select.value = overviewState.kind;
  return select;
}

function isShown(test) {
  const { outcome, model, kind, closeCalls, search } = overviewState;
  return (outcome === 'all' || outcome === test.outcome)
    && (model === 'all' || model === modelName(test))
    && (kind === 'all' || test.measurements.some((measurement) => measurement.name === kind))
    && (!closeCalls || hasCloseCall(test))
    && search.toLowerCase().split(/\s+/).every((word) => test.id.toLowerCase().includes(word));
}

// ---- the list ----

function fillTestList(list, tally, { tests }) {
  const shown = tests.filter(isShown);
  const filtered = shown.length < tests.length;
  tally.textContent = filtered ? `${shown.length} of ${counted(tests.length, 'test')} shown` : '';
  list.replaceChildren(...GROUPS.map((group) => groupSection(group, shown, filtered)).filter(Boolean));
}

function groupSection(group, shown, filtered) {
  const members = shown.filter((test) => group.outcomes.includes(test.outcome));
  if (!members.length) return null;
  const heading = element('h2', {}, group.title, ' ', element('span', { class: 'count' }, String(members.length)));
  const items = group.outcomes.includes('skipped') ? skippedByReason(members) : element('ul', { class: 'tests' }, members.map(testItem));
  return group.collapsed
    ? element('details', { class: 'group', open: filtered || members.length === shown.length }, element('summary', {}, heading), items)
    : element('section', { class: 'group' }, heading, items);
}

// A reason is said once, for all the tests that it kept from running.
function skippedByReason(tests) {
  const reason = (test) => test.message.replace(/^Skipped: /, '').trim() || 'no reason given';
  return element('ul', { class: 'reasons' }, [...Map.groupBy(tests, reason)].map(([text, members]) => element('li', {},
    element('p', { class: 'reason' }, text),
    element('ul', { class: 'tests' }, members.map((test) => element('li', { class: 'test is-brief tone-idle' },
      mark('idle'),
      element('h3', {}, testLink(test, OUTCOMES[test.outcome].label)),
      element('p', { class: 'path' }, nameParts(test.id).path)))))));
}

function testItem(test) {
  const { tone, label } = OUTCOMES[test.outcome];
  const strip = thumbnails(test);
  return element('li', { class: `test tone-${tone}` },
    mark(tone),
    element('div', { class: 'what' },
      element('h3', {}, testLink(test, label)),
      element('p', { class: 'path' }, nameParts(test.id).path),
      test.doc && element('p', { class: 'doc' }, test.doc),
      element('p', { class: 'facts' }, testFacts(test).join(' · '))),
    element('div', { class: 'evidence' },
      messageLine(test),
      headlineMetrics(test)),
    strip);
}

function testLink(test, label) {
  const { name, parameters } = nameParts(test.id);
  return element('a', { href: testAddress(test), class: 'test-link' },
    element('span', { class: 'visually-hidden' }, `${label}: `),
    breakable(name), element('span', { class: 'parameters' }, breakable(parameters)));
}

// The scale tells a miss better than words do; words are for what no scale tells.
function messageLine(test) {
  const toldByScale = test.outcome === 'failed' && thresholdMetrics(test).some((metric) => metricTone(metric) === 'bad');
  const line = test.message.split('\n').find((text) => text.trim());
  return !toldByScale && line ? element('p', { class: 'message-line' }, line) : null;
}

function allMetrics(test) {
  return test.measurements.flatMap(metricsOf);
}

// A measurement that stopped early knows bounds, and each figure must say so wherever it is shown.
function metricsOf({ metrics, complete }) {
  return complete === false ? metrics.map((metric) => ({ ...metric, isBound: true })) : metrics;
}

function thresholdMetrics(test) {
  const judged = allMetrics(test).filter(isJudged);
  const missed = judged.filter((metric) => metricTone(metric) === 'bad');
  return [...missed, ...judged.filter((metric) => !missed.includes(metric))];
}

function headlineMetrics(test) {
  const judged = thresholdMetrics(test);
  const chosen = judged.length ? judged : allMetrics(test).slice(0, 1);
  const left = chosen.length - METRICS_PER_TEST;
  return [
    ...chosen.slice(0, METRICS_PER_TEST).map((metric) => element('div', { class: 'headline-metric' },
      element('p', { class: 'metric-name' }, metric.name),
      metricNumbers(metric),
      metricScale(metric))),
    left > 0 && element('p', { class: 'facts' }, `and ${counted(left, 'more metric')}`),
  ];
}

// One row tells a story by its columns; a grid by its first tiles; where there are no pictures, a chart by its shape.
function thumbnails(test) {
  const exhibits = test.measurements.flatMap((measurement) => measurement.exhibits);
  const exhibit = exhibits.find(({ rows }) => rows && rows.some((row) => row.pictures && row.pictures.length));
  const chart = exhibits.find(({ kind }) => kind === 'chart');
  if (!exhibit) return chart ? chartThumbnail(chart) : null;
  const pictures = exhibit.kind === 'grid'
    ? exhibit.rows.slice(0, THUMBNAILS).flatMap((row) => row.pictures.slice(0, 1))
    : exhibit.rows[0].pictures.slice(0, THUMBNAILS);
  return element('div', { class: 'thumbnails' }, pictures.map(pictureImage));
}

// ---- the run ----

function runFacts({ run, tests, generator }) {
  const facts = [
    ['passed', `${countOutcomes(tests, 'passed')} of ${counted(tests.length, 'test')}`],
    ['started', new Date(run.started).toLocaleString()],
    ['duration', durationText(run.duration)],
    ['cost', costText(tests)],
    ['from the cache', cacheText(tests)],
    ['device', [run.device, ...new Set(tests.map((test) => test.device).filter((device) => device && !run.device.startsWith(device)))].join(', ')],
    ['seed', String(run.seed)],
    ['command', run.command],
    ['pytest exit status', exitText(run.exit_status)],
    ...Object.entries(run.versions),
    ['report by', generator],
  ].filter(([, text]) => text !== null);
  const sections = [['Models', modelFacts(tests)], ['Samples', sampleFacts(tests)], ['Where the time went', slowestTests(tests)]];
  return element('details', { class: 'run-facts' },
    element('summary', {}, element('h2', {}, 'About this run')),
    definitionList('', facts),
    sections.map(([title, content]) => Boolean(content) && element('section', {}, element('h3', {}, title), content)));
}

// Enough of a digest to tell two apart; the whole is in its title.
function shortDigest(digest) {
  return digest ? element('code', { title: digest }, digest.slice(0, 12)) : element('span', { class: 'count' }, 'no digest');
}

function modelFacts(tests) {
  const models = uniqueBy(tests.flatMap((test) => test.model || []), ({ name, module, digest }) => JSON.stringify([name, module, digest || null]));
  return models.length && textTable(['model', 'module', 'digest'], models.map(({ name, module, digest }) => [name, module || '', shortDigest(digest)]), { label: 'Models' });
}

function sampleFacts(tests) {
  const sets = uniqueBy(tests.flatMap((test) => test.samples || []), ({ n, source, digest }) => JSON.stringify([n, source, digest || null]));
  return sets.length && textTable(['source', 'samples', 'digest'], sets.map(({ n, source, digest }) =>
    [source || 'not named', n.toLocaleString('en'), shortDigest(digest)]), { label: 'Samples' });
}

function uniqueBy(items, key) {
  return [...new Map(items.map((item) => [key(item), item])).values()];
}

function slowestTests(tests) {
  const total = tests.reduce((sum, test) => sum + test.duration, 0);
  const slowest = [...tests].sort((one, other) => other.duration - one.duration).slice(0, SLOWEST);
  return total && textTable(['test', 'duration', 'of all tests'], slowest.map((test) =>
    [element('a', { href: testAddress(test) }, breakable(test.id)), durationText(test.duration), `${Math.round((test.duration / total) * 100)} %`]), { label: 'Where the time went' });
}
