'use strict';
// Draws exhibits: a "grid" of tiles, or "rows" of pictures with one column each; what a "chart"
// and a "table" look like is said elsewhere. Long exhibits appear in batches as the reader scrolls.

const BATCH = 60;
const TINY = 16; // filters and the like: shown small, many at a glance
const LARGE = 360; // beyond it the lightbox serves better
const SMALL = 112; // smaller pictures are enlarged by a whole factor, to keep their pixels square

function displayWidth(picture, isGrid) {
  if (picture.width > SMALL) return Math.min(picture.width, LARGE);
  const wanted = isGrid ? (picture.width <= TINY ? 56 : 144) : 192;
  return picture.width * Math.max(1, Math.round(wanted / picture.width));
}

function exhibitSection(exhibit) {
  const draw = { chart: chartSection, table: tableSection }[exhibit.kind] || picturesSection;
  return draw(exhibit);
}

function picturesSection(exhibit) {
  const list = element('ol', { class: 'exhibit-list' });
  const isGrid = exhibit.kind === 'grid';
  const section = element('section', { class: `exhibit ${isGrid ? 'exhibit-grid' : 'exhibit-rows'}` },
    element('h3', {}, exhibit.title),
    exhibit.text && element('p', { class: 'how-to-read' }, exhibit.text),
    !isGrid && columnHeadings(exhibit),
    list);
  fitColumns(section, exhibit);
  const renderRow = isGrid ? tile : sampleRow;
  appendInBatches(list, exhibit.rows, (row, index) => renderRow(exhibit, row, () => openFrom(list, exhibit, index)));
  list.addEventListener('keydown', (event) => moveInside(list, event));
  list.addEventListener('focusin', (event) => makeOnlyTabStop(list, event.target));
  const first = list.querySelector('.opener');
  if (first) first.tabIndex = 0;
  return section;
}

function fitColumns(section, exhibit) {
  const pictures = exhibit.rows.flatMap((row) => row.pictures);
  const width = pictures.reduce((widest, picture) => Math.max(widest, displayWidth(picture, exhibit.kind === 'grid')), 1);
  const columns = exhibit.rows.reduce((most, row) => Math.max(most, row.pictures.length), 1);
  section.style.setProperty('--picture-width', `${width}px`);
  section.style.setProperty('--columns', columns);
  section.classList.toggle('is-tiny', width < 100);
  section.classList.toggle('is-three-abreast', columns === 3 || columns > 4); // on phones; else two
}

function openFrom(list, exhibit, index) {
  hideTooltip();
  openLightbox(exhibit, index, (shown) => list.children[shown] && list.children[shown].querySelector('.opener'));
}

// ---- tiles and rows ----

function tile(exhibit, row, open) {
  const tone = STATUS_TONES[row.status];
  const figures = figuresText(row);
  const button = element('button', {
    class: `opener tile ${tone ? `tone-${tone}` : ''}`, type: 'button', tabindex: -1, onclick: open,
  },
    element('span', { class: 'tile-pictures' }, row.pictures.map(pictureImage)),
    element('span', { class: 'tile-title' }, row.pictures.map((picture) => picture.caption).find(Boolean) || row.title),
    figures && element('span', { class: 'visually-hidden' }, figures));
  for (const type of ['pointerenter', 'focus']) button.addEventListener(type, () => showTooltip(button, row, figures));
  for (const type of ['pointerleave', 'blur']) button.addEventListener(type, hideTooltip);
  return element('li', {}, button);
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
function sampleRow(exhibit, row, open) {
  const pictures = row.pictures.map((picture, column) => element('figure', {},
    exhibit.columns[column] && element('p', { class: 'column-name' }, exhibit.columns[column]),
    element('button', { class: column === 0 ? 'opener' : null, type: 'button', tabindex: -1, onclick: open }, pictureImage(picture)),
    picture.caption && element('figcaption', {}, picture.caption)));
  return element('li', {},
    element('div', { class: 'sample-facts' },
      element('h4', {}, row.title),
      row.status && statusBadge(row.status),
      definitionList('figures', Object.entries(row.figures))),
    pictures);
}

// ---- batches ----

function appendInBatches(list, rows, renderRow) {
  let shown = 0;
  const more = element('button', { class: 'more', type: 'button', onclick: showNext });
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) showNext();
  }, { rootMargin: '600px' });

  function showNext() {
    const batch = rows.slice(shown, shown + BATCH);
    list.append(...batch.map((row, offset) => renderRow(row, shown + offset)));
    shown += batch.length;
    observer.disconnect();
    more.textContent = `Showing ${shown.toLocaleString('en')} of ${rows.length.toLocaleString('en')}: show more`;
    // Observed anew, it reports again if it is still in view after this batch.
    if (shown < rows.length) observer.observe(more);
    else more.remove();
  }

  showNext();
  if (shown < rows.length) list.after(more);
}

// ---- keyboard: an exhibit is one stop for Tab, arrows move inside ----

function makeOnlyTabStop(list, target) {
  if (!target.matches('.opener')) return;
  for (const opener of list.querySelectorAll('.opener[tabindex="0"]')) opener.tabIndex = -1;
  target.tabIndex = 0;
}

function moveInside(list, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const openers = [...list.querySelectorAll('.opener')];
  const top = (opener) => opener.getBoundingClientRect().top;
  const perLine = Math.max(1, openers.filter((opener) => top(opener) === top(openers[0])).length);
  const steps = {
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perLine, ArrowDown: perLine, Home: -Infinity, End: Infinity,
  };
  if (!(event.key in steps)) return;
  event.preventDefault();
  event.stopPropagation(); // the page's own arrows lead to other tests
  const wanted = openers.indexOf(event.target.closest('.opener')) + steps[event.key];
  openers[Math.min(Math.max(wanted, 0), openers.length - 1)].focus();
}

// ---- what a tile's figures are, beside the tile ----

const tooltip = element('div', { class: 'tooltip', 'aria-hidden': 'true', hidden: true });
document.body.append(tooltip);
window.addEventListener('scroll', hideTooltip, { passive: true });

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
