'use strict';
// Builds elements. Everything the report says (test ids, class names, messages)
// goes in as text nodes and attribute values, so that no name is read as markup.

const SVG_NAMESPACE = 'http://www.w3.org/2000/svg';

function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function svgElement(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

// Attributes that are functions become event listeners (`onclick: show`);
// absent children (null, undefined, false) are left out.
function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => (child ?? false) !== false));
  return node;
}

function definitionList(className, pairs) {
  const entries = pairs.map(([term, value]) =>
    element('div', {}, element('dt', {}, term), element('dd', {}, value)));
  return element('dl', { class: className }, entries);
}

// A picture as the report describes it, for a list or in full; its size is known before it loads, so nothing jumps.
function pictureImage(picture, { full = false } = {}) {
  return element('img', {
    src: (!full && picture.thumb) || picture.src,
    alt: picture.alt || picture.caption || '',
    width: picture.width,
    height: picture.height,
    class: picture.pixelated ? 'pixelated' : null,
    loading: 'lazy',
    decoding: 'async',
  });
}

const MARK_PATHS = {
  bad: 'M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6',
  good: 'M4.6 8.3l2.3 2.3 4.5-4.9',
  warn: 'M8 4.2v4.6M8 11.4v.1',
  idle: 'M5 8h6',
};

// The outcome as a shape as well as a colour.
function mark(tone) {
  return svgElement('svg', { class: `mark tone-${tone}`, viewBox: '0 0 16 16', 'aria-hidden': 'true' },
    svgElement('circle', { cx: 8, cy: 8, r: 8 }),
    svgElement('path', { d: MARK_PATHS[tone] }));
}

// Long names break after their separators rather than anywhere.
function breakable(name) {
  return name.split(/(?<=[_/:.-])(?=[^_/:.-])/).flatMap((part) => [part, element('wbr')]);
}

function counted(number, noun) {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : /(s|ch)$/.test(noun) ? 'es' : 's'}`;
}

// A moment in the reader's own time: "2026-11-25 14:02".
function timeText(iso) {
  return new Date(iso).toLocaleString('sv', { dateStyle: 'short', timeStyle: 'short' });
}

function durationText(seconds) {
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
