'use strict';
// The list of an exhibit's rows. A long one consists of batches; each has its place from the start, and is
// drawn when the reader comes near it. The lightbox walks through the rows that the list shows, no others.

const FIRST = 60; // rows that are drawn at once, in sight or not
const BATCH = 24; // pictures, about as many as a frame has time for
const NEAR = 600; // pixels

// `show(rows)` fills the list with these rows of the exhibit; `more` is its button to unfold it.
function rowList(exhibit) {
  const list = element('div', { class: 'exhibit-list' });
  const more = element('button', { class: 'more', type: 'button', onclick: unfold });
  const drawn = isTiled(exhibit) ? tile : sampleRow;
  let shown = exhibit;
  let perLine = 1;
  let size = FIRST; // of a batch, in rows
  let isFolded = false; // to its first lines
  let mayFold = exhibit.kind === 'samples';

  function show(rows) {
    shown = rows === exhibit.rows ? exhibit : { ...exhibit, rows };
    isFolded = mayFold && rows.length > FIRST;
    list.classList.toggle('is-long', rows.length > FIRST);
    list.classList.toggle('is-folded', isFolded);
    more.hidden = !isFolded;
    more.textContent = `Show all ${rows.length.toLocaleString('en')}`;
    layOut();
  }

  // Batches end with their lines, so that no line of tiles is cut short by the next batch.
  function layOut() {
    perLine = tilesPerLine();
    size = batchSize();
    const starts = [];
    for (let start = 0; start < shown.rows.length; start += size) starts.push(start);
    list.replaceChildren(...starts.map((start) => batch(start, Math.min(start + size, shown.rows.length))));
    for (let number = 0; number * size < Math.min(FIRST, shown.rows.length); number += 1) draw(number);
    drawInSight();
    const first = list.querySelector('.opener');
    if (first) first.tabIndex = 0;
  }

  function batchSize() {
    if (shown.rows.length <= FIRST) return FIRST;
    const perRow = exhibit.kind === 'samples' ? 1 : Math.max(1, shown.rows[0].pictures.length);
    return perLine * Math.max(1, Math.floor(BATCH / (perLine * perRow)));
  }

  function batch(start, end) {
    const all = shown.rows.length;
    const node = element('ol', { start: start + 1, 'aria-label': all > FIRST ? `${start + 1} to ${end} of ${all}` : null });
    node.style.setProperty('--lines', Math.ceil((end - start) / perLine));
    return node;
  }

  // Unknown before the list is on the page, and of no matter where all rows fit into one batch.
  function tilesPerLine() {
    const item = list.querySelector('li');
    if (!isTiled(exhibit) || shown.rows.length <= FIRST || !item || !list.clientWidth) return 1;
    const gap = parseFloat(getComputedStyle(list).columnGap);
    return Math.max(1, Math.floor((list.clientWidth + gap) / (item.offsetWidth + gap)));
  }

  function draw(number) {
    const node = list.children[number];
    if (node.firstChild) return;
    node.append(...shown.rows.slice(number * size, (number + 1) * size).map((row) => drawn(exhibit, row)));
  }

  function drawInSight() {
    if (isFolded || !list.isConnected || matchMedia('print').matches) return; // paper shows what has been seen
    const [from, to] = batchesInSight(list);
    for (let number = from; number < to; number += 1) draw(number);
  }

  function indexOf(item) {
    const node = item.parentElement;
    return [...list.children].indexOf(node) * size + [...node.children].indexOf(item);
  }

  function opener(index) {
    draw(Math.floor(index / size));
    return list.children[Math.floor(index / size)].children[index % size].querySelector('.opener');
  }

  function unfold() {
    isFolded = mayFold = false;
    list.classList.remove('is-folded');
    more.hidden = true;
    drawInSight();
  }

  // The width may have changed, and with it how many tiles a line holds.
  function fit() {
    if (perLine === tilesPerLine()) return drawInSight();
    const focused = list.contains(document.activeElement) ? indexOf(document.activeElement.closest('li')) : null;
    layOut();
    return focused !== null && opener(focused)?.focus({ preventScroll: true });
  }

  Object.assign(list, { drawInSight, opener });
  new ResizeObserver(fit).observe(list);
  list.addEventListener('click', ({ target }) => {
    if (!target.closest('button')) return;
    hideTooltip();
    openLightbox(shown, indexOf(target.closest('li')), opener);
  });
  list.addEventListener('keydown', (event) => {
    const item = event.target.closest('li');
    if (item) moveInside(event, indexOf(item), shown.rows.length, itemsPerLine(list), opener);
  });
  list.addEventListener('focusin', ({ target }) => {
    makeOnlyTabStop(list, target);
    if (isFolded && target.getBoundingClientRect().top >= list.getBoundingClientRect().bottom) unfold();
  });
  if (isTiled(exhibit)) listenForTooltips(list, (item) => shown.rows[indexOf(item)]);
  return { list, more, show };
}

// ---- what is in sight ----

window.addEventListener('scroll', () => {
  for (const list of document.querySelectorAll('.exhibit-list.is-long')) list.drawInSight();
}, { passive: true });

// From which to which batch the reader sees, or is about to see.
function batchesInSight({ children }) {
  return [firstThat(children, (node) => node.getBoundingClientRect().bottom > -NEAR),
    firstThat(children, (node) => node.getBoundingClientRect().top > innerHeight + NEAR)];
}

// By bisection: what holds for one holds for those after it.
function firstThat(nodes, holds) {
  let [low, high] = [0, nodes.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(nodes[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

// ---- keyboard: an exhibit is one stop for Tab, arrows move inside ----

function makeOnlyTabStop(list, target) {
  if (!target.matches('.opener')) return;
  for (const opener of list.querySelectorAll('.opener[tabindex="0"]')) opener.tabIndex = -1;
  target.tabIndex = 0;
}

function moveInside(event, index, count, perLine, opener) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const steps = {
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perLine, ArrowDown: perLine, Home: -Infinity, End: Infinity,
  };
  if (!(event.key in steps)) return;
  event.preventDefault();
  event.stopPropagation(); // the page's own arrows lead to other tests
  const next = opener(Math.min(Math.max(index + steps[event.key], 0), count - 1));
  if (next) next.focus();
}

function itemsPerLine(list) {
  const { children } = list.firstElementChild;
  let count = 1;
  while (count < children.length && children[count].offsetTop === children[0].offsetTop) count += 1;
  return count;
}
