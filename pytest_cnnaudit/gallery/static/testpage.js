'use strict';
// The page of one test: what it asked, what it found, and the pictures that show why.

const LONG_MESSAGE_LINES = 24;
const EXHIBITS_WITH_CONTENTS = 4; // from so many on, a page says what is further down

function testView(test, tests) {
  const { path, name, parameters } = nameParts(test.id);
  const { tone, label } = OUTCOMES[test.outcome];
  const [lead, ...more] = [test.story, test.doc].filter(Boolean);
  const page = element('article', { class: 'test-page' },
    testNavigation(test, tests),
    element('header', { class: `test-header tone-${tone}` },
      element('p', { class: 'outcome' }, mark(tone), label),
      element('h1', { tabindex: '-1' }, breakable(name), element('span', { class: 'parameters' }, breakable(parameters))),
      element('p', { class: 'path' }, path),
      lead && element('p', { class: 'lead' }, lead),
      more.map((text) => element('p', { class: 'doc' }, text)),
      element('p', { class: 'facts' }, testFacts(test).join(' · '))),
    failureMessage(test.message, tone),
    reproduction(test.repro),
    sideBySide(test, tests),
    !test.measurements.length && element('p', { class: 'facts unmeasured' }, 'This test recorded no measurement.'),
    test.measurements.map(measurementSection));
  if (page.querySelectorAll('.exhibit').length >= EXHIBITS_WITH_CONTENTS) {
    page.querySelector('.side-by-side, .measurement').before(contents(page));
  }
  return page;
}

// Buttons rather than links: the address is that of the test.
function contents(page) {
  const goTo = (heading) => {
    heading.tabIndex = -1;
    heading.scrollIntoView();
    heading.focus({ preventScroll: true });
  };
  const entry = (heading) => element('li', { class: heading.tagName === 'H2' ? 'is-section' : null },
    element('button', { type: 'button', onclick: () => goTo(heading) }, heading.textContent));
  return element('nav', { class: 'contents', 'aria-label': 'On this page' },
    element('p', {}, 'On this page'),
    element('ul', {}, [...page.querySelectorAll('.side-by-side > h2, .measurement > h2, .exhibit h3:first-of-type')].map(entry)));
}

function testNavigation(test, tests) {
  const index = tests.indexOf(test);
  const link = (neighbour, text, side) => (neighbour
    ? element('a', { href: testAddress(neighbour), rel: side, title: neighbour.id, 'aria-label': `${side === 'prev' ? 'Previous' : 'Next'} test: ${neighbour.id}` }, text)
    : element('span', { class: 'absent', 'aria-hidden': 'true' }, text));
  return element('nav', { class: 'test-navigation', 'aria-label': 'Tests' },
    element('a', { href: '#' }, '← All audits'),
    element('span', { class: 'neighbours' },
      link(tests[index - 1], '‹ Previous', 'prev'),
      element('span', {}, `${index + 1} of ${tests.length}`),
      link(tests[index + 1], 'Next ›', 'next')));
}

// Long tracebacks scroll inside their block, which the keyboard can reach.
function failureMessage(message, tone) {
  if (!message.trim()) return null;
  const isLong = message.split('\n').length > LONG_MESSAGE_LINES;
  return element('pre', {
    class: `message tone-${tone} ${isLong ? 'is-long' : ''}`,
    tabindex: isLong ? '0' : null, role: isLong ? 'region' : null, 'aria-label': isLong ? 'Message' : null,
  }, message);
}

// The command that shows the failure again; `user-select: all` in the style takes all of it at a click.
function reproduction(repro) {
  if (!repro || !repro.command) return null;
  const what = repro.bundle ? 'To see it again, on the worst samples alone:' : 'To see it again:';
  return element('p', { class: 'reproduction' }, `${what} `, element('code', {}, repro.command));
}

function measurementSection(measurement) {
  const metrics = metricsOf(measurement);
  const judged = metrics.filter(isJudged);
  const others = metrics.filter((metric) => !isJudged(metric));
  return element('section', { class: 'measurement' },
    element('h2', {}, measurement.title),
    measurementSettings(measurement.settings),
    metrics.some((metric) => metric.isBound) && element('p', { class: 'bounds-note' }, mark('warn'),
      element('span', {}, 'These figures are bounds, not values: the measurement stopped early, when the verdict was certain.')),
    judged.length > 0 && element('div', { class: 'metrics' }, judged.map(metricCard)),
    others.length > 0 && element('div', { class: 'metrics is-compact' }, others.map(metricCard)),
    historySection(metrics),
    measurement.notes.length > 0 && element('ul', { class: 'notes' }, measurement.notes.map((note) => element('li', {}, note))),
    measurement.exhibits.map(exhibitSection),
    costLine(measurement));
}

function measurementSettings(settings) {
  const entries = Object.entries(settings).map(([name, value]) => [name, String(value)]);
  return entries.length ? definitionList('settings', entries) : null;
}

function metricCard(metric) {
  return element('div', { class: `metric-card tone-${metricTone(metric)}` },
    element('h3', {}, metric.name),
    metricNumbers(metric),
    metricScale(metric),
    element('p', { class: 'facts' }, [metric.help, metric.n && counted(metric.n, metric.of)].filter(Boolean).join(' · ')),
    historyButton(metric));
}
