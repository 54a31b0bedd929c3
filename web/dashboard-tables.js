// The same in tables: nodes, broadcasts, and what changed.

import { Rows, element, setChildren, setHidden, setShape, setText, shape } from "./dashboard-dom.js";
import { HEALTHS, byName, watching } from "./dashboard-model.js";
import * as words from "./dashboard-words.js";

/** More rows are not read; the filter finds what is wanted. */
const BROADCASTS_MAX = 200;
const CHANGES_MAX = 80;

const known = (value) => value ?? NaN;
/** Unknown figures sort below all others. */
const orLast = (value) => (Number.isFinite(value) ? value : -1);

/** Columns of a list of links: `node` is at the other end. */
export const LINK_COLUMNS = [
  { title: "Node", cell: ({ node }) => ({ text: node, node }) },
  { title: "Link", cell: ({ state }) => words.link(state) },
  { title: "Packets", isNumber: true, cell: ({ rate }) => words.rate(rate) },
  { title: "Lost", isNumber: true, cell: ({ loss }) => words.loss(loss) },
  { title: "Round trip", isNumber: true, cell: ({ roundTripMs }) => (roundTripMs === null ? "–" : `${roundTripMs.toFixed(1)} ms`) },
];

export function nodeTable(table) {
  const columns = [
    { title: "Node", cell: ({ id }) => ({ text: id, node: id }), sort: ({ id }) => id },
    { title: "Role", cell: ({ role }) => words.role(role), sort: ({ role }) => role },
    { title: "State", cell: ({ health }) => ({ text: health, health }), sort: ({ health }) => HEALTHS.indexOf(health) },
    { title: "Region", cell: ({ region }) => region, sort: ({ region }) => region },
    { title: "Host", cell: ({ host }) => host, sort: ({ host }) => host },
    { title: "Viewers", isNumber: true, cell: ({ load }) => words.count(watching(load)), sort: ({ load }) => watching(load) },
    { title: "Load", isNumber: true, cell: ({ fill }) => words.percent(fill?.share), sort: ({ fill }) => orLast(fill?.share) },
    { title: "Processor", isNumber: true, cell: ({ load }) => words.percent(known(load.cpu_percent) / 100), sort: ({ load }) => orLast(known(load.cpu_percent)) },
    { title: "Sends", isNumber: true, cell: ({ load }) => words.megabits(known(load.transmit_mbps)), sort: ({ load }) => orLast(known(load.transmit_mbps)) },
    { title: "Parents", cell: ({ links }) => words.parents(links) || "–" },
  ];
  const rows = new Rows(table, columns, ({ id }) => id);
  const rank = ({ health }) => HEALTHS.indexOf(health);
  const order = ["injection", "all", "controller", "relay", "egress"];
  return (nodes) =>
    rows.update([...nodes].sort((left, right) => rank(left) - rank(right) || order.indexOf(left.role) - order.indexOf(right.role) || byName(left.id, right.id)));
}

export function broadcastTable(table) {
  const columns = [
    { title: "Broadcast", cell: ({ id }) => ({ text: id, href: `/watch/${encodeURIComponent(id)}` }), sort: ({ id }) => id },
    { title: "State", cell: ({ state }) => (state === "live" ? "live" : "waiting for the broadcaster"), sort: ({ state }) => state },
    { title: "Published at", cell: ({ origin }) => (origin === null ? "–" : { text: origin, node: origin }), sort: ({ origin }) => origin ?? "" },
    { title: "Viewers", isNumber: true, cell: ({ viewers }) => words.count(viewers), sort: ({ viewers }) => viewers },
    { title: "Served by", isNumber: true, cell: ({ served }) => words.counted(served, "node"), sort: ({ served }) => served },
  ];
  const rows = new Rows(table, columns, ({ id }) => id);
  const caption = table.createCaption();
  return (broadcasts, nodes) => {
    const served = new Map();
    for (const node of nodes) {
      if (node.health === "dead") continue;
      for (const { broadcast, viewers } of node.broadcasts) if (viewers > 0) served.set(broadcast, (served.get(broadcast) ?? 0) + 1);
    }
    const most = [...broadcasts].sort((left, right) => right.viewers - left.viewers || byName(left.id, right.id)).slice(0, BROADCASTS_MAX);
    rows.update(most.map((broadcast) => ({ ...broadcast, served: served.get(broadcast.id) ?? 0 })));
    const rest = broadcasts.length - most.length;
    setText(caption, broadcasts.length === 0 ? "There are none." : rest > 0 ? `The ${BROADCASTS_MAX} with most viewers; ${words.count(rest)} more.` : "");
    setHidden(caption, caption.textContent === "");
  };
}

/** Fills a list with what changed, latest first; `none` is shown instead while there is nothing. */
export function changeList(list, none) {
  const items = new Map();
  return (changes) => {
    const seen = new Map();
    const wanted = changes.slice(0, CHANGES_MAX).map((change) => {
      const text = `${Math.floor(change.at)} ${change.text}`;
      seen.set(text, (seen.get(text) ?? 0) + 1);
      const key = `${text} ${seen.get(text)}`;
      const item = items.get(key) ?? newChange(change);
      items.set(key, item);
      return item;
    });
    const kept = new Set(wanted);
    for (const [key, item] of items) if (!kept.has(item)) items.delete(key);
    setChildren(list, wanted);
    setHidden(list, wanted.length === 0);
    setHidden(none, wanted.length > 0);
  };
}

function newChange({ at, kind, text }) {
  const time = element("time", { datetime: new Date(at * 1000).toISOString(), class: "numbers" }, words.clock(at));
  const item = element("li", {}, time);
  if (HEALTHS.includes(kind)) {
    const mark = shape();
    setShape(mark, kind);
    item.append(mark);
  }
  item.append(element("span", {}, text));
  return item;
}
