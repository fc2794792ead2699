'use strict';
// Zooms and pans all pictures of a row together: each shows the same part of itself, whatever its size.
// The styles place the pictures by three numbers: the factor, and the left and top of what is seen.

const MOST_ZOOM = 32; // times the size that fits
const BLOCKS = 2; // CSS pixels for a picture's pixel, from which on it is a square rather than smoothed
const WHEEL_DOUBLES = 240; // pixels of scrolling

const zoom = { factor: 1, left: 0, top: 0, drag: null }; // left and top as shares of the picture

// By a factor (0: all of the picture), so that a place given as shares of the picture stays where it is.
function zoomBy(factor, place = placeInView()) {
  const next = Math.min(Math.max(zoom.factor * factor, 1), MOST_ZOOM);
  zoom.left = place.x - (place.x - zoom.left) * (zoom.factor / next);
  zoom.top = place.y - (place.y - zoom.top) * (zoom.factor / next);
  zoom.factor = next;
  applyZoom();
}

// Around the pixel that is read, where there is one and it can be seen; else around the middle.
function placeInView() {
  const size = 1 / zoom.factor;
  const pixel = pixelPlace();
  const seen = pixel && pixel.x >= zoom.left && pixel.x <= zoom.left + size && pixel.y >= zoom.top && pixel.y <= zoom.top + size;
  return seen ? pixel : { x: zoom.left + size / 2, y: zoom.top + size / 2 };
}

// Moves the view no further than it takes to see a place.
function reveal({ x, y }, margin) {
  const moved = (start, place) => Math.min(Math.max(start, place + margin - 1 / zoom.factor), place - margin);
  Object.assign(zoom, { left: moved(zoom.left, x), top: moved(zoom.top, y) });
  applyZoom();
}

function applyZoom() {
  const most = 1 - 1 / zoom.factor;
  zoom.left = Math.min(Math.max(zoom.left, 0), most);
  zoom.top = Math.min(Math.max(zoom.top, 0), most);
  stage.style.setProperty('--zoom', zoom.factor);
  stage.style.setProperty('--left', zoom.left * zoom.factor);
  stage.style.setProperty('--top', zoom.top * zoom.factor);
  stage.classList.toggle('is-zoomed', zoom.factor > 1);
  const sizes = [...stage.querySelectorAll('.frame')].map((frame) => {
    const size = frame.clientWidth * zoom.factor / Number(frame.dataset.width);
    for (const image of frame.querySelectorAll('img')) image.classList.toggle('pixelated', size >= BLOCKS);
    return size;
  });
  const level = zoom.factor === 1 ? 'fit' : `${Number(zoom.factor.toPrecision(2))}×`;
  document.getElementById('zoom-level').textContent = sizes.length ? `${level}, ${Number(sizes[0].toPrecision(2))} px per pixel` : '';
}

// ---- pointer ----

// Where an event is, as shares of the frame that it is in.
function placeInFrame(event, frame) {
  const box = frame.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

function placeInPicture(event, frame) {
  const { x, y } = placeInFrame(event, frame);
  return { x: zoom.left + x / zoom.factor, y: zoom.top + y / zoom.factor };
}

function isOnSlider(event) {
  return currentView() === 'slider' && (zoom.factor === 1 || event.target.matches('.split-handle'));
}

function isForPicture(event) {
  return zoom.factor > 1 || Boolean(event.target.closest('.frame') && isOnSlider(event));
}

function startDrag(event) {
  const frame = event.target.closest('.frame');
  if (!frame || event.button !== 0) return;
  if (event.pointerType === 'touch') showPixelAt(event, frame);
  if (!isForPicture(event)) return;
  zoom.drag = { frame, isSlider: isOnSlider(event), x: event.clientX, y: event.clientY };
  frame.setPointerCapture(event.pointerId);
  if (zoom.drag.isSlider) moveSplit(100 * placeInFrame(event, frame).x);
}

function drag(event) {
  const frame = event.target.closest('.frame');
  if (!zoom.drag) {
    if (frame && event.pointerType !== 'touch') showPixelAt(event, frame);
    return;
  }
  const { frame: dragged, isSlider, x, y } = zoom.drag;
  if (isSlider) {
    moveSplit(100 * placeInFrame(event, dragged).x);
    return;
  }
  zoom.left -= (event.clientX - x) / dragged.clientWidth / zoom.factor;
  zoom.top -= (event.clientY - y) / dragged.clientHeight / zoom.factor;
  Object.assign(zoom.drag, { x: event.clientX, y: event.clientY });
  applyZoom();
}

function endDrag() {
  zoom.drag = null;
}

stage.addEventListener('pointerdown', startDrag);
stage.addEventListener('pointermove', drag);
for (const type of ['pointerup', 'pointercancel', 'lostpointercapture']) stage.addEventListener(type, endDrag);
stage.addEventListener('dragstart', (event) => event.preventDefault());

// At either end of the range the wheel scrolls what is around the picture.
stage.addEventListener('wheel', (event) => {
  const frame = event.target.closest('.frame');
  if (!frame) return;
  const before = zoom.factor;
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  zoomBy(2 ** (-event.deltaY * lines / WHEEL_DOUBLES), placeInPicture(event, frame));
  if (zoom.factor !== before || event.ctrlKey) event.preventDefault();
}, { passive: false });

document.getElementById('zoom-in').addEventListener('click', () => zoomBy(2));
document.getElementById('zoom-out').addEventListener('click', () => zoomBy(1 / 2));
document.getElementById('zoom-fit').addEventListener('click', () => zoomBy(0));
new ResizeObserver(applyZoom).observe(stage);
