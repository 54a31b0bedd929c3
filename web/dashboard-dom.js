// Small things for pages that change each second: only what differs is touched, and what has the focus keeps it.

import { element, setAttribute, setText, svg } from "./dom.js";

export { element, setAttribute, setHidden, setText, svg } from "./dom.js";

/** Makes `wanted` the children of `parent`, moving as few of them as it can. */
export function setChildren(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of wanted) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

/** One shape for each state, so that nobody needs colours to tell them apart. */
const SHAPES = {
  ready: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
  draining: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.6a5.4 5.4 0 1 1 0 10.8A5.4 5.4 0 0 1 8 2.6zM7.2 4.4h1.6v3.8h2.1L8 11.6 5.1 8.2h2.1z",
  suspect: "M8 1 15.4 14.4H.6zM8 4.4 3.3 12.8h9.4zM7.2 6.8h1.6v3H7.2zm0 3.6h1.6V12H7.2z",
  dead: "M3.4 1.6 8 6.2l4.6-4.6 1.8 1.8L9.8 8l4.6 4.6-1.8 1.8L8 9.8l-4.6 4.6-1.8-1.8L6.2 8 1.6 3.4z",
};

/** The shape of a state. */
export function shape() {
  return svg("svg", { viewBox: "0 0 16 16", class: "shape", "aria-hidden": "true" }, svg("path", { "fill-rule": "evenodd" }));
}

export function setShape(target, health) {
  setAttribute(target.firstElementChild, "d", SHAPES[health] ?? SHAPES.suspect);
  setAttribute(target, "class", `shape ${health}`);
}

/** A bar that shows a share of 1; what it shows stands beside it in words. */
export function bar() {
  return element("span", { class: "bar", "aria-hidden": "true" }, element("span"));
}

export function setBar(target, share) {
  const isKnown = Number.isFinite(share);
  const width = `${isKnown ? Math.min(100, Math.round(share * 100)) : 0}%`;
  if (target.firstElementChild.style.width !== width) target.firstElementChild.style.width = width;
  setAttribute(target, "class", !isKnown ? "bar unknown" : share >= 0.9 ? "bar full" : "bar");
}

/**
 * A table whose rows have keys. A column is { title, isNumber, cell(item), sort(item) }; `cell` gives text, or { text,
 * node } for a button that shows a node, or { text, href }.
 */
export class Rows {
  #table;
  #columns;
  #key;
  #body = element("tbody");
  #rows = new Map();
  #sorting = null;
  #items = [];

  constructor(table, columns, key) {
    this.#table = table;
    this.#columns = columns;
    this.#key = key;
    const titles = columns.map((column, index) => this.#title(column, index));
    table.replaceChildren(element("thead", {}, element("tr", {}, ...titles)), this.#body);
  }

  #title({ title, isNumber, sort }, index) {
    const cell = element("th", { scope: "col", ...(isNumber && { class: "number" }) });
    if (!sort) {
      cell.textContent = title;
      return cell;
    }
    const button = element("button", { type: "button", class: "plain" }, title);
    button.addEventListener("click", () => this.#sortBy(index));
    cell.append(button);
    return cell;
  }

  /** Up, down, and back to the order that the items come in. */
  #sortBy(index) {
    const next = { ascending: "descending", descending: null };
    const direction = this.#sorting?.index === index ? next[this.#sorting.direction] : "ascending";
    this.#sorting = direction ? { index, direction } : null;
    const titles = this.#table.querySelectorAll("thead th");
    titles.forEach((cell, at) => setAttribute(cell, "aria-sort", direction && at === index ? direction : null));
    this.update(this.#items);
  }

  update(items) {
    this.#items = items;
    const sorted = this.#sorting === null ? items : [...items].sort(this.#order());
    const rows = sorted.map((item) => {
      const key = this.#key(item);
      const row = this.#rows.get(key) ?? this.#row();
      this.#rows.set(key, row);
      this.#columns.forEach(({ cell }, index) => setCell(row.children[index], cell(item)));
      return row;
    });
    const known = new Set(rows);
    for (const [key, row] of this.#rows) if (!known.has(row)) this.#rows.delete(key);
    setChildren(this.#body, rows);
  }

  #order() {
    const { sort } = this.#columns[this.#sorting.index];
    const sign = this.#sorting.direction === "ascending" ? 1 : -1;
    return (left, right) => {
      const [one, other] = [sort(left), sort(right)];
      return sign * (typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other);
    };
  }

  #row() {
    const cells = this.#columns.map(({ isNumber }, index) =>
      index === 0 ? element("th", { scope: "row" }) : element("td", isNumber ? { class: "number" } : {}),
    );
    return element("tr", {}, ...cells);
  }
}

function setCell(cell, content) {
  const { text, node, href, health } = typeof content === "string" ? { text: content } : content;
  let target = cell;
  if (node !== undefined || href !== undefined) {
    target = cell.querySelector("button, a");
    if (!target) {
      target = node === undefined ? element("a") : element("button", { type: "button", class: "plain" });
      cell.replaceChildren(target);
    }
    if (node !== undefined) setAttribute(target, "data-show", node);
    else setAttribute(target, "href", href);
  } else if (health !== undefined) {
    if (cell.children.length === 0) cell.append(shape(), element("span"));
    setShape(cell.firstElementChild, health);
    target = cell.lastElementChild;
  }
  setText(target, text);
}
