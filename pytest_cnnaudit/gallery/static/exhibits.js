'use strict';
// Draws exhibits: a "grid" of tiles, all "samples" as smaller tiles, or "rows" of pictures with one column
// each; what a "chart" and a "table" look like is said elsewhere.

const TINY = 16; // filters and the like: shown small, many at a glance
const LARGE = 360; // beyond it the lightbox serves better
const LARGE_SAMPLE = 128;
const SMALL = 112; // smaller pictures are enlarged by a whole factor, to keep their pixels square

function isTiled({ kind }) {
  return kind === 'grid' || kind === 'samples';
}

function displayWidth(picture, kind) {
  if (picture.width > SMALL) return Math.min(picture.width, kind === 'samples' ? LARGE_SAMPLE : LARGE);
  const wanted = { samples: 64, grid: picture.width <= TINY ? 56 : 144 }[kind] || 192;
  return picture.width * Math.max(1, Math.round(wanted / picture.width));
}

// `siblings` are the exhibits of the same measurement.
function exhibitSection(exhibit, index, siblings = [exhibit]) {
  if (exhibit.kind === 'chart') return chartSection(exhibit, siblings);
  return exhibit.kind === 'table' ? tableSection(exhibit) : picturesSection(exhibit);
}

function picturesSection(exhibit) {
  const { list, more, show } = rowList(exhibit);
  const section = element('section', { class: 'exhibit' },
    element('h3', {}, exhibit.title),
    exhibit.text && element('p', { class: 'how-to-read' }, exhibit.text),
    filterBar(exhibit, show),
    !isTiled(exhibit) && columnHeadings(exhibit),
    list,
    more);
  fitPictures(section, exhibit);
  show(exhibit.rows);
  return section;
}

// Tells the style sheet how large the pictures are shown.
function fitPictures(node, exhibit) {
  const pictures = exhibit.rows.flatMap((row) => row.pictures);
  const widest = (measure) => pictures.reduce((most, picture) => Math.max(most, measure(picture)), 1);
  const width = widest((picture) => displayWidth(picture, exhibit.kind));
  const height = widest((picture) => (displayWidth(picture, exhibit.kind) / picture.width) * picture.height);
  const columns = exhibit.kind === 'samples' ? 1 : exhibit.rows.reduce((most, row) => Math.max(most, row.pictures.length), 1);
  node.style.setProperty('--picture-width', `${width}px`);
  node.style.setProperty('--picture-height', `${Math.ceil(height)}px`);
  node.style.setProperty('--columns', columns);
  node.classList.add(isTiled(exhibit) ? 'exhibit-grid' : 'exhibit-rows');
  node.classList.toggle('is-samples', exhibit.kind === 'samples');
  node.classList.toggle('is-tiny', exhibit.kind !== 'samples' && width < 100);
  node.classList.toggle('is-three-abreast', columns === 3 || columns > 4); // on phones; else two
}

// ---- tiles and rows ----

function tile(exhibit, row) {
  const isSample = exhibit.kind === 'samples'; // its name, an id, is shown on demand
  const title = (!isSample && row.pictures.map((picture) => picture.caption).find(Boolean)) || row.title;
  const figures = figuresText(row);
  return element('li', {}, element('button', {
    class: `opener tile ${row.status ? `has-status tone-${statusTone(row.status)}` : ''}`, type: 'button', tabindex: -1,
  },
    element('span', { class: 'tile-pictures' }, row.pictures.slice(0, isSample ? 1 : undefined).map((picture) => pictureImage(picture))),
    element('span', { class: isSample ? 'visually-hidden' : 'tile-title' }, title),
    figures && element('span', { class: 'visually-hidden' }, figures)));
}

function figuresText(row) {
  const figures = Object.entries(row.figures).map(([name, value]) => `${name} ${value}`);
  return [row.status, ...figures].filter(Boolean).join(' · ');
}

function columnHeadings(exhibit) {
  const headings = exhibit.columns.map((name) => element('span', {}, name));
  return element('div', { class: 'column-headings', 'aria-hidden': 'true' }, element('span'), headings);
}

// Every picture opens the row; one of them is enough as a stop for the keyboard.
function sampleRow(exhibit, row) {
  const pictures = row.pictures.map((picture, column) => element('figure', {},
    exhibit.columns[column] && element('p', { class: 'column-name' }, exhibit.columns[column]),
    element('button', { class: column === 0 ? 'opener' : null, type: 'button', tabindex: -1 }, pictureImage(picture)),
    picture.caption && element('figcaption', {}, picture.caption)));
  return element('li', {},
    element('div', { class: 'sample-facts' },
      element('h4', {}, row.title),
      row.status && statusBadge(row.status),
      definitionList('figures', Object.entries(row.figures))),
    pictures);
}

// ---- what a tile's figures are, beside the tile ----

const tooltip = element('div', { class: 'tooltip', 'aria-hidden': 'true', hidden: true });
document.body.append(tooltip);
window.addEventListener('scroll', hideTooltip, { passive: true });

function listenForTooltips(list, rowOf) {
  const tell = ({ target }) => {
    const button = target.closest('.tile');
    if (!button) return hideTooltip();
    const row = rowOf(button.parentElement);
    return showTooltip(button, row, figuresText(row));
  };
  for (const type of ['pointerover', 'focusin']) list.addEventListener(type, tell);
  for (const type of ['pointerleave', 'focusout']) list.addEventListener(type, hideTooltip);
}

function showTooltip(target, { title }, ...lines) {
  tooltip.replaceChildren(element('b', {}, title), ...lines.map((line) => element('div', {}, line)));
  tooltip.hidden = false;
  const anchor = target.getBoundingClientRect();
  const centred = anchor.left + anchor.width / 2 - tooltip.offsetWidth / 2;
  const rightmost = document.documentElement.clientWidth - tooltip.offsetWidth - 8;
  const above = anchor.top - tooltip.offsetHeight - 8;
  tooltip.style.left = `${Math.max(8, Math.min(centred, rightmost))}px`;
  tooltip.style.top = `${above > 8 ? above : anchor.bottom + 8}px`;
}

function hideTooltip() {
  tooltip.hidden = true;
}
