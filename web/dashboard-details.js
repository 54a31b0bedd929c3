// One node in full.

import { Rows, bar, element, setAttribute, setBar, setHidden, setShape, setText, shape } from "./dashboard-dom.js";
import { byName } from "./dashboard-model.js";
import { LINK_COLUMNS, changeList } from "./dashboard-tables.js";
import * as words from "./dashboard-words.js";

const known = (value) => value ?? NaN;
const orDash = (text) => text ?? "–";
const slots = (used, there) => (there === 0 && used === 0 ? "–" : `${words.count(used)} of ${words.count(there)}`);

const FACTS = [
  ["Role", ({ role }) => words.role(role)],
  ["Tree", ({ tree }) => tree],
  ["Region", ({ region, zone }) => (zone ? `${region}, zone ${zone}` : region)],
  ["Host", ({ host }) => host],
  ["Viewers", ({ load, capacity }) => slots(load.viewers, capacity.viewers)],
  ["Publishers", ({ load, capacity }) => slots(load.publishers, capacity.publishers)],
  ["Children", ({ load, capacity }) => slots(load.children, capacity.children)],
  ["Processor", ({ load }) => words.percent(known(load.cpu_percent) / 100)],
  ["Busiest shard", ({ load }) => words.percent(known(load.shard_percent) / 100)],
  ["Sends", ({ load }) => words.megabits(known(load.transmit_mbps))],
  ["Packets sent", ({ load }) => words.rate(known(load.packets_per_second))],
  ["For clients", ({ url }) => orDash(url)],
  ["For children", ({ link }) => orDash(link)],
  ["Operations", ({ ops }) => orDash(ops)],
  ["Version", ({ version }) => version],
];

export class Details {
  #title;
  #none;
  #body;
  #parts = null;

  constructor(section, onClose) {
    this.#title = section.querySelector("h2");
    this.#none = section.querySelector("p");
    this.#body = section.querySelector("div");
    this.#parts = build(this.#body);
    this.#parts.close.addEventListener("click", onClose);
  }

  /** Shows `id`, which may not be there any more; null shows nothing. */
  update(id, model) {
    const node = model.nodes.get(id);
    setHidden(this.#body, !node);
    setHidden(this.#none, Boolean(node));
    setText(this.#title, id ?? "Details");
    if (!node) {
      setText(this.#none, id === null ? "Choose a node to see its load, links and broadcasts." : `${id} is not there any more.`);
      return;
    }
    const parts = this.#parts;
    setShape(parts.shape, node.health);
    setText(parts.health, words.health(node.health));
    setText(parts.drain, node.drain ? `It was told to drain within ${words.counted(node.drain.deadline_secs, "second")}.` : "");
    setHidden(parts.drain, !node.drain);
    setBar(parts.bar, node.fill?.share);
    setText(parts.fill, node.fill ? `${words.percent(node.fill.share)} full, by ${node.fill.of}` : "its load is not known");
    FACTS.forEach(([, fact], index) => setText(parts.facts[index], fact(node)));
    const children = node.children.map((child) => linkTo(model.nodes.get(child), id)).sort((left, right) => byName(left.node, right.node));
    parts.parents(node.links);
    parts.children(children);
    parts.broadcasts(node.broadcasts);
    parts.changes(model.history(node.tree).filter((change) => change.node === id));
    setText(parts.command, node.drain ? `media-tree node undrain ${id}` : `media-tree node drain ${id} --deadline 60s`);
    setText(parts.order, node.drain ? "To have it take viewers again:" : "To send its viewers elsewhere before it stops:");
  }
}

function linkTo(child, parent) {
  const link = child.links.find(({ node }) => node === parent);
  return { ...link, node: child.id };
}

function build(body) {
  const facts = FACTS.map(() => element("dd", { class: "numbers" }));
  const parts = {
    facts, shape: shape(), health: element("span"), drain: element("p", { class: "warning" }), bar: bar(), fill: element("span", { class: "numbers" }),
    order: element("p", { class: "hint" }), command: element("code"), close: element("button", { type: "button" }, "Close"),
  };
  const list = FACTS.map(([name], index) => element("div", {}, element("dt", {}, name), facts[index]));
  body.append(
    element("p", { class: "line" }, parts.shape, parts.health), parts.drain,
    element("p", { class: "line" }, parts.bar, parts.fill),
    element("dl", { class: "facts" }, ...list),
  );
  parts.parents = section(body, "Takes media from", LINK_COLUMNS, ({ node }) => node);
  parts.children = section(body, "Feeds", LINK_COLUMNS, ({ node }) => node);
  const columns = [
    { title: "Broadcast", cell: ({ broadcast }) => broadcast },
    { title: "Viewers", isNumber: true, cell: ({ viewers }) => words.count(viewers) },
  ];
  parts.broadcasts = section(body, "Broadcasts here", columns, ({ broadcast }) => broadcast);
  const [list_, none] = [element("ol", { class: "own-changes" }), element("p", { class: "hint" }, "Nothing of late.")];
  body.append(element("h3", {}, "What changed here"), list_, none, parts.order, element("p", {}, parts.command), parts.close);
  parts.changes = changeList(list_, none);
  return parts;
}

/** A table under a title, both hidden while there is nothing in it. */
function section(body, title, columns, key) {
  const table = element("table", { class: "rows" });
  const heading = element("h3", {}, title);
  const holder = element("div", { class: "scroll" }, table);
  body.append(heading, holder);
  const rows = new Rows(table, columns, key);
  setAttribute(table, "aria-label", title);
  return (items) => {
    setHidden(heading, items.length === 0);
    setHidden(holder, items.length === 0);
    rows.update(items);
  };
}
