// The tree drawn: boxes are buttons that the page lays out, links are lines behind them.

import { bar, element, setAttribute, setBar, setChildren, setHidden, setShape, setText, shape, svg } from "./dashboard-dom.js";
import { layout, members } from "./dashboard-layout.js";
import { watching } from "./dashboard-model.js";
import * as words from "./dashboard-words.js";

/** With more links than these, those that carry nothing are drawn only for the node that is looked at. */
const QUIET_LINKS_MAX = 80;
/** How far a line between boxes of one column swings out. */
const SWING = 36;
/** How far a line that skips a column is lifted. */
const LIFT = 64;
const TITLES = { injection: "Injection", relay: "Relay", egress: "Egress" };
/** One node that does everything needs no columns. */
const ALL_IN_ONE = "Injection and egress";

export class Drawing {
  #root;
  #onShow;
  #onToggle;
  #svg = svg("svg", { class: "links", "aria-hidden": "true" });
  #titles = element("div", { class: "titles", "aria-hidden": "true" });
  #none = element("p", { class: "none hint" });
  #regions = new Map();
  #boxes = new Map();
  #lines = new Map();
  #plan = { columns: [], regions: [], links: [] };
  /** What the places of lines depend on. */
  #shape = "";
  /** Of nodes and group headers, by node or by key of the group: what arrow keys go through. */
  #stops = new Map();
  #current = null;
  #selected = null;

  /** `onShow(node)` when a node is chosen, `onToggle(key)` when a group is opened or closed. */
  constructor(root, onShow, onToggle) {
    this.#root = root;
    this.#onShow = onShow;
    this.#onToggle = onToggle;
    root.append(this.#svg, this.#titles, this.#none);
    root.addEventListener("click", (event) => this.#activate(event.target.closest("button")));
    root.addEventListener("keydown", (event) => this.#key(event));
    root.addEventListener("focusin", ({ target }) => this.#makeCurrent(target));
    for (const type of ["focusin", "focusout", "mouseover", "mouseleave"]) root.addEventListener(type, () => this.#light());
    new ResizeObserver(() => this.#place()).observe(root);
  }

  /** Whether nodes are hidden in groups. */
  get isGrouped() {
    return this.#plan.regions.some(({ cells }) => cells.some((boxes) => boxes.some((box) => box.members)));
  }

  /** Draws `nodes`; those in `context` only stand beside what was looked for. */
  update(nodes, options) {
    const { selected, context, isOpen } = options;
    this.#selected = selected;
    const focused = this.#stopOf(document.activeElement);
    this.#plan = layout(nodes, isOpen);
    this.#stops.clear();
    this.#drawBoxes(context);
    this.#drawLinks();
    this.#placeIfMoved();
    this.#restoreFocus(focused);
    this.#light();
  }

  #drawBoxes(context) {
    const { columns, regions } = this.#plan;
    setAttribute(this.#root, "data-columns", columns.length);
    setText(this.#none, regions.length === 0 ? "There are no nodes." : "");
    const titles = columns.map((name, index) => this.#titles.children[index] ?? element("span", { class: "title" }));
    const isAllInOne = columns.length === 1 && regions.every(({ cells: [boxes] }) => boxes.every(({ node }) => node?.role === "all"));
    columns.forEach((name, index) => setText(titles[index], isAllInOne ? ALL_IN_ONE : TITLES[name]));
    setChildren(this.#titles, titles);
    const sections = regions.map(({ name, cells }) => {
      const section = this.#regions.get(name) ?? newRegion(name);
      this.#regions.set(name, section);
      setHidden(section.firstElementChild, regions.length < 2);
      const holder = section.lastElementChild;
      const columnsOf = cells.map((boxes, index) => {
        const cell = holder.children[index] ?? element("div", { class: "cell" });
        setChildren(cell, boxes.map((box) => this.#box(box, context)));
        return cell;
      });
      setChildren(holder, columnsOf);
      return section;
    });
    setChildren(this.#root, [this.#svg, this.#titles, ...sections, this.#none]);
    const shown = new Set(regions.flatMap(({ cells }) => cells.flat().map(({ key }) => key)));
    for (const key of this.#boxes.keys()) if (!shown.has(key)) this.#boxes.delete(key);
    for (const name of this.#regions.keys()) if (!regions.some((region) => region.name === name)) this.#regions.delete(name);
  }

  #box(box, context) {
    const isGroup = box.members !== undefined;
    const drawn = this.#boxes.get(box.key) ?? (isGroup ? newGroup(box) : newNode());
    this.#boxes.set(box.key, drawn);
    if (isGroup) {
      fillGroup(drawn, box);
      this.#stop(drawn.button, box.key, box.column);
      this.#tiles(drawn, box, context);
    } else {
      fillNode(drawn, box.node);
      this.#mark(drawn.button, box.node.id, context);
      this.#stop(drawn.button, box.node.id, box.column);
    }
    return drawn.root;
  }

  #tiles(drawn, box, context) {
    const tiles = (box.isOpen ? box.members : []).map((node) => {
      const tile = drawn.tiles.get(node.id) ?? newTile();
      drawn.tiles.set(node.id, tile);
      fillTile(tile, node);
      this.#mark(tile.button, node.id, context);
      this.#stop(tile.button, node.id, box.column);
      return tile.button;
    });
    for (const id of drawn.tiles.keys()) if (!this.#stops.has(id)) drawn.tiles.delete(id);
    setChildren(drawn.holder, tiles);
  }

  #mark(button, id, context) {
    setAttribute(button, "data-node", id);
    setAttribute(button, "aria-current", id === this.#selected ? "true" : null);
    button.classList.toggle("context", context.has(id));
  }

  #stop(button, id, column) {
    this.#stops.set(id, { button, column });
    setAttribute(button, "tabindex", id === this.#current ? 0 : -1);
  }

  #drawLinks() {
    const { links } = this.#plan;
    const drawn = links.map((link) => {
      const line = this.#lines.get(link.key) ?? newLine(link);
      this.#lines.set(link.key, line);
      fillLine(line, link);
      return line.root;
    });
    const known = new Set(links.map(({ key }) => key));
    for (const key of this.#lines.keys()) if (!known.has(key)) this.#lines.delete(key);
    setAttribute(this.#svg, "class", links.length > QUIET_LINKS_MAX ? "links many" : "links");
    setChildren(this.#svg, drawn);
  }

  #placeIfMoved() {
    const boxes = this.#plan.regions.map(({ name, cells }) => [name, cells.map((cell) => cell.map((box) => [box.key, box.isOpen ? box.members.length : 0]))]);
    const now = JSON.stringify([boxes, this.#plan.links.map(({ key }) => key)]);
    if (now === this.#shape) return;
    this.#shape = now;
    this.#place();
  }

  #place() {
    const places = new Map();
    for (const { key, column } of this.#plan.regions.flatMap(({ cells }) => cells.flat())) {
      const { root, button } = this.#boxes.get(key);
      const [left, width] = [root.offsetLeft, root.offsetWidth];
      places.set(key, { left, right: left + width, middle: root.offsetTop + button.offsetHeight / 2, column: this.#plan.columns.indexOf(column) });
    }
    for (const { from, to, key } of this.#plan.links) {
      const [one, other] = [places.get(from), places.get(to)];
      if (one && other) placeLine(this.#lines.get(key), one, other);
    }
  }

  /** The node that has the focus or is pointed at, and the chosen one, have their links in bold. */
  #light() {
    const looked = [document.activeElement, this.#root.querySelector("button:hover")];
    const keys = new Set();
    for (const button of [...looked, this.#stops.get(this.#selected)?.button]) {
      const box = button && this.#root.contains(button) ? button.closest(".box") : null;
      if (box) keys.add(box.dataset.key);
    }
    for (const { root, link } of this.#lines.values()) root.classList.toggle("lit", keys.has(link.from) || keys.has(link.to));
  }

  #activate(button) {
    if (button?.dataset.node) this.#onShow(button.dataset.node);
    else if (button) this.#onToggle(button.closest(".box").dataset.key);
  }

  #stopOf(button) {
    return [...this.#stops].find(([, stop]) => stop.button === button)?.[0] ?? null;
  }

  #makeCurrent(button) {
    const id = this.#stopOf(button);
    if (id === null || id === this.#current) return;
    const old = this.#stops.get(this.#current);
    if (old) old.button.tabIndex = -1;
    this.#current = id;
    button.tabIndex = 0;
  }

  /** The drawing can always be entered, and who is in it stays with his node even if that has moved. */
  #restoreFocus(focused) {
    if (!this.#stops.has(this.#current)) this.#current = this.#stops.keys().next().value ?? null;
    const stop = this.#stops.get(this.#current);
    if (stop) stop.button.tabIndex = 0;
    if (focused === null || this.#root.contains(document.activeElement)) return;
    (this.#stops.get(focused) ?? this.#stops.get(this.#holderOf(focused)) ?? stop)?.button.focus({ preventScroll: true });
  }

  /** The key of the box that a node is in. */
  #holderOf(id) {
    const all = this.#plan.regions.flatMap(({ cells }) => cells.flat());
    return all.find((box) => members(box).some((node) => node.id === id))?.key ?? null;
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const moves = { ArrowUp: () => this.#along(-1), ArrowDown: () => this.#along(1), ArrowLeft: () => this.#across(-1), ArrowRight: () => this.#across(1), Home: () => this.#toEnd(0), End: () => this.#toEnd(-1) };
    const target = moves[event.key]?.();
    if (moves[event.key]) event.preventDefault();
    target?.button.focus();
  }

  #ofColumn(column) {
    return [...this.#stops.values()].filter((stop) => stop.column === column);
  }

  #along(step) {
    const stop = this.#stops.get(this.#current);
    const all = this.#ofColumn(stop?.column);
    return all[all.indexOf(stop) + step];
  }

  #toEnd(index) {
    return this.#ofColumn(this.#stops.get(this.#current)?.column).at(index);
  }

  /** To the parent or the first child; where there is none, to what stands nearest in the next column. */
  #across(step) {
    const stop = this.#stops.get(this.#current);
    if (!stop) return undefined;
    const own = stop.button.closest(".box").dataset.key;
    const linked = this.#plan.links.filter((link) => (step < 0 ? link.to : link.from) === own);
    linked.sort((left, right) => right.rate - left.rate);
    const others = linked.map((link) => this.#stops.get(step < 0 ? link.from : link.to));
    const found = others.find((other) => other && other.column !== stop.column);
    if (found) return found;
    const { columns } = this.#plan;
    const next = this.#ofColumn(columns[columns.indexOf(stop.column) + step]);
    const top = ({ button }) => button.getBoundingClientRect().top;
    const here = top(stop);
    return next.sort((left, right) => Math.abs(top(left) - here) - Math.abs(top(right) - here))[0];
  }
}

function newRegion(name) {
  return element("section", { class: "region", "aria-label": `Region ${name}` }, element("h3", {}, name), element("div", { class: "cells" }));
}

function newNode() {
  const parts = { shape: shape(), name: element("span", { class: "name" }), health: element("span", { class: "health" }), bar: bar(), load: element("span", { class: "load numbers" }), from: element("span", { class: "line from numbers" }) };
  const button = element(
    "button", { type: "button", class: "box node" },
    element("span", { class: "line" }, parts.shape, parts.name, parts.health),
    element("span", { class: "line" }, parts.bar, parts.load),
    parts.from,
  );
  return { root: button, button, ...parts };
}

function fillNode(parts, node) {
  setAttribute(parts.root, "data-key", node.id);
  for (const health of ["draining", "suspect", "dead"]) parts.root.classList.toggle(health, node.health === health);
  setShape(parts.shape, node.health);
  setText(parts.name, node.id);
  setText(parts.health, node.role === "controller" ? `controller, ${node.health}` : node.health);
  setBar(parts.bar, node.fill?.share);
  setText(parts.load, node.health === "dead" ? `${carried(node)} when last heard` : `${carried(node)} · ${words.percent(node.fill?.share)}`);
  setText(parts.from, words.parentsShort(node.links) || `sends ${words.megabits(node.load.transmit_mbps ?? NaN)}`);
  setAttribute(parts.from, "title", words.parents(node.links) || null);
}

/** What a node is there for, counted. */
function carried({ role, load }) {
  if (role === "relay") return words.counted(load.children, "child", "children");
  if (role === "injection") return words.counted(load.publishers, "publisher");
  if (role === "controller") return "no media";
  return words.counted(watching(load), "viewer");
}

function newGroup() {
  const parts = { shape: shape(), name: element("span", { class: "name" }), mark: element("span", { class: "mark", "aria-hidden": "true" }), bar: bar(), load: element("span", { class: "load numbers" }), from: element("span", { class: "line from numbers" }) };
  const button = element(
    "button", { type: "button", class: "toggle" },
    element("span", { class: "line" }, parts.shape, parts.name, parts.mark),
    element("span", { class: "line" }, parts.bar, parts.load),
    parts.from,
  );
  const holder = element("div", { class: "tiles" });
  return { root: element("div", { class: "box group" }, button, holder), button, holder, tiles: new Map(), ...parts };
}

function fillGroup(parts, { key, column, members: nodes, parent, isOpen }) {
  setAttribute(parts.root, "data-key", key);
  setAttribute(parts.button, "aria-expanded", isOpen);
  setShape(parts.shape, "ready");
  const sum = (pick) => nodes.reduce((total, node) => total + pick(node), 0);
  setText(parts.name, `${words.count(nodes.length)} ${column}, all ready`);
  setText(parts.mark, isOpen ? "close" : "open");
  const shares = nodes.map(({ fill }) => fill?.share ?? NaN).filter(Number.isFinite);
  const fullest = shares.length === 0 ? NaN : Math.max(...shares);
  setBar(parts.bar, shares.length === 0 ? NaN : shares.reduce((total, share) => total + share, 0) / shares.length);
  const carries = column === "relay" ? words.counted(sum(({ load }) => load.children), "child", "children") : words.counted(sum(({ load }) => watching(load)), "viewer");
  setText(parts.load, `${carries} · fullest ${words.percent(fullest)}`);
  const packets = sum(({ links }) => links.reduce((total, { rate }) => total + (Number.isFinite(rate) ? rate : 0), 0));
  setText(parts.from, parent === null ? "no parent" : `mainly from ${parent}, ${words.rate(packets)} in all`);
}

function newTile() {
  const parts = { shape: shape(), name: element("span", { class: "name" }), load: element("span", { class: "load numbers" }), bar: bar() };
  const button = element(
    "button", { type: "button", class: "tile" },
    element("span", { class: "line" }, parts.shape, parts.name),
    element("span", { class: "line" }, parts.bar, parts.load),
  );
  return { button, ...parts };
}

function fillTile(parts, node) {
  setShape(parts.shape, node.health);
  setText(parts.name, node.id);
  setAttribute(parts.name, "title", node.id);
  setText(parts.load, words.percent(node.fill?.share));
  setAttribute(parts.button, "aria-label", `${node.id}, ${node.health}, ${carried(node)}, ${words.percent(node.fill?.share)}`);
  setBar(parts.bar, node.fill?.share);
}

function newLine(link) {
  const path = svg("path", { class: "line" });
  const cross = svg("path", { class: "cross" });
  return { root: svg("g", {}, path, cross), path, cross, link };
}

function fillLine(line, link) {
  line.link = link;
  const isLit = line.root.classList.contains("lit");
  const isLossy = link.loss >= words.LOSS_MIN;
  setAttribute(line.root, "class", [link.state, isLit && "lit", isLossy && "lossy"].filter(Boolean).join(" "));
  const width = link.state === "carries" ? Math.min(6, 1.2 + 0.7 * Math.log10(1 + link.rate)) : 1.4;
  setAttribute(line.path, "stroke-width", width.toFixed(1));
  setAttribute(line.cross, "visibility", link.down > 0 ? "visible" : "hidden");
}

function placeLine({ path, cross }, one, other) {
  const isBeside = other.left > one.right;
  const end = isBeside ? other.left : other.right;
  const bend = isBeside ? (end - one.right) / 2 : SWING;
  const near = isBeside ? end - bend : end + bend;
  // Over what stands in the column that it skips.
  const lift = other.column - one.column > 1 ? LIFT : 0;
  path.setAttribute("d", `M${one.right} ${one.middle}C${one.right + bend} ${one.middle - lift} ${near} ${other.middle - lift} ${end} ${other.middle}`);
  const [x, y] = [(one.right + end) / 2 + (isBeside ? 0 : bend * 0.75), (one.middle + other.middle) / 2 - lift * 0.75];
  cross.setAttribute("d", `M${x - 5} ${y - 5}L${x + 5} ${y + 5}M${x - 5} ${y + 5}L${x + 5} ${y - 5}`);
}
