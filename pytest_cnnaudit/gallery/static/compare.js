'use strict';
// The ways to compare two pictures of a row: side by side, by a slider, overlaid, as their difference.

const VIEWS = [...document.querySelectorAll('#views input')];
const stage = document.getElementById('lightbox-stage');

const comparison = {
  exhibit: null,
  row: null,
  view: 'side-by-side', // kept while the reader walks through samples, as are the two pictures
  pair: [0, 1],
  split: { slider: 50, overlay: 50 }, // percent
};

function showPictures(exhibit, row) {
  Object.assign(comparison, { exhibit, row });
  const places = comparablePlaces(row.pictures);
  const isChosen = comparison.pair.every((place) => places.includes(place));
  if (places.length && !isChosen) comparison.pair = places.slice(0, 2);
  document.getElementById('views').hidden = !places.length;
  for (const [side, select] of pairSelects().entries()) {
    select.replaceChildren(...places.map((place) => element('option', { value: place }, pictureName(exhibit, row, place))));
    select.value = comparison.pair[side];
  }
  forgetPixel();
  drawStage();
  zoomBy(0);
}

// Pictures can be laid over one another where they are of one size: the first that two or more share.
function comparablePlaces(pictures) {
  const places = pictures.map((_, place) => place);
  const alike = (place) => places.filter((other) => isSameSize(pictures[place], pictures[other]));
  return places.map(alike).find((group) => group.length > 1) || [];
}

function isSameSize(one, other) {
  return one.width === other.width && one.height === other.height;
}

function pictureName(exhibit, row, place) {
  return (exhibit.columns && exhibit.columns[place]) || row.pictures[place].caption || `picture ${place + 1}`;
}

function pairSelects() {
  return [document.getElementById('pair-a'), document.getElementById('pair-b')];
}

// ---- drawing ----

function currentView() {
  return document.getElementById('views').hidden ? 'side-by-side' : comparison.view;
}

function drawStage() {
  const view = currentView();
  const isSplit = view in comparison.split;
  for (const input of VIEWS) input.checked = input.value === view;
  document.getElementById('pair').hidden = view === 'side-by-side';
  document.getElementById('split-label').hidden = !isSplit;
  const figures = view === 'side-by-side' ? plainFigures() : [comparedFigure(view)];
  const lines = figures.length > 6 ? 2 : 1;
  stage.className = `stage view-${view}`;
  stage.style.setProperty('--columns', Math.ceil(figures.length / lines));
  stage.style.setProperty('--lines', lines);
  stage.replaceChildren(...figures);
  if (isSplit) moveSplit(comparison.split[view]);
  applyZoom();
  drawPixel();
}

function plainFigures() {
  const { exhibit, row } = comparison;
  return row.pictures.map((picture, place) => figureFor(picture,
    exhibit.columns && exhibit.columns[place] && element('p', { class: 'column-name' }, exhibit.columns[place]),
    pictureFrame([picture]),
    picture.caption && element('figcaption', {}, picture.caption)));
}

function comparedFigure(view) {
  const { exhibit, row, pair } = comparison;
  const [a, b] = pair.map((place) => row.pictures[place]);
  const [nameA, nameB] = pair.map((place) => pictureName(exhibit, row, place));
  const captions = [[nameA, a], [nameB, b]].map(([name, { caption }]) => (caption && caption !== name ? `${name}: ${caption}` : name));
  const reading = {
    slider: 'A to the left of the handle, B to the right.',
    overlay: 'A over B.',
    difference: 'The absolute difference |A − B| of the 8-bit values: black where they are equal.',
    difference10: 'The absolute difference |A − B| of the 8-bit values, ten times as bright: 26 of 255 and more are full.',
  }[view];
  const shown = pictureFrame([b, a]); // the later is on top
  if (view === 'slider') shown.append(element('div', { class: 'split-handle', 'aria-hidden': 'true' }));
  if (view.startsWith('difference')) {
    for (const [name, value] of [['role', 'img'], ['aria-label', `Absolute difference of ${nameA} and ${nameB}`]]) shown.setAttribute(name, value);
  }
  return figureFor(a, shown,
    element('figcaption', {}, element('b', {}, 'A'), ` ${captions[0]} · `, element('b', {}, 'B'), ` ${captions[1]}`),
    element('p', { class: 'how-to-read' }, reading));
}

function figureFor({ width, height }, ...children) {
  const figure = element('figure', {}, ...children);
  figure.style.setProperty('--aspect', width / height);
  return figure;
}

// A window on pictures that lie over one another; what it shows of them follows from the zoom.
function pictureFrame(pictures) {
  const [{ width, height }] = pictures;
  return element('div', { class: 'frame', 'data-width': width, 'data-height': height },
    element('div', { class: 'layers' }, pictures.map((picture) => layer(pictureImage(picture, { full: true })))),
    layer(element('span', { class: 'pixel-mark', hidden: true })));
}

function layer(content) {
  return element('div', { class: 'layer' }, element('div', { class: 'plane' }, content));
}

// ---- choosing ----

function chooseView(number) {
  if (document.getElementById('views').hidden) return;
  comparison.view = VIEWS[number].value;
  drawStage();
}

// A picture chosen on both sides changes places with the other.
function choosePicture(side, place) {
  const other = comparison.pair[1 - side] === place ? comparison.pair[side] : comparison.pair[1 - side];
  comparison.pair = side === 0 ? [place, other] : [other, place];
  for (const [each, select] of pairSelects().entries()) select.value = comparison.pair[each];
  drawStage();
}

function moveSplit(percent) {
  const view = currentView();
  const value = Math.min(Math.max(percent, 0), 100);
  comparison.split[view] = value;
  stage.style.setProperty('--split', `${value}%`);
  stage.style.setProperty('--opacity', value / 100);
  const input = document.getElementById('split');
  const name = pictureName(comparison.exhibit, comparison.row, comparison.pair[0]);
  input.value = value;
  input.setAttribute('aria-valuetext', `${Math.round(value)}% ${name}`);
  document.getElementById('split-text').textContent = `${Math.round(value)}% A`;
}

for (const [number, input] of VIEWS.entries()) input.addEventListener('change', () => chooseView(number));
for (const [side, select] of pairSelects().entries()) {
  select.addEventListener('change', () => choosePicture(side, Number(select.value)));
}
document.getElementById('split').addEventListener('input', (event) => moveSplit(Number(event.target.value)));
