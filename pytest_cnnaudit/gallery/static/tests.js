'use strict';
// Reads the report's tests: their order, names, and the verdict over all of them.

const OUTCOMES = {
  failed: { label: 'fell short', tone: 'bad' },
  error: { label: 'error', tone: 'warn' },
  crashed: { label: 'crashed', tone: 'warn' },
  xpassed: { label: 'passed unexpectedly', tone: 'warn' },
  xfailed: { label: 'fell short as expected', tone: 'idle' },
  passed: { label: 'passed', tone: 'good' },
  skipped: { label: 'skipped', tone: 'idle' },
};

// What needs attention comes first.
const GROUPS = [
  { title: 'Fell short', outcomes: ['failed'] },
  { title: 'Could not finish', outcomes: ['error', 'crashed'] },
  { title: 'Passed unexpectedly', outcomes: ['xpassed'] },
  { title: 'Fell short as expected', outcomes: ['xfailed'] },
  { title: 'Passed', outcomes: ['passed'] },
  { title: 'Skipped', outcomes: ['skipped'], collapsed: true },
];

const OUTCOME_ORDER = GROUPS.flatMap((group) => group.outcomes);

function orderedTests(tests) {
  return [...tests].sort((one, other) =>
    OUTCOME_ORDER.indexOf(one.outcome) - OUTCOME_ORDER.indexOf(other.outcome));
}

function countOutcomes(tests, ...outcomes) {
  return tests.filter((test) => outcomes.includes(test.outcome)).length;
}

// "tests/test_a.py::TestB::test_c[v1]" in its parts; the parameters may hold "::" too.
function nameParts(id) {
  const cut = id.indexOf('::');
  const path = cut < 0 ? '' : id.slice(0, cut);
  const name = cut < 0 ? id : id.slice(cut + 2);
  const bracket = name.indexOf('[');
  return bracket < 0
    ? { path, name, parameters: '' }
    : { path, name: name.slice(0, bracket), parameters: name.slice(bracket) };
}

function testFacts(test) {
  return [
    test.model && (test.model.module && test.model.module !== test.model.name
      ? `${test.model.name} (${test.model.module})` : test.model.name),
    test.samples && `${counted(test.samples.n, 'sample')}${test.samples.source ? ` from ${test.samples.source}` : ''}`,
    durationText(test.duration),
  ].filter(Boolean);
}

// A run that did not reach its end must not read as a clean one.
function verdict(run, tests) {
  const ran = tests.filter((test) => test.outcome !== 'skipped');
  const failed = countOutcomes(ran, 'failed');
  const broken = countOutcomes(ran, 'error', 'crashed');
  const passed = countOutcomes(ran, 'passed');
  const soFar = run.status === 'running' ? ' so far' : '';
  if (failed || broken) {
    const short = `${failed} of ${counted(ran.length, 'audit')} fell short`;
    const unfinished = failed ? `${broken} could not finish` : `${broken} of ${counted(ran.length, 'audit')} could not finish`;
    const text = [failed && short, broken && unfinished].filter(Boolean).join(', ');
    return { text: text + soFar, tone: failed ? 'bad' : 'warn' };
  }
  if (!ran.some((test) => test.measurements.length)) return { text: `Nothing was measured${soFar}`, tone: 'idle' };
  if (passed < ran.length) return { text: `${passed} of ${counted(ran.length, 'audit')} passed${soFar}`, tone: 'warn' };
  const complete = run.status === 'finished';
  const which = run.status === 'interrupted' ? ' that ran' : '';
  const text = ran.length === 1 ? `The only audit${which} passed` : `All ${ran.length} audits${which} passed`;
  return { text: text + soFar, tone: complete ? 'good' : 'warn' };
}

const EXIT_WORDS = {
  0: 'all passed', 1: 'some tests failed', 2: 'interrupted', 3: 'internal error', 4: 'usage error', 5: 'no tests collected',
};

function exitText(exitStatus) {
  if (exitStatus === null) return 'not known';
  return EXIT_WORDS[exitStatus] ? `${exitStatus} (${EXIT_WORDS[exitStatus]})` : String(exitStatus);
}

// Everything a reader must know before trusting the verdict.
function runWarnings(run, tests) {
  const warnings = [...run.notes];
  if (run.status === 'running') {
    warnings.unshift('The run had not finished when this was written. Reload for newer results; if pytest is no longer running, it was stopped before its end.');
  }
  if (run.status === 'interrupted') {
    warnings.unshift('The run was interrupted: the tests that come after are missing here.');
  }
  const clean = countOutcomes(tests, 'failed', 'error', 'crashed') === 0;
  if (run.status === 'finished' && clean && run.exit_status) {
    warnings.push(`pytest ended with exit status ${exitText(run.exit_status)}, although no audit here failed: see its own output.`);
  }
  return warnings;
}
