// What is live: asks the server every two seconds and changes only what has changed.

import { setAttribute, setText, translate } from "./dom.js";
import { wordsFor } from "./words.js";

const POLL_INTERVAL_MS = 2000;

const list = document.getElementById("broadcasts");
const summary = document.getElementById("summary");
const template = document.getElementById("broadcast");
const rows = new Map();
const words = wordsFor(new URLSearchParams(location.search).get("lang"));

document.documentElement.lang = words.language;
translate(document.body, words);
setAttribute(document.getElementById("name"), "placeholder", words.text("broadcast_name_example"));

async function refresh() {
  try {
    const response = await fetch("/api/v1/broadcasts", { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch {
    say(words.text("server_away"));
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
  if (broadcasts.length === 0) say(words.text("live_none_yet"));
  else if (live === 0) say(words.text("live_none"));
  else say(words.text(live === 1 ? "live_one" : "live_other", { count: live }));
}

function newRow(id) {
  const row = template.content.firstElementChild.cloneNode(true);
  translate(row, words);
  const path = encodeURIComponent(id);
  row.querySelector("h2").textContent = id;
  const watch = row.querySelector(".watch");
  watch.href = `/watch/${path}`;
  setAttribute(watch, "aria-label", words.text("watch_what", { name: id }));
  const publish = row.querySelector(".publish");
  publish.href = `/publish/${path}`;
  setAttribute(publish, "aria-label", words.text("publish_what", { name: id }));
  rows.set(id, row);
  return row;
}

function fill(row, { state, viewers, tracks, since }) {
  const isLive = state === "live";
  const badge = row.querySelector(".badge");
  setText(badge, words.text(isLive ? "live" : "waiting"));
  badge.classList.toggle("live", isLive);
  const facts = [
    words.viewers(viewers),
    since && words.text(isLive ? "fact_on_air" : "fact_since", { duration: words.duration(Date.now() / 1000 - since) }),
    words.codecs(...["video", "audio"].map((kind) => tracks.find((track) => track.kind === kind)?.codec)),
  ];
  setText(row.querySelector("p"), facts.filter(Boolean).join(" · "));
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
