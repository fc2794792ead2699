'use strict';
// Shows one row of an exhibit large: its pictures side by side, captions and figures.

const STATUS_TONES = {
  fooled: 'bad', miss: 'bad', robust: 'good', hit: 'good', passed: 'good', failed: 'bad', note: 'warn',
};

function statusBadge(status) {
  return element('span', { class: `badge tone-${STATUS_TONES[status] || 'idle'}` }, status);
}

const lightbox = {
  dialog: document.getElementById('lightbox'),
  exhibit: null,
  index: 0,
  opener: () => null, // the button that stands for a row on the page
};

function openLightbox(exhibit, index, opener) {
  Object.assign(lightbox, { exhibit, opener });
  showInLightbox(index);
  lightbox.dialog.showModal();
  document.getElementById(exhibit.rows.length > 1 ? 'lightbox-next' : 'lightbox-close').focus();
}

function showInLightbox(index) {
  const { exhibit } = lightbox;
  const row = exhibit.rows[index];
  lightbox.index = index;
  document.getElementById('lightbox-title').textContent = row.title || exhibit.title;
  document.getElementById('lightbox-exhibit').textContent = exhibit.title;
  document.getElementById('lightbox-position').textContent = `${index + 1} / ${exhibit.rows.length}`;
  for (const side of ['previous', 'next']) document.getElementById(`lightbox-${side}`).hidden = exhibit.rows.length < 2;
  const pictures = row.pictures.map((picture, column) => element('figure', {},
    exhibit.columns[column] && element('p', { class: 'column-name' }, exhibit.columns[column]),
    pictureImage(picture),
    picture.caption && element('figcaption', {}, picture.caption)));
  const gallery = element('div', { class: 'lightbox-pictures' }, pictures);
  gallery.style.setProperty('--columns', pictures.length);
  document.getElementById('lightbox-body').replaceChildren(gallery, element('div', { class: 'lightbox-facts' },
    row.status && statusBadge(row.status),
    definitionList('figures', Object.entries(row.figures))));
}

// Wraps around, so holding an arrow key walks through all rows.
function stepLightbox(step) {
  const count = lightbox.exhibit.rows.length;
  showInLightbox((lightbox.index + step + count) % count);
}

function closeOpenDialogs() {
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
}

document.getElementById('lightbox-previous').addEventListener('click', () => stepLightbox(-1));
document.getElementById('lightbox-next').addEventListener('click', () => stepLightbox(1));
document.getElementById('lightbox-close').addEventListener('click', () => lightbox.dialog.close());

lightbox.dialog.addEventListener('keydown', (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, k: -1, j: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  stepLightbox(step);
});

// A click beside the pictures closes, as a click on a backdrop would.
lightbox.dialog.addEventListener('click', (event) => {
  if (event.target === lightbox.dialog || event.target.id === 'lightbox-body') lightbox.dialog.close();
});

// Focus returns to the row last looked at, where it is on the page already.
lightbox.dialog.addEventListener('close', () => {
  const opener = lightbox.opener(lightbox.index);
  if (opener) opener.focus();
});
