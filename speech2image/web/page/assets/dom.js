// Small help with elements.
export const find = (selector, within = document) => within.querySelector(selector);

// An element with attributes (or properties such as textContent, onclick) and children.
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key in element && (key === 'textContent' || key.startsWith('on'))) element[key] = value;
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function notice(title, text, ...more) {
  return make('div', { class: 's2i-notice', role: 'alert' }, make('strong', { textContent: title }),
    make('p', { textContent: text }), ...more);
}

// What a form is set to, name by name; a box to tick is '1' or '0'.
export function settingsOf(form) {
  const fields = [...form.elements].filter(({ name, type, checked }) => name && (type !== 'radio' || checked));
  return Object.fromEntries(fields.map(({ name, type, checked, value }) => [name, type === 'checkbox' ? String(Number(checked)) : value || '0']));
}

const calm = window.matchMedia('(prefers-reduced-motion: reduce)');
export const isCalm = () => calm.matches;

// Where the pictures lie out of sight, show them.
export function reveal(box) {
  const { top } = box.getBoundingClientRect();
  if (top >= 0 && top < window.innerHeight / 2) return;
  box.scrollIntoView({ behavior: isCalm() ? 'auto' : 'smooth', block: 'start' });
}
