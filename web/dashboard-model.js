// What the dashboard knows: the latest view of the installation, rates from the one before, and what changed meanwhile.
// Touches no page and no clock.

/** A rate is taken over this time: heartbeats come each second, but not on the second. */
const RATE_WINDOW_MS = 5000;
/** A link whose figures do not change for so long is idle, not slow. */
const RATE_SAMPLES_MAX = 8;
/** Changes that are remembered. */
const CHANGES_MAX = 200;
/** States of a node, worst first. */
export const HEALTHS = ["dead", "suspect", "draining", "ready"];

const collator = new Intl.Collator("en", { numeric: true });

/** Names in the order of people: 2 before 10. */
export function byName(left, right) {
  return collator.compare(left, right);
}

export class Model {
  /** The latest view as it came, or null. */
  view = null;
  /** Nodes by name, each with `links`, `children`, `fill` and `isBad`. */
  nodes = new Map();
  /** What this page saw happen, latest first: { at, kind, node, text, isUrgent }. */
  changes = [];
  #samples = new Map();

  /** Takes what the controller said at `nowMs` (since 1970). */
  apply(view, nowMs) {
    const before = this.view === null ? null : { view: this.view, nodes: this.nodes };
    this.view = view;
    this.nodes = new Map(view.nodes.map((node) => [node.id, this.#node(node, nowMs)]));
    for (const node of this.nodes.values()) {
      for (const { node: parent } of node.links) this.nodes.get(parent)?.children.push(node.id);
    }
    this.#forgetSamples();
    if (before !== null) this.#compare(before, nowMs / 1000);
  }

  #node(node, nowMs) {
    const moved = node.parents.map((parent) => this.#moved(`${node.id} ${parent.node}`, parent, nowMs));
    // What two parents send comes twice: a link that carries all of it misses what only the other one brought.
    const all = moved.reduce((sum, { packets }) => sum + packets, 0);
    const carrying = node.parents.filter((parent) => linkState(parent) === "carries");
    const isShared = carrying.every(({ joined }) => joined === carrying[0].joined);
    const links = node.parents.map((parent, index) => {
      const { seconds, packets, duplicates, repaired } = moved[index];
      const expected = isShared ? all : packets + duplicates;
      const lost = expected - (packets + duplicates - repaired);
      return {
        node: parent.node,
        state: linkState(parent),
        rate: seconds > 0 ? packets / seconds : NaN,
        loss: linkState(parent) === "carries" && expected > 0 ? Math.min(1, Math.max(0, lost / expected)) : NaN,
        joined: parent.joined,
        roundTripMs: parent.round_trip_ms,
      };
    });
    return { ...node, links, children: [], fill: fill(node), isBad: node.health !== "ready" };
  }

  /** What came over one link lately, and within how many seconds; none until it was seen twice. */
  #moved(key, { packets, duplicates, repaired }, nowMs) {
    const samples = this.#samples.get(key) ?? [];
    this.#samples.set(key, samples);
    // A link that is new counts from the beginning.
    if (samples.length > 0 && packets < samples.at(-1).packets) samples.length = 0;
    samples.push({ at: nowMs, packets, duplicates, repaired });
    while (samples.length > 2 && (samples[1].at <= nowMs - RATE_WINDOW_MS || samples.length > RATE_SAMPLES_MAX)) samples.shift();
    const [first] = samples;
    return {
      seconds: (nowMs - first.at) / 1000,
      packets: packets - first.packets,
      duplicates: duplicates - first.duplicates,
      repaired: repaired - first.repaired,
    };
  }

  #forgetSamples() {
    for (const key of this.#samples.keys()) {
      const [child, parent] = key.split(" ");
      if (!this.nodes.get(child)?.links.some((link) => link.node === parent)) this.#samples.delete(key);
    }
  }

  #compare(before, at) {
    const changes = [];
    const note = (kind, node, text, isUrgent = false) => changes.push({ at, kind, node, text, isUrgent });
    for (const node of this.nodes.values()) {
      const old = before.nodes.get(node.id);
      if (!old) note("joined", node.id, `${node.id} has joined as ${node.role}`);
      else if (old.health !== node.health) note(node.health, node.id, healthChange(node, old.health), node.isBad);
    }
    for (const id of before.nodes.keys()) {
      if (!this.nodes.has(id)) note("gone", id, `${id} is forgotten`);
    }
    const broadcasts = new Map(before.view.broadcasts.map((broadcast) => [`${broadcast.tree} ${broadcast.id}`, broadcast]));
    for (const { tree, id, state, origin } of this.view.broadcasts) {
      const old = broadcasts.get(`${tree} ${id}`);
      if (old?.state !== state) note(state, origin, state === "live" ? `${id} is live` : `${id} waits for its broadcaster`);
      else if (old.origin !== origin && origin !== null) note("moved", origin, `${id} is published at ${origin} now`);
    }
    if (before.view.is_store_up !== this.view.is_store_up) {
      const text = this.view.is_store_up ? "the store is back" : "the store is away: media goes on, nothing is decided";
      note("store", null, text, !this.view.is_store_up);
    }
    if (before.view.leader !== this.view.leader) note("leader", null, this.view.leader ? `${this.view.leader} leads now` : "no controller leads", !this.view.leader);
    this.changes = [...changes, ...this.changes].slice(0, CHANGES_MAX);
  }

  /** Trees by name, those that only nodes speak of among them. */
  trees() {
    if (this.view === null) return [];
    const names = new Set([...this.view.trees.map(({ id }) => id), ...this.view.nodes.map(({ tree }) => tree)]);
    return [...names].sort(byName);
  }

  /** Decisions and what this page saw, of one tree, latest first. */
  history(tree) {
    const isOf = (node) => node === null || (this.nodes.get(node)?.tree ?? tree) === tree;
    const decided = this.view.decisions
      .filter((decision) => decision.tree === tree)
      .map(({ at, kind, node, reason }) => ({ at, kind, node, text: reason, isUrgent: false }));
    const seen = this.changes.filter(({ node }) => isOf(node));
    return [...seen, ...decided].sort((left, right) => Math.floor(right.at) - Math.floor(left.at));
  }
}

function healthChange({ id, health }, old) {
  if (health === "ready") return old === "draining" ? `${id} takes viewers again` : `${id} is back`;
  if (health === "suspect") return `${id} was not heard for a moment`;
  return health === "dead" ? `${id} is dead` : `${id} is draining`;
}

/** Viewers of a node that are connected, not only expected. */
export function watching(load) {
  return load.connected ?? load.viewers;
}

/** `carries`, `standby`, `unassigned` or `down`. */
export function linkState({ is_alive, is_assigned, joined }) {
  if (!is_alive) return "down";
  if (!is_assigned) return "unassigned";
  return joined > 0 ? "carries" : "standby";
}

/** How full a node is: the largest share of what is known, and of what; null if nothing is known. */
function fill({ load, capacity }) {
  const slots = (what) => (capacity[what] > 0 ? [{ share: load[what] / capacity[what], of: what }] : []);
  const busy = (value, of) => (value === null || value === undefined ? [] : [{ share: value / 100, of }]);
  const shares = [
    ...slots("viewers"), ...slots("publishers"), ...slots("children"),
    ...busy(load.cpu_percent, "processor"), ...busy(load.shard_percent, "busiest shard"),
  ];
  return shares.reduce((most, share) => (most === null || share.share > most.share ? share : most), null);
}

/** Whether a node has `words` (small letters) somewhere in what people may look for. */
export function matches(node, words) {
  const texts = [node.id, node.role, node.health, node.region, node.zone ?? "", node.host, ...node.broadcasts.map(({ broadcast }) => broadcast)];
  return words.every((word) => texts.some((text) => text.toLowerCase().includes(word)));
}
