'use strict';
// Tells the values of the pixel under the pointer. A page opened from disk may show a picture's file but not
// read it, so a script beside each picture hands over its bytes when they are wanted.

const PIXELS_KEPT = 16; // pictures
const SPOKEN_DELAY = 500; // milliseconds

const pixels = {
  at: null, // {x, y, width, height}: a pixel, in pictures of that size
  kept: new Map(), // a picture's src → a promise of {width, values, isGrey}, or of null where there is none
  received: new Map(), // src → data URL, between a script's run and its load event
  timer: 0,
};

// Called by the scripts.
function cnnauditPixels(src, dataUrl) {
  pixels.received.set(src, dataUrl);
}

function pixelsOf(picture) {
  const known = pixels.kept.get(picture.src) || loadScript(picture.numbers)
    .then(() => decodePixels(picture))
    .catch(() => null); // a report that was moved without its data shows its pictures all the same
  pixels.kept.delete(picture.src);
  pixels.kept.set(picture.src, known); // the one used last is the last to go
  if (pixels.kept.size > PIXELS_KEPT) pixels.kept.delete(pixels.kept.keys().next().value);
  return known;
}

function loadScript(src) {
  return new Promise((resolve, reject) => {
    const script = element('script', { src, onload: resolve, onerror: reject });
    document.head.append(script);
    script.addEventListener('load', () => script.remove());
  });
}

async function decodePixels({ src }) {
  if (!pixels.received.has(src)) return null;
  const image = new Image();
  image.src = pixels.received.get(src);
  pixels.received.delete(src);
  await image.decode();
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const context = element('canvas', { width, height }).getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return { width, values: data, isGrey: data.every((value, place) => place % 4 === 3 || value === data[place - place % 4]) };
}

function valuesAt({ width, values, isGrey }, { x, y }) {
  const start = 4 * (y * width + x);
  return [...values.slice(start, start + (isGrey ? 1 : 3))];
}

// ---- which pixel ----

function hasNumbers() {
  return comparison.row.pictures.some((picture) => picture.numbers);
}

function forgetPixel() {
  pixels.at = null;
}

function pixelPlace() {
  const { at } = pixels;
  return at && { x: (at.x + 0.5) / at.width, y: (at.y + 0.5) / at.height };
}

function showPixelAt(event, frame) {
  const place = placeInPicture(event, frame);
  choosePixel(place, Number(frame.dataset.width), Number(frame.dataset.height));
}

function choosePixel({ x, y }, width, height) {
  if (!readablePlaces({ width, height }).length) return;
  const within = (share, size) => Math.min(Math.max(Math.floor(share * size), 0), size - 1);
  const next = { x: within(x, width), y: within(y, height), width, height };
  if (pixels.at && Object.keys(next).every((key) => next[key] === pixels.at[key])) return;
  pixels.at = next;
  drawPixel();
}

// By keyboard; where there are no numbers to read, the same keys pan.
function movePixel(stepX, stepY) {
  if (!hasNumbers()) {
    const step = 1 / 8 / zoom.factor;
    Object.assign(zoom, { left: zoom.left + stepX * step, top: zoom.top + stepY * step });
    applyZoom();
    return;
  }
  const { width, height } = pixels.at || comparison.row.pictures.find((picture) => picture.numbers);
  const place = pixelPlace();
  const next = place ? { x: place.x + stepX / width, y: place.y + stepY / height } : placeInView();
  choosePixel(next, width, height);
  reveal(pixelPlace(), Math.min(0.5 / Math.min(width, height), 0.5 / zoom.factor));
}

// The row's pictures of a size that can be read.
function readablePlaces(size) {
  return comparison.row.pictures.map((_, place) => place)
    .filter((place) => comparison.row.pictures[place].numbers && isSameSize(comparison.row.pictures[place], size));
}

// ---- telling it ----

async function drawPixel() {
  const { at } = pixels;
  const { row, pair } = comparison;
  const line = document.getElementById('lightbox-numbers');
  outlinePixel(at);
  line.hidden = !hasNumbers();
  if (!at) {
    line.replaceChildren('Point at a picture, or press Shift with an arrow key, to read its pixels.');
    sayPixel('');
    return;
  }
  const read = await Promise.all(readablePlaces(at).map(async (place) => ({ place, found: await pixelsOf(row.pictures[place]) })));
  if (pixels.at !== at || comparison.row !== row || comparison.pair !== pair) return; // the pointer has moved on
  tellPixel(line, at, read.filter(({ found }) => found));
}

function tellPixel(line, at, read) {
  const { exhibit, row, pair } = comparison;
  const told = read.map(({ place, found }) => ({ place, name: pictureName(exhibit, row, place), values: valuesAt(found, at) }));
  const [a, b] = pair.map((place) => told.find((each) => each.place === place));
  const differs = a && b && { name: told.length > 2 ? `${b.name} − ${a.name}` : 'difference', values: differenceTexts(a.values, b.values) };
  const parts = [
    element('span', {}, `x ${at.x}, y ${at.y}`),
    ...told.map(({ name, values }) => element('span', {}, swatch(values), `${name} `, element('b', {}, values.join(' ')))),
    differs && element('span', {}, `${differs.name} `, element('b', {}, differs.values.join(' '))),
  ].filter(Boolean);
  line.replaceChildren(...parts.flatMap((part, place) => (place ? [' · ', part] : [part])));
  sayPixel(line.textContent);
}

// A picture without colour against one with: its one number stands for all three.
function differenceTexts(a, b) {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, channel) => {
    const change = (b[channel] ?? b[0]) - (a[channel] ?? a[0]);
    return change < 0 ? `−${-change}` : change > 0 ? `+${change}` : '0';
  });
}

function swatch(values) {
  const box = element('i', { class: 'pixel-swatch', 'aria-hidden': 'true' });
  const [red, green = red, blue = red] = values;
  box.style.backgroundColor = `rgb(${red}, ${green}, ${blue})`;
  return box;
}

function outlinePixel(at) {
  for (const frame of stage.querySelectorAll('.frame')) {
    const mark = frame.querySelector('.pixel-mark');
    mark.hidden = !at || Number(frame.dataset.width) !== at.width || Number(frame.dataset.height) !== at.height;
    if (mark.hidden) continue;
    Object.assign(mark.style, {
      left: `${100 * at.x / at.width}%`, top: `${100 * at.y / at.height}%`,
      width: `${100 / at.width}%`, height: `${100 / at.height}%`,
    });
  }
}

// For screen readers: only where the pointer comes to rest.
function sayPixel(text) {
  clearTimeout(pixels.timer);
  pixels.timer = setTimeout(() => { document.getElementById('pixel-spoken').textContent = text; }, SPOKEN_DELAY);
}
