// States and numbers of the dashboard in plain words.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 12345 → "12,345". */
export function count(number) {
  return whole.format(number);
}

/** "1 node", "3 nodes". */
export function counted(number, singular, plural = `${singular}s`) {
  return `${count(number)} ${number === 1 ? singular : plural}`;
}

/** Packets a second, short: "840/s", "1.8k/s", "120k/s". */
export function rate(packetsPerSecond) {
  if (!Number.isFinite(packetsPerSecond)) return "–";
  if (packetsPerSecond < 999.5) return `${count(packetsPerSecond)}/s`;
  const thousands = packetsPerSecond / 1000;
  return thousands < 99.5 ? `${thousands.toFixed(1)}k/s` : `${count(thousands)}k/s`;
}

/** Mbit/s as "2.4 Mbit/s" or "1.2 Gbit/s"; "–" when nobody knows. */
export function megabits(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 999.5) return `${(value / 1000).toFixed(1)} Gbit/s`;
  return `${value < 10 ? value.toFixed(1) : count(value)} Mbit/s`;
}

/** A share of 1 as "41 %"; "–" when nobody knows. */
export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : "–";
}

/** Seconds since 1970 as the time of day here. */
export function clock(seconds) {
  const at = new Date(seconds * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

const LINKS = {
  carries: "carries media",
  standby: "standby",
  unassigned: "connected, not assigned",
  down: "down",
};

/** What a link is for. */
export function link(state) {
  return LINKS[state];
}

const ROLES = { injection: "injection", relay: "relay", egress: "egress", all: "injection and egress", controller: "controller" };

/** What a node does. */
export function role(name) {
  return ROLES[name] ?? name;
}

const HEALTH = {
  ready: "ready",
  draining: "draining",
  suspect: "suspect: not heard for a moment",
  dead: "dead: not heard any more",
};

/** How a node is, in a sentence's worth of words. */
export function health(name) {
  return HEALTH[name] ?? name;
}

/** Loss that is worth a word: one packet in a thousand. */
export const LOSS_MIN = 0.001;

/** A share of 1 that is lost, as "0.3 %"; "–" when nobody knows. */
export function loss(share) {
  return Number.isFinite(share) ? `${(share * 100).toFixed(1)} %` : "–";
}

/** "relay-1 1.8k/s", or "relay-1 1.8k/s, 0.3 % lost" on a link that loses packets, whether or not they are repaired. */
function carried({ node, rate: packets, loss: lost }) {
  return `${node} ${rate(packets)}${lost >= LOSS_MIN ? `, ${loss(lost)} lost` : ""}`;
}

/** "relay-1 1.8k/s, relay-2 standby"; empty without parents. */
export function parents(links) {
  const each = links.map((one) => (one.state === "carries" ? carried(one) : `${one.node} ${link(one.state)}`));
  return each.join(", ");
}

/** The same where there is little room: "from relay-1 1.8k/s, 1 standby". */
export function parentsShort(links) {
  const carrying = links.filter(({ state }) => state === "carries").map(carried);
  const others = ["down", "unassigned", "standby"].flatMap((state) => {
    const number = links.filter((other) => other.state === state).length;
    return number === 0 ? [] : [`${number} ${state === "unassigned" ? "not assigned" : state}`];
  });
  const from = carrying.length === 0 ? "from nobody" : `from ${carrying.join(", ")}`;
  return links.length === 0 ? "" : [from, ...others].join(", ");
}

const SLOT_STATES = ["warm", "warming", "growing", "attached", "draining", "stopping", "cold"];

/** What a tree has to grow by: "1 warm, 2 attached, 2 cold"; "none" where it does not grow by itself. */
export function slots(all) {
  const counts = SLOT_STATES.map((state) => [all.filter((slot) => slot.state === state).length, state]);
  const waiting = all.filter(({ proposal }) => proposal !== null && !proposal.is_approved).length;
  const states = counts.filter(([number]) => number > 0).map(([number, state]) => `${number} ${state}`);
  return [...states, ...(waiting > 0 ? [`${waiting} waits for approval`] : [])].join(", ") || "none";
}
