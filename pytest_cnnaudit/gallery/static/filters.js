'use strict';
// Chooses among the rows of an exhibit: by status, by class, and their order.

const FEWEST_FILTERED = 8;
const LEADING_NUMBER = /^[-+−]?(\d[\d,]*)?\.?\d+(e[-+]?\d+)?(?=$|[^\w.])/i;

// The bar above an exhibit, or null where there is nothing to choose; `show` gets the rows that are chosen.
function filterBar({ title, rows, kind }, show) {
  const choices = filterChoices(rows);
  if (!choices) return null;
  const chosen = { status: null, label: null, order: null };
  const tally = element('p', { class: 'filter-tally', role: 'status' });
  const chips = statusChips(choices.statuses, choose);
  const labels = choiceOf('class', ['all', ...choices.labels], (place) => choose({ label: choices.labels[place - 1] ?? null }));
  const orders = choices.figures.flatMap((name) => [{ name, sign: 1 }, { name, sign: -1 }]);
  const given = kind === 'samples' ? 'worst first' : 'as given';
  const sort = choiceOf('sort', [given, ...orders.map(({ name, sign }) => `${name} ${sign > 0 ? 'ascending' : 'descending'}`)],
    (place) => choose({ order: orders[place - 1] || null }));

  function choose(change) {
    Object.assign(chosen, change);
    show(tell());
  }

  function tell() {
    const shown = orderedRows(rows.filter((row) => isChosen(row, chosen)), chosen.order);
    tally.textContent = `${shown.length.toLocaleString('en')} of ${rows.length.toLocaleString('en')} shown`;
    tellCounts(rows, chosen, choices, chips, labels);
    return shown.length === rows.length && !chosen.order ? rows : shown;
  }

  tell();
  return element('div', { class: 'filters', role: 'group', 'aria-label': `Filter: ${title}` },
    choices.statuses.length > 1 && chips,
    choices.labels.length > 1 && labels,
    choices.figures.length > 0 && sort,
    tally);
}

// ---- what there is to choose ----

function filterChoices(rows) {
  if (rows.length < FEWEST_FILTERED) return null;
  const statuses = [...new Set(rows.map((row) => row.status))];
  const labels = [...new Set(rows.map((row) => row.figures.label))].filter((label) => label !== undefined)
    .sort((one, other) => one.localeCompare(other, 'en', { numeric: true }));
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.figures)))].filter((name) => name !== 'label');
  const figures = names.filter((name) => tellsApart(rows, name));
  return statuses.length > 1 || labels.length > 1 || figures.length ? { statuses, labels, figures } : null;
}

// Whether most rows have this figure as a number, and not all of them the same.
function tellsApart(rows, name) {
  const numbers = rows.map((row) => numberOf(row, name)).filter((number) => number !== null);
  return numbers.length > rows.length / 2 && numbers.some((number) => number !== numbers[0]);
}

// "7.99/255", "1,028 to 9,746" and "0.92 (random 0.98)" are sorted by the number they begin with.
function numberOf(row, name) {
  const match = LEADING_NUMBER.exec(row.figures[name] ?? '');
  return match && Number(match[0].replaceAll(',', '').replace('−', '-'));
}

// ---- choosing ----

function isChosen(row, { status, label }) {
  return (status === null || row.status === status) && (label === null || row.figures.label === label);
}

// Rows without the figure come last, either way.
function orderedRows(rows, order) {
  if (!order) return rows;
  const numbers = new Map(rows.map((row) => [row, numberOf(row, order.name)]));
  const place = (row) => (numbers.get(row) === null ? Infinity : order.sign * numbers.get(row));
  return [...rows].sort((one, other) => (place(one) === place(other) ? 0 : place(one) - place(other)));
}

// ---- what the reader sees of it ----

function statusChips(statuses, choose) {
  const chips = [null, ...statuses].map((status) => element('button', {
    class: `chip ${status ? `tone-${statusTone(status)}` : ''}`, type: 'button', 'aria-pressed': String(status === null),
    onclick: ({ currentTarget }) => {
      for (const other of chips) other.setAttribute('aria-pressed', String(other === currentTarget));
      choose({ status });
    },
  }, status && mark(statusTone(status)), status === null ? 'all' : status || 'no status', element('span', { class: 'count' })));
  return element('div', { class: 'chips', role: 'group', 'aria-label': 'Filter by status', onkeydown: (event) => moveAmong(chips, event) }, chips);
}

function moveAmong(chips, event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation(); // the page's own arrows lead to other tests
  chips[Math.min(Math.max(chips.indexOf(event.target) + step, 0), chips.length - 1)].focus();
}

function choiceOf(name, options, choose) {
  const select = element('select', { 'aria-label': name, onchange: () => choose(select.selectedIndex) }, options.map((text) => element('option', {}, text)));
  return element('label', { class: 'choice' }, element('span', {}, name), select);
}

// A count beside each choice: how many rows it would leave, as the other choice stands.
function tellCounts(rows, { status, label }, { statuses, labels }, chips, choice) {
  const byStatus = tallied(rows.filter((row) => isChosen(row, { status: null, label })), (row) => row.status);
  const byLabel = tallied(rows.filter((row) => isChosen(row, { status, label: null })), (row) => row.figures.label);
  [null, ...statuses].forEach((each, place) => {
    chips.children[place].querySelector('.count').textContent = byStatus(each);
  });
  [null, ...labels].forEach((each, place) => {
    choice.querySelector('select').options[place].textContent = `${each === null ? 'all' : each} (${byLabel(each)})`;
  });
}

// How many rows have a value; of null, how many there are.
function tallied(rows, valueOf) {
  const counts = new Map([[null, rows.length]]);
  for (const row of rows) counts.set(valueOf(row), (counts.get(valueOf(row)) || 0) + 1);
  return (value) => (counts.get(value) || 0).toLocaleString('en');
}
