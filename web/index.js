// What is live: asks the server every two seconds and changes only what has changed.

import { english as words } from "./words.js";

const POLL_INTERVAL_MS = 2000;

const list = document.getElementById("broadcasts");
const summary = document.getElementById("summary");
const template = document.getElementById("broadcast");
const rows = new Map();

async function refresh() {
  try {
    const response = await fetch("/api/v1/broadcasts", { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch {
    say("The server cannot be reached; trying again.");
  }
}

function show(broadcasts) {
  const known = new Set(broadcasts.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (known.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  broadcasts.forEach((broadcast, index) => {
    const row = rows.get(broadcast.id) ?? newRow(broadcast.id);
    fill(row, broadcast);
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
  });
  const live = broadcasts.filter(({ state }) => state === "live").length;
  if (broadcasts.length === 0) say("Nothing is live. Broadcasts appear here by themselves.");
  else if (live === 0) say("Nothing is live at the moment.");
  else say(live === 1 ? "One broadcast is live." : `${live} broadcasts are live.`);
}

function newRow(id) {
  const row = template.content.firstElementChild.cloneNode(true);
  const path = encodeURIComponent(id);
  row.querySelector("h2").textContent = id;
  const watch = row.querySelector(".watch");
  watch.href = `/watch/${path}`;
  watch.setAttribute("aria-label", `Watch ${id}`);
  const publish = row.querySelector(".publish");
  publish.href = `/publish/${path}`;
  publish.setAttribute("aria-label", `Publish ${id}`);
  rows.set(id, row);
  return row;
}

function fill(row, { state, viewers, tracks, since }) {
  const isLive = state === "live";
  const badge = row.querySelector(".badge");
  setText(badge, isLive ? "Live" : "Waiting for the broadcaster");
  badge.classList.toggle("live", isLive);
  const facts = [
    words.viewers(viewers),
    since && `${isLive ? "on air for" : "for"} ${words.duration(Date.now() / 1000 - since)}`,
    words.codecs(...["video", "audio"].map((kind) => tracks.find((track) => track.kind === kind)?.codec)),
  ];
  setText(row.querySelector("p"), facts.filter(Boolean).join(" · "));
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function say(text) {
  setText(summary, text);
}

document.getElementById("new").addEventListener("submit", (event) => {
  event.preventDefault();
  location.assign(`/publish/${encodeURIComponent(document.getElementById("name").value)}`);
});

await refresh();
setInterval(() => document.visibilityState === "visible" && refresh(), POLL_INTERVAL_MS);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
