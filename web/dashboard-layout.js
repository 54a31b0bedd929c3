// Which boxes are drawn where: a row for each region, columns from injection to egress, and like nodes as one box when
// they are many. Touches no page.

import { HEALTHS, byName } from "./dashboard-model.js";

/** Columns, their roles, and how many nodes are drawn one by one. */
const COLUMNS = [
  { name: "injection", roles: ["injection", "all", "controller"], oneByOneMax: 24 },
  { name: "relay", roles: ["relay"], oneByOneMax: 40 },
  { name: "egress", roles: ["egress"], oneByOneMax: 16 },
];
/** Fewer nodes are not worth a box around them. */
const GROUP_MIN = 3;

/**
 * `nodes` (of one tree) as { columns: [name], regions: [{ name, cells: [[box]] }], links: [link] }.
 * A box is { key, column, node } or { key, column, members, parent, isOpen }; a link is { key, from, to, state, rate,
 * loss, count, down } between keys of boxes.
 */
export function layout(nodes, isOpen) {
  const columns = COLUMNS.map((column) => ({ ...column, nodes: nodes.filter(({ role }) => column.roles.includes(role)) }));
  const shown = columns.filter(({ nodes: own }) => own.length > 0);
  const order = new Map();
  const regions = new Map();
  for (const region of [...new Set(nodes.map(({ region: name }) => name))].sort(byName)) regions.set(region, shown.map(() => []));
  shown.forEach((column, index) => {
    const isGrouped = column.nodes.length > column.oneByOneMax;
    for (const [region, cells] of regions) {
      const own = column.nodes.filter((node) => node.region === region).sort(byParent(order));
      cells[index] = boxes(own, column.name, isGrouped, isOpen);
      own.forEach((node) => order.set(node.id, order.size));
    }
  });
  const rows = [...regions].map(([name, cells]) => ({ name, cells }));
  return { columns: shown.map(({ name }) => name), regions: rows, links: links(rows) };
}

/** The parent that a node is drawn with. */
function mainParent(node) {
  const carries = node.links.find(({ state }) => state === "carries");
  return (carries ?? node.links.find(({ state }) => state !== "down") ?? node.links[0])?.node ?? null;
}

function byParent(order) {
  const place = (node) => order.get(mainParent(node)) ?? -1;
  return (left, right) => place(left) - place(right) || byName(left.id, right.id);
}

function boxes(nodes, column, isGrouped, isOpen) {
  const single = (node) => ({ key: node.id, column, node });
  if (!isGrouped) return nodes.map(single);
  const groups = new Map();
  // What is not as it should be is never hidden in a group.
  const alone = nodes.filter(({ isBad }) => isBad);
  for (const node of nodes.filter(({ isBad }) => !isBad)) {
    const parent = mainParent(node);
    if (!groups.has(parent)) groups.set(parent, []);
    groups.get(parent).push(node);
  }
  const drawn = [...groups].flatMap(([parent, members]) => {
    if (members.length < GROUP_MIN) return members.map(single);
    const key = `${column} ${members[0].region} ${parent ?? ""}`;
    return [{ key, column, parent, members, isOpen: isOpen(key) }];
  });
  alone.sort((left, right) => HEALTHS.indexOf(left.health) - HEALTHS.indexOf(right.health) || byName(left.id, right.id));
  return [...alone.map(single), ...drawn];
}

/** Nodes of a box. */
export function members(box) {
  return box.members ?? [box.node];
}

const STATES = ["carries", "unassigned", "standby", "down"];

/** All links between the same two boxes are one line. */
function links(rows) {
  const boxOf = new Map();
  const all = rows.flatMap(({ cells }) => cells.flat());
  for (const box of all) for (const { id } of members(box)) boxOf.set(id, box.key);
  const bundles = new Map();
  for (const box of all) {
    for (const { links: own } of members(box)) {
      for (const { node, state, rate, loss } of own) {
        const from = boxOf.get(node);
        if (from === undefined || from === box.key) continue;
        const key = `${from} > ${box.key}`;
        const bundle = bundles.get(key) ?? { key, from, to: box.key, state, rate: 0, loss: 0, count: 0, down: 0 };
        bundles.set(key, bundle);
        bundle.count += 1;
        if (state === "down") bundle.down += 1;
        if (Number.isFinite(rate)) bundle.rate += rate;
        // The worst of them.
        if (loss > bundle.loss) bundle.loss = loss;
        // The line shows the best of them; those that are down are marked on it.
        if (STATES.indexOf(state) < STATES.indexOf(bundle.state)) bundle.state = state;
      }
    }
  }
  return [...bundles.values()];
}
