// Elements, made and brought onto the page without any markup from strings: text
// is only ever text. Views return a fresh tree each time; morph changes the page
// where the two differ, so that focus, selection and open parts stay.

const SVG = 'http://www.w3.org/2000/svg';
const FORBIDDEN = /^(on|style$|srcdoc$)/i; // what the Content-Security-Policy refuses

/** h makes an element. False and null attributes and children are left out. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** s makes an SVG element. */
export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (FORBIDDEN.test(name)) throw new Error(`${name} is not set from script`);
    if (name === 'href' && !String(value).startsWith('#')) throw new Error('links lead to places on the page only');
    element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== ''));
  return element;
}

/** show makes the children of the element with an id those given. */
export function show(id, ...children) {
  const target = document.getElementById(id);
  morphChildren(target, children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
}

const keyOf = (node) => node.dataset?.key;

/** alike says whether a node on the page can become the new one. */
function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function morph(from, to) {
  if (from.nodeType === Node.TEXT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  // What keeps itself up to date, such as a chart, is only named here.
  if (from.dataset?.keep !== undefined) return;
  for (const { name } of [...from.attributes]) {
    // Whether a part is open is the reader's business.
    if (!to.hasAttribute(name) && !(name === 'open' && from.nodeName === 'DETAILS')) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (name === 'open' && from.nodeName === 'DETAILS') continue;
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  morphChildren(from, [...to.childNodes]);
}

function morphChildren(parent, children) {
  const keyed = new Map();
  for (const node of parent.childNodes) {
    if (keyOf(node) !== undefined) keyed.set(keyOf(node), node);
  }
  let at = parent.firstChild;
  for (const child of children) {
    const node = typeof child === 'string' ? document.createTextNode(child) : child;
    const key = keyOf(node);
    const old = key === undefined ? at : keyed.get(key);
    if (old && alike(old, node)) {
      if (old === at) at = at.nextSibling;
      else parent.insertBefore(old, at);
      morph(old, node);
    } else {
      parent.insertBefore(node, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/**
 * table makes a table that a phone shows as a list of cards. Cells carry the
 * head of their column; roles are named, since a changed display takes them
 * away. A column is {title, number, wide}; a row is {key, cells}.
 */
export function table(caption, columns, rows) {
  const cell = (column, content, i) => h(
    i === 0 ? 'th' : 'td',
    { role: i === 0 ? 'rowheader' : 'cell', scope: i === 0 && 'row', class: column.number && 'number', 'data-label': column.title },
    h('span', null, content),
  );
  return h('table', { role: 'table', class: 'table' },
    h('caption', { class: 'unseen' }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map(
      (column) => h('th', { role: 'columnheader', scope: 'col', class: column.number && 'number' }, column.title)))),
    h('tbody', { role: 'rowgroup' }, rows.map(({ key, cells }) => h('tr', { role: 'row', 'data-key': key },
      cells.map((content, i) => cell(columns[i], content, i))))));
}

/** button makes a button that does an action of main.js. */
export function button(text, action, data = {}, attributes = {}) {
  const all = { type: 'button', 'data-action': action, ...attributes };
  for (const [name, value] of Object.entries(data)) all[`data-${name}`] = value;
  return h('button', all, text);
}
