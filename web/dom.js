// What every page does with its elements: makes them, and touches only what differs.

/** An element with attributes, text and children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function setAttribute(target, name, value) {
  if (value === null) target.removeAttribute(name);
  else if (target.getAttribute(name) !== String(value)) target.setAttribute(name, value);
}

export function setHidden(target, isHidden) {
  if (target.hidden !== isHidden) target.hidden = isHidden;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Says everything below `root` in `words`: `data-word` names the text of an element, `data-name` its name where it
 * shows none, `data-label` the same with a hint for those who point.
 */
export function translate(root, words) {
  for (const target of root.querySelectorAll("[data-word]")) setText(target, words.text(target.dataset.word));
  for (const target of root.querySelectorAll("[data-name]")) setAttribute(target, "aria-label", words.text(target.dataset.name));
  for (const target of root.querySelectorAll("[data-label]")) setLabel(target, words.text(target.dataset.label));
}

/** Names an element that shows no text: for those who listen, and as a hint for those who point. */
export function setLabel(target, text) {
  setAttribute(target, "aria-label", text);
  setAttribute(target, "title", text);
}
