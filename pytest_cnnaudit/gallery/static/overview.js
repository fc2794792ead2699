'use strict';
// The overview: the verdict, what to know about the run, and the tests, worst first.

const METRICS_PER_TEST = 4;
const THUMBNAILS = 4;

// Kept while the reader visits a test, so that coming back shows the same list.
const overviewState = { outcome: 'all', search: '', scroll: 0 };

function overviewView(report, note) {
  const list = element('div', { id: 'test-list' });
  const tally = element('p', { class: 'tally', role: 'status' });
  const refresh = () => fillTestList(list, tally, report);
  const view = element('div', { class: 'overview' },
    note && element('p', { class: 'banner', role: 'alert' }, note),
    verdictHeader(report),
    warningsBanner(runWarnings(report.run, report.tests)),
    report.tests.length > 0 && listControls(report.tests, refresh),
    tally,
    list,
    runFacts(report));
  refresh();
  return view;
}

// ---- the verdict ----

function verdictHeader({ run, tests }) {
  const { text, tone } = verdict(run, tests);
  return element('header', { class: `verdict tone-${tone}` },
    element('h1', { tabindex: '-1' }, mark(tone), element('span', {}, text)),
    tests.length > 0 && outcomeBar(tests));
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

// ---- filter and search ----

function listControls(tests, refresh) {
  const present = OUTCOME_ORDER.filter((outcome) => countOutcomes(tests, outcome));
  const chips = ['all', ...present].map((outcome) => element('button', {
    class: 'chip', type: 'button', 'data-outcome': outcome, 'aria-pressed': String(overviewState.outcome === outcome),
    onclick: (event) => chooseOutcome(event.currentTarget, refresh),
  },
    outcome === 'all' ? 'all' : OUTCOMES[outcome].label,
    element('span', { class: 'count' }, String(outcome === 'all' ? tests.length : countOutcomes(tests, outcome)))));
  const search = element('input', {
    type: 'search', id: 'search', placeholder: 'Search tests', autocomplete: 'off', spellcheck: 'false',
    oninput: (event) => { overviewState.search = event.target.value; refresh(); },
  });
  search.value = overviewState.search;
  return element('search', { class: 'controls' },
    element('div', { class: 'chips', role: 'group', 'aria-label': 'Filter by outcome' }, chips),
    element('label', {}, element('span', { class: 'visually-hidden' }, 'Search tests by name'), search));
}

function chooseOutcome(chip, refresh) {
  overviewState.outcome = chip.dataset.outcome;
  for (const other of chip.parentElement.children) other.setAttribute('aria-pressed', String(other === chip));
  refresh();
}

function isShown(test) {
  const words = overviewState.search.toLowerCase().split(/\s+/);
  const fitsOutcome = overviewState.outcome === 'all' || overviewState.outcome === test.outcome;
  return fitsOutcome && words.every((word) => test.id.toLowerCase().includes(word));
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
  const items = element('ul', { class: 'tests' }, members.map(testItem));
  return group.collapsed
    ? element('details', { class: 'group', open: filtered || members.length === shown.length }, element('summary', {}, heading), items)
    : element('section', { class: 'group' }, heading, items);
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
  return test.measurements.flatMap((measurement) => measurement.metrics);
}

function thresholdMetrics(test) {
  const judged = allMetrics(test).filter((metric) => metric.thresholds.length);
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
    left > 0 && element('p', { class: 'facts' }, `and ${counted(left, 'more threshold metric')}`),
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
    ['device', run.device],
    ['seed', String(run.seed)],
    ['command', run.command],
    ['pytest exit status', exitText(run.exit_status)],
    ...Object.entries(run.versions),
    ['report by', generator],
  ];
  return element('details', { class: 'run-facts' },
    element('summary', {}, element('h2', {}, 'About this run')),
    definitionList('', facts));
}
