'use strict';
// Starts the report: chooses the view from the address, listens to the keyboard.

const main = document.getElementById('main');
const help = document.getElementById('help');
const report = readReport(window.CNNAUDIT_REPORT);

// Tests in the order in which every view shows them; an outcome this page does not
// know counts as an error rather than vanishing.
function readReport(data) {
  if (!data) return null;
  const tests = data.tests.map((test) => (OUTCOMES[test.outcome] ? test : { ...test, outcome: 'error' }));
  return { ...data, tests: orderedTests(tests) };
}

// ---- views ----

function show() {
  closeOpenDialogs();
  hideTooltip();
  const { test, sample, exhibit, index } = addressed();
  const { text } = verdict(report.run, report.tests);
  const missing = sample !== undefined && !exhibit && alertBanner(`This test shows no sample “${sample}”.`);
  main.replaceChildren(...[
    missing,
    test ? testView(test, report.tests) : overviewView(report, unknownAddressNote()),
  ].filter(Boolean));
  document.title = test ? `${nameParts(test.id).name} · cnnaudit` : `${text} · cnnaudit`;
  window.scrollTo(0, test ? 0 : overviewState.scroll);
  if (exhibit) openLightbox(exhibit, index, (shown) => openerOnPage(test, exhibit, shown));
}

function unknownAddressNote() {
  const name = decoded(location.hash.slice(1));
  return name ? `This report has no test “${name}”. Here is everything it has.` : null;
}

function alertBanner(text) {
  return element('p', { class: 'banner', role: 'alert' }, text);
}

// Where a row stands on the page; one that is not drawn yet is drawn.
function openerOnPage(test, exhibit, index) {
  const { number } = pictureExhibits(test).find((each) => each.exhibit === exhibit);
  const section = main.querySelectorAll('.measurement > .exhibit')[number - 1];
  return section?.querySelector('.exhibit-list')?.opener(index) || main.querySelector('h1');
}

// A new view starts at its heading, for screen readers and for Tab alike; on the way
// back, at the test that was open.
function showAfterNavigation(event) {
  const left = addressed(new URL(event.oldURL).hash).test;
  if (main.querySelector('.overview')) overviewState.scroll = window.scrollY;
  show();
  const hash = left && new URL(testAddress(left), location.href).hash;
  const origin = currentTest() ? null : visibleTestLinks().find((link) => link.hash === hash);
  (origin || main.querySelector('h1')).focus({ preventScroll: true });
}

function showRunLine() {
  const { run } = report;
  const started = element('time', { datetime: run.started }, new Date(run.started).toLocaleString());
  document.getElementById('run-line').append(started, ` · ${run.device} · seed ${run.seed}`);
}

// ---- keyboard ----

function visibleTestLinks() {
  return [...main.querySelectorAll('.test-link')].filter((link) => link.checkVisibility());
}

function moveInOverview(step) {
  const links = visibleTestLinks();
  const index = links.indexOf(document.activeElement);
  const next = links[index < 0 ? 0 : Math.min(Math.max(index + step, 0), links.length - 1)];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.closest('.test').scrollIntoView({ block: 'nearest' });
}

function moveBetweenTests(step) {
  const next = report.tests[report.tests.indexOf(currentTest()) + step];
  if (next) location.hash = testAddress(next);
}

const OVERVIEW_KEYS = {
  j: () => moveInOverview(1),
  k: () => moveInOverview(-1),
  o: () => document.activeElement.matches('.test-link') && document.activeElement.click(),
  '/': () => document.getElementById('search')?.focus(),
};

const TEST_KEYS = {
  j: () => moveBetweenTests(1),
  k: () => moveBetweenTests(-1),
  ArrowRight: () => moveBetweenTests(1),
  ArrowLeft: () => moveBetweenTests(-1),
  u: () => { location.hash = ''; },
  Escape: () => { location.hash = ''; },
};

function onKey(event) {
  const typing = event.target.matches('input, textarea, select');
  if (typing && event.key === 'Escape') event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  const keys = { ...(currentTest() ? TEST_KEYS : OVERVIEW_KEYS), '?': () => help.showModal() };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

// ---- start ----

function start() {
  history.scrollRestoration = 'manual';
  showRunLine();
  show();
  window.addEventListener('hashchange', showAfterNavigation);
  document.addEventListener('keydown', onKey);
  window.addEventListener('beforeprint', () => {
    for (const details of main.querySelectorAll('details')) details.open = true;
  });
}

document.getElementById('help-button').addEventListener('click', () => help.showModal());
document.querySelector('.skip-link').addEventListener('click', (event) => {
  event.preventDefault(); // its address would read as that of a test
  main.focus();
});

if (report) start();
else main.replaceChildren(alertBanner(
  'The data of this report, data/report.js, is missing: keep the folder together when you move it.'));
