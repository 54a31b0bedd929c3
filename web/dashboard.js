// The dashboard: news from the controller, once a second, into the drawing, the tables and the words around them.

import { setAttribute, setChildren, setHidden, setText, element } from "./dashboard-dom.js";
import { Details } from "./dashboard-details.js";
import { Drawing } from "./dashboard-drawing.js";
import { Feed } from "./dashboard-feed.js";
import { HEALTHS, Model, matches } from "./dashboard-model.js";
import { broadcastTable, changeList, nodeTable } from "./dashboard-tables.js";
import * as words from "./dashboard-words.js";
import { remember, remembered } from "./page.js";

const TOKEN = "media-tree operator token";
/** News that is older is told to be old. */
const FRESH_MS = 5000;
/** What a filter finds is shown one by one up to here. */
const FOUND_MAX = 60;
/** How often a screen reader is told what happened. */
const ANNOUNCE_INTERVAL_MS = 4000;
/** The latest of those that waited for somebody to look. */
const UNANNOUNCED_MAX = 100;
/** Updates whose time is remembered. */
const TIMINGS_MAX = 300;

const by = (id) => document.getElementById(id);
const model = new Model();
const open = new Set();
const timings = [];
let selected = null;
let tree = null;
let isEvery = false;
let isTable = false;
let feedState = "asking";
let newsAt = 0;
let isScheduled = false;
let announcedAt = 0;
let unannounced = [];

const drawing = new Drawing(by("drawing"), show, toggle);
const details = new Details(by("details"), () => show(null));
const showNodes = nodeTable(by("node-table"));
const showBroadcasts = broadcastTable(by("broadcast-table"));
const showChanges = changeList(by("changes"), by("changes-none"));
const feed = new Feed(remembered(TOKEN), take, feedChanged);

function take(view) {
  const before = model.changes[0];
  model.apply(view, Date.now());
  newsAt = Date.now();
  const end = model.changes.indexOf(before);
  unannounced.push(...model.changes.slice(0, end === -1 ? model.changes.length : end).filter(({ isUrgent }) => isUrgent));
  // While nobody looks they are not announced.
  unannounced.splice(0, unannounced.length - UNANNOUNCED_MAX);
  schedule();
}

/** What came while nobody looks is drawn when somebody does. */
function schedule() {
  if (isScheduled || model.view === null || document.visibilityState !== "visible") return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    render();
  });
}

function render() {
  const started = performance.now();
  setHidden(by("content"), false);
  setHidden(by("token-form"), true);
  chooseTree();
  const nodes = [...model.nodes.values()].filter((node) => node.tree === tree);
  const { shown, context, isSearch } = search(nodes);
  summarize(nodes);
  const isOpen = (key) => isEvery || (isSearch && shown.length - context.size <= FOUND_MAX) || open.has(key);
  if (isTable) showNodes(isSearch ? shown.filter(({ id }) => !context.has(id)) : shown);
  else drawing.update(shown, { isOpen, selected, context });
  setHidden(by("every"), isTable || !drawing.isGrouped);
  showBroadcasts(model.view.broadcasts.filter((broadcast) => broadcast.tree === tree), nodes);
  showChanges(model.history(tree));
  details.update(selected, model);
  say();
  announce();
  // With what the browser does at once because of it.
  document.body.getBoundingClientRect();
  timings.push(performance.now() - started);
  if (timings.length > TIMINGS_MAX) timings.shift();
}

function chooseTree() {
  const trees = model.trees();
  if (!trees.includes(tree)) {
    const nodes = (name) => [...model.nodes.values()].filter((node) => node.tree === name).length;
    tree = trees.reduce((most, name) => (most === null || nodes(name) > nodes(most) ? name : most), null);
  }
  setHidden(by("tree-field"), trees.length < 2);
  const options = trees.map((name) => [...by("tree").options].find(({ value }) => value === name) ?? element("option", { value: name }, name));
  setChildren(by("tree"), options);
  if (tree !== null && by("tree").value !== tree) by("tree").value = tree;
}

/** What the filter leaves, and among it those that only feed what was looked for. */
function search(nodes) {
  const looked = by("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  if (looked.length === 0) {
    setText(by("matches"), "");
    return { shown: nodes, context: new Set(), isSearch: false };
  }
  const found = new Set(nodes.filter((node) => matches(node, looked)));
  const all = new Set(found);
  // A set grows while it is gone through: ancestors of ancestors are in it too.
  for (const node of all) {
    for (const link of node.links) if (model.nodes.has(link.node)) all.add(model.nodes.get(link.node));
  }
  const context = new Set([...all].filter((node) => !found.has(node)).map(({ id }) => id));
  setText(by("matches"), `${words.counted(found.size, "node")} of ${words.count(nodes.length)}`);
  return { shown: nodes.filter((node) => all.has(node)), context, isSearch: true };
}

function summarize(nodes) {
  const { view } = model;
  const own = view.broadcasts.filter((broadcast) => broadcast.tree === tree);
  const live = own.filter(({ state }) => state === "live").length;
  const viewers = view.trees.find(({ id }) => id === tree)?.viewers ?? own.reduce((sum, broadcast) => sum + broadcast.viewers, 0);
  const states = HEALTHS.toReversed().map((health) => [nodes.filter((node) => node.health === health).length, health]);
  const servers = nodes.filter(({ role, health }) => (role === "egress" || role === "all") && health !== "dead");
  const sent = servers.map(({ load }) => load.transmit_mbps).filter(Number.isFinite);
  setText(by("viewers"), words.count(viewers));
  setText(by("nodes"), states.filter(([number]) => number > 0).map(([number, health]) => `${words.count(number)} ${health}`).join(", ") || "none");
  setText(by("broadcasts-count"), own.length === 0 ? "none" : `${words.count(live)} live${own.length > live ? `, ${words.count(own.length - live)} waiting` : ""}`);
  setText(by("sent"), sent.length === 0 ? "–" : words.megabits(sent.reduce((sum, value) => sum + value, 0)));
  setText(by("slots"), words.slots((view.slots ?? []).filter((slot) => slot.tree === tree)));
  setText(by("controller"), view.leader === null ? "none leads" : view.is_leader ? `${view.controller} leads` : `${view.leader} leads, ${view.controller} answers`);
  setText(by("store"), view.is_store_up ? "up" : "away: media goes on, nothing is decided");
  setHidden(by("findings"), view.findings.length === 0);
  const list = by("findings").querySelector("ul");
  const items = view.findings.map((finding, index) => list.children[index] ?? element("li"));
  items.forEach((item, index) => setText(item, view.findings[index]));
  setChildren(list, items);
}

const STATES = {
  asking: "Asking the controller …",
  streaming: "Up to date, news each second.",
  polling: "Up to date, asked every 2 s: there is no event stream.",
  token: "An operator token is needed.",
};

function feedChanged(state, reason, isTold) {
  if (state === "token") askForToken(reason, isTold);
  feedState = state;
  if (state === "away" || state === "absent") setAttribute(by("state"), "title", reason ?? null);
  say();
}

/** How old what is shown is, in words. */
function say() {
  const isOld = newsAt > 0 && Date.now() - newsAt > FRESH_MS;
  let text = STATES[feedState];
  if (feedState === "absent") text = "This node has no controller: open the dashboard of a controller or of `up`.";
  else if (newsAt === 0 && feedState === "away") text = "The server does not answer; trying again.";
  else if (isOld && feedState !== "token") text = `No news since ${words.clock(newsAt / 1000)}; trying again. What is shown is old.`;
  else if (model.view && !model.view.is_settled) text = "The controller looks first; it will decide in a moment.";
  setText(by("state"), text);
  setAttribute(by("state"), "data-state", isOld ? "old" : feedState);
  by("content").classList.toggle("old", isOld);
}

function askForToken(reason, isTold) {
  const wasGiven = remembered(TOKEN) !== null;
  remember(TOKEN, null);
  setHidden(by("content"), true);
  setHidden(by("token-form"), false);
  setText(by("token-problem"), wasGiven ? `That token is not taken: ${reason}` : isTold ? reason : "");
  by("token").value = "";
  by("token").focus();
}

/** Tells those who do not see the drawing what is urgent, not more often than can be listened to. */
function announce() {
  if (unannounced.length === 0 || Date.now() < announcedAt + ANNOUNCE_INTERVAL_MS) return;
  const [first, second, ...rest] = unannounced.map(({ text }) => text);
  const more = rest.length > 0 ? `, and ${words.counted(rest.length, "more change")}` : "";
  setText(by("announcer"), `${[first, second].filter(Boolean).join(", ")}${more}.`);
  announcedAt = Date.now();
  unannounced = [];
}

function show(node) {
  selected = node;
  const found = model.nodes.get(node);
  if (found && found.tree !== tree) tree = found.tree;
  if (found) setText(by("announcer"), `Details of ${node}: ${words.health(found.health)}.`);
  schedule();
}

function toggle(key) {
  if (!open.delete(key)) open.add(key);
  schedule();
}

function showAs(table) {
  isTable = table;
  setHidden(by("table-section"), !table);
  setHidden(by("drawing-section"), table);
  setAttribute(by("as-table"), "aria-pressed", table);
  setAttribute(by("as-drawing"), "aria-pressed", !table);
  schedule();
}

by("as-drawing").addEventListener("click", () => showAs(false));
by("as-table").addEventListener("click", () => showAs(true));
by("every").addEventListener("click", () => {
  isEvery = !isEvery;
  setAttribute(by("every"), "aria-pressed", isEvery);
  schedule();
});
by("filter").addEventListener("input", schedule);
by("tree").addEventListener("change", () => {
  tree = by("tree").value;
  schedule();
});
by("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = by("token").value.trim();
  remember(TOKEN, token);
  setText(by("token-problem"), "");
  feedChanged("asking");
  feed.useToken(token);
});
document.addEventListener("click", ({ target }) => {
  const named = target.closest("button[data-show]");
  if (named) show(named.dataset.show);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") show(null);
  if (event.key !== "/" || event.target.matches("input, select")) return;
  event.preventDefault();
  by("filter").focus();
});
document.addEventListener("visibilitychange", schedule);
setInterval(say, 1000);

/** For tests and curious people. */
window.mediaTree = {
  get state() {
    return by("state").dataset.state ?? feedState;
  },
  get updates() {
    return timings.length;
  },
  /** Milliseconds that each of the latest updates took, layout included. */
  timings,
};

await feed.run();
