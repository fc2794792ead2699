'use strict';
// Draws tables: rows of text with a verdict each, and plain ones of numbers. Where a table
// has little room its rows become blocks, each cell beside the name of its column.

const SHORT_CELL = 32; // letters: what is longer is prose
const WIDE = 6; // columns: more of them fit on a sheet of paper only where words may break,
const BEYOND_PAPER = 9; // and still more not even then: there each row becomes a block

function tableSection(table) {
  const hasVerdicts = table.rows.some((row) => row.status) && !table.columns.includes('verdict');
  const columns = hasVerdicts ? [table.columns[0], 'verdict', ...table.columns.slice(1)] : table.columns;
  const rows = table.rows.map(({ cells, status }) => {
    const badge = status && verdictBadge(status);
    if (hasVerdicts) return [cells[0], badge, ...cells.slice(1)];
    return cells.map((cell, column) => (badge && table.columns[column] === 'verdict' ? withBadge(badge, cell === status ? '' : cell) : cell));
  });
  return element('section', { class: 'exhibit exhibit-table' },
    element('h3', {}, table.title),
    table.text && element('p', { class: 'how-to-read' }, table.text),
    rows.length ? textTable(columns, rows, { label: table.title, statuses: table.rows.map((row) => row.status) }) : element('p', { class: 'facts' }, 'There are no rows.'));
}

function verdictBadge(status) {
  const tone = statusTone(status);
  return element('span', { class: `badge tone-${tone}` }, mark(tone), status);
}

function withBadge(badge, text) {
  return element('span', { class: 'with-badge' }, badge, text && ' ', text && element('span', {}, text));
}

// Cells are texts or elements. `groups`, of a name and the number of columns it spans, stand over the columns after
// the first. `display: block` takes a table's meaning away, so the roles say it.
function textTable(columns, rows, { label, statuses = [], groups = [] }) {
  const numeric = columns.map((_, column) => column > 0 && isNumeric(rows.map((row) => row[column])));
  const lengths = columns.map((name, column) => rows.reduce((most, row) => Math.max(most, textLength(row[column])), name.length));
  const short = lengths.filter((length) => length <= SHORT_CELL);
  const hasProse = short.length < columns.length;
  const fits = short.reduce((sum, length) => sum + length, 0) <= 80; // letters beside which prose has room
  const owners = [null, ...groups.flatMap(({ name, span }) => Array(span).fill(name))];
  const place = (column) => [
    numeric[column] && 'is-numeric',
    fits && lengths[column] <= SHORT_CELL && 'is-short',
    owners[column] && owners[column] !== owners[column - 1] && 'starts-group',
  ].filter(Boolean).join(' ') || null;
  const cell = (row, name, column) => {
    const [tag, role] = column === 0 ? ['th', 'rowheader'] : ['td', 'cell'];
    return element(tag, { role, scope: column === 0 ? 'row' : null, class: place(column) },
      column > 0 && element('span', { class: 'column-name', 'aria-hidden': 'true' }, [owners[column], name].filter(Boolean).join(' · ')),
      element('span', {}, row[column]));
  };
  return element('div', { class: 'table-frame', tabindex: '0', role: 'group', 'aria-label': label }, element('table', { class: ['text-table', hasProse && 'has-prose', ...paperClasses(columns.length)].filter(Boolean).join(' '), role: 'table' },
    element('thead', { role: 'rowgroup' },
      groups.length > 0 && element('tr', { role: 'row', class: 'table-groups' },
        element('td', { role: 'cell' }),
        groups.map(({ name, span }) => element('th', { role: 'columnheader', scope: 'colgroup', colspan: span, class: 'starts-group' }, breakable(name)))),
      element('tr', { role: 'row' },
        columns.map((name, column) => element('th', { role: 'columnheader', scope: 'col', class: place(column) }, name)))),
    element('tbody', { role: 'rowgroup' }, rows.map((row, index) =>
      element('tr', { role: 'row', class: `tone-${statusTone(statuses[index])}` },
        columns.map((name, column) => cell(row, name, column)))))));
}

function paperClasses(columns) {
  return [columns > WIDE && 'is-wide', columns > BEYOND_PAPER && 'is-beyond-paper'].filter(Boolean);
}

function textLength(cell) {
  return (cell.textContent ?? cell).length;
}

function isNumeric(texts) {
  const told = texts.filter((text) => text !== '');
  return told.length > 0 && told.every((text) => typeof text === 'string' && /^[-+−]?[\d.,]+(e-?\d+)?\s?%?( of [\d,]+)?$/.test(text));
}

// Numbers, in columns of their own width; a wide one scrolls inside its frame.
function dataTable(columns, rows) {
  return element('div', { class: 'data-frame', tabindex: '0', role: 'region', 'aria-label': 'The numbers' },
    element('table', { class: 'data-table' },
      element('thead', {}, element('tr', {}, columns.map((name) => element('th', { scope: 'col' }, name)))),
      element('tbody', {}, rows.map((row) => element('tr', {}, row.map((text, column) =>
        element(column === 0 ? 'th' : 'td', { scope: column === 0 ? 'row' : null }, text)))))));
}
