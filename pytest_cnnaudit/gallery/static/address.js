'use strict';
// Addresses within the report: "#<test id>" is a test's page, "#<test id>&sample=<title>" opens the row
// of that title on it, and "&exhibit=<number>" before "&sample=" says in which exhibit it stands.

const SAMPLE_MARK = '&sample=';

// Only "%" must be escaped for the id to survive the way through the address bar.
function testAddress(test) {
  return `#${test.id.replaceAll('%', '%25')}`;
}

// The exhibit is named where the title alone would lead somewhere else.
function sampleAddress(test, row) {
  const number = pictureExhibits(test).find(({ exhibit }) => exhibit.rows.includes(row))?.number;
  if (!number || !row.title) return testAddress(test);
  const sample = SAMPLE_MARK + encodeURIComponent(wellFormed(row.title));
  const short = testAddress(test) + sample;
  const { exhibit, index } = addressed(short);
  return exhibit && exhibit.rows[index] === row ? short : `${testAddress(test)}&exhibit=${number}${sample}`;
}

// What an address names: {test}, with {sample} where it names one and {exhibit, index} where the test shows it.
// Ids may hold anything, "&sample=" too: a test of just that name comes first.
function addressed(hash = location.hash) {
  const raw = hash.slice(1);
  const test = testCalled(raw);
  if (test) return { test };
  for (const { index: cut } of [...raw.matchAll(SAMPLE_MARK)].reverse()) {
    const head = raw.slice(0, cut);
    const [, shorter, number] = head.match(/^(.*)&exhibit=(\d+)$/s) || [];
    const sample = decoded(raw.slice(cut + SAMPLE_MARK.length));
    const numbered = number && testCalled(shorter);
    const owner = numbered || testCalled(head);
    if (owner) return namedRow(owner, sample, numbered ? Number(number) : 0);
  }
  return {};
}

function currentTest() {
  return addressed().test;
}

// In the exhibit of that number; else in the first that has it, for a later run may have other exhibits.
function namedRow(test, sample, number) {
  const exhibits = pictureExhibits(test).sort((one, other) => (other.number === number) - (one.number === number));
  for (const { exhibit } of exhibits) {
    const index = exhibit.rows.findIndex((row) => wellFormed(row.title) === sample);
    if (index >= 0) return { test, sample, exhibit, index };
  }
  return { test, sample };
}

// Numbered from one, in the order of the page, charts and tables included.
function pictureExhibits(test) {
  return test.measurements.flatMap((measurement) => measurement.exhibits)
    .map((exhibit, place) => ({ exhibit, number: place + 1 }))
    .filter(({ exhibit }) => exhibit.kind !== 'chart' && exhibit.kind !== 'table');
}

// An id typed verbatim may hold what looks like an escape ("%2e"); it is then known by
// what the browser makes of it.
function testCalled(raw) {
  const id = decoded(raw);
  return report.tests.find((test) => wellFormed(test.id) === id)
    || report.tests.find((test) => new URL(`#${test.id}`, location.href).hash === `#${raw}`);
}

function decoded(raw) {
  try {
    return decodeURIComponent(raw);
  } catch {
    return raw; // a typed address may hold a lone "%"
  }
}

// A name made from bytes that are no text holds lone surrogates, which no address can carry.
function wellFormed(name) {
  return name.replace(/\p{Surrogate}/gu, '\ufffd');
}
