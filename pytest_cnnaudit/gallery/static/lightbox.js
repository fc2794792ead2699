'use strict';
// Shows one row of an exhibit large: its pictures, captions and figures. While it is open,
// the address of the page is that of the row.

const STATUS_TONES = {
  fooled: 'bad', misclassified: 'bad', miss: 'bad', robust: 'good', hit: 'good', passed: 'good', failed: 'bad', note: 'warn',
};
const ADDRESS_DELAY = 250; // milliseconds: browsers refuse an address that changes with every repeat of a key
const SWIPE = 60; // pixels

function statusTone(status) {
  return Object.hasOwn(STATUS_TONES, status) ? STATUS_TONES[status] : 'idle';
}

function statusBadge(status) {
  return element('span', { class: `badge tone-${statusTone(status)}` }, status);
}

const lightbox = {
  dialog: document.getElementById('lightbox'),
  test: null,
  exhibit: null,
  index: 0,
  opener: () => null, // the button that stands for a row on the page
  hash: '', // the address that it wrote last
  timer: 0,
  pressed: null, // where the pointer went down
};

function openLightbox(exhibit, index, opener) {
  Object.assign(lightbox, { test: currentTest(), exhibit, opener });
  lightbox.dialog.showModal();
  showInLightbox(index);
  showAddress();
  document.getElementById(exhibit.rows.length > 1 ? 'lightbox-next' : 'lightbox-close').focus();
}

function showInLightbox(index) {
  const { exhibit, dialog } = lightbox;
  const row = exhibit.rows[index];
  lightbox.index = index;
  document.getElementById('lightbox-title').textContent = row.title || exhibit.title;
  document.getElementById('lightbox-exhibit').textContent = row.title ? exhibit.title : '';
  document.getElementById('lightbox-position').textContent = `${index + 1} / ${exhibit.rows.length}`;
  for (const side of ['previous', 'next']) document.getElementById(`lightbox-${side}`).hidden = exhibit.rows.length < 2;
  document.getElementById('lightbox-facts').replaceChildren(...[
    row.status && statusBadge(row.status),
    definitionList('figures', Object.entries(row.figures)),
  ].filter(Boolean));
  showPictures(exhibit, row);
  hideCopied();
  dialog.scrollTop = 0;
  clearTimeout(lightbox.timer);
  lightbox.timer = setTimeout(showAddress, ADDRESS_DELAY);
}

// Wraps around, so holding an arrow key walks through all rows.
function stepLightbox(step) {
  const count = lightbox.exhibit.rows.length;
  showInLightbox((lightbox.index + step + count) % count);
}

function closeOpenDialogs() {
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
}

// ---- the address ----

function rowAddress() {
  return sampleAddress(lightbox.test, lightbox.exhibit.rows[lightbox.index]);
}

function showAddress() {
  clearTimeout(lightbox.timer);
  if (!lightbox.dialog.open) return;
  history.replaceState(null, '', rowAddress());
  lightbox.hash = location.hash;
}

// A page opened from disk may not reach the clipboard; its address can always be copied by hand.
async function copyAddress() {
  const address = new URL(rowAddress(), location.href).href;
  const field = document.getElementById('lightbox-address');
  const told = document.getElementById('lightbox-copied');
  try {
    await navigator.clipboard.writeText(address);
    field.hidden = true;
    told.textContent = 'copied';
  } catch {
    field.hidden = false;
    field.value = address;
    field.select();
    told.textContent = 'selected: copy it with the keyboard or the menu';
  }
}

function hideCopied() {
  document.getElementById('lightbox-address').hidden = true;
  document.getElementById('lightbox-copied').textContent = '';
}

// ---- buttons, keys, swipes ----

document.getElementById('lightbox-previous').addEventListener('click', () => stepLightbox(-1));
document.getElementById('lightbox-next').addEventListener('click', () => stepLightbox(1));
document.getElementById('lightbox-close').addEventListener('click', () => lightbox.dialog.close());
document.getElementById('lightbox-copy').addEventListener('click', copyAddress);

const LIGHTBOX_KEYS = {
  ArrowLeft: () => stepLightbox(-1),
  ArrowRight: () => stepLightbox(1),
  k: () => stepLightbox(-1),
  j: () => stepLightbox(1),
  Home: () => showInLightbox(0),
  End: () => showInLightbox(lightbox.exhibit.rows.length - 1),
  '+': () => zoomBy(2),
  '=': () => zoomBy(2),
  '-': () => zoomBy(1 / 2),
  0: () => zoomBy(0),
  1: () => chooseView(0),
  2: () => chooseView(1),
  3: () => chooseView(2),
  4: () => chooseView(3),
  5: () => chooseView(4),
  '?': () => document.getElementById('help').showModal(),
};

const SHIFTED_KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Fields keep the keys that change them.
function belongsToField({ target, key }) {
  return target.matches('select, input[readonly]') || (target.matches('input') && /^(Arrow|Home|End)/.test(key));
}

lightbox.dialog.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || belongsToField(event)) return;
  const shifted = event.shiftKey && SHIFTED_KEYS[event.key];
  const act = shifted ? () => movePixel(...shifted) : Object.hasOwn(LIGHTBOX_KEYS, event.key) && LIGHTBOX_KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// A click beside the pictures closes, as a click on a backdrop would; the end of a drag does not.
function isBeside(target) {
  return target === lightbox.dialog || target.matches('#lightbox-body, .stage, .stage > figure');
}

lightbox.dialog.addEventListener('pointerdown', (event) => { lightbox.pressed = event; });
lightbox.dialog.addEventListener('click', (event) => {
  if (isBeside(event.target) && lightbox.pressed && isBeside(lightbox.pressed.target)) lightbox.dialog.close();
});

// Drags inside a picture that is zoomed, or on the slider, are for the picture: see zoom.js.
lightbox.dialog.addEventListener('pointerup', (event) => {
  const { pressed } = lightbox;
  if (event.pointerType !== 'touch' || !pressed || pressed.pointerId !== event.pointerId || isForPicture(pressed)) return;
  const [x, y] = [event.clientX - pressed.clientX, event.clientY - pressed.clientY];
  if (Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y) && pressed.target.closest('.stage')) stepLightbox(x < 0 ? 1 : -1);
});

// Focus returns to the row last looked at, where it is on the page already.
lightbox.dialog.addEventListener('close', () => {
  if (lightbox.dialog.open) return; // by now it shows what another address names
  clearTimeout(lightbox.timer);
  if (location.hash === lightbox.hash) history.replaceState(null, '', testAddress(lightbox.test));
  const opener = lightbox.opener(lightbox.index);
  if (opener) opener.focus();
});
