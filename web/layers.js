// Layers of a picture: which there are, and choosing one (WHEP, "Video Layer Selection extension").

import { links } from "./endpoint.js";

const EXTENSION = "urn:ietf:params:whep:ext:core:layer";
/** A server that does not answer by then is away. */
const ANSWER_MAX_MS = 5000;
/** Nobody chooses among more. */
const LAYERS_MAX = 16;

/** Where `Link` headers say that layers are chosen, or null. */
export function layersEntry(linkHeader, base) {
  const link = [...links(linkHeader ?? "")].find(({ rel }) => rel === EXTENSION);
  if (!link) return null;
  try {
    return new URL(link.target, base).href;
  } catch {
    return null;
  }
}

/** Chooses a layer by name, or none with null: the status of the answer, 0 if there is none. Never rejects. */
export async function selectLayer(url, token, mediaId, name) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const body = JSON.stringify(name === null ? { mediaId } : { mediaId, rid: name });
  try {
    return (await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(ANSWER_MAX_MS) })).status;
  } catch {
    return 0;
  }
}

/**
 * The layers in the data of a `layers` event, best first: `{ name, bitrate, width, height, isActive }`, with null for
 * what is not told. Servers tell one list, in which only what is sent has a bitrate, or several; a layer may stand in
 * more than one, and in one of them once for each of its temporal layers.
 */
export function layersOf(data, mediaId) {
  const told = data?.[mediaId] ?? {};
  const { active, inactive, layers } = Array.isArray(told) ? listed(told) : told;
  const found = new Map();
  const take = (list, isListed, isActive) => {
    for (const entry of Array.isArray(list) ? list : []) {
      const name = entry?.encodingId ?? entry?.rid;
      if (typeof name !== "string" || name === "" || !(isListed || found.has(name))) continue;
      const known = found.get(name) ?? { name, bitrate: null, width: null, height: null, isActive };
      for (const fact of ["bitrate", "width", "height"]) {
        const value = entry[fact];
        if (Number.isFinite(value) && value > 0) known[fact] = Math.max(value, known[fact] ?? 0);
      }
      if (found.size < LAYERS_MAX) found.set(name, known);
    }
  };
  take(active, true, true);
  take(inactive, true, false);
  take(layers, false);
  const size = ({ height, bitrate }) => [height ?? 0, bitrate ?? 0];
  return [...found.values()].sort((one, other) => {
    const [[height, bitrate], [otherHeight, otherBitrate]] = [size(one), size(other)];
    return otherHeight - height || otherBitrate - bitrate;
  });
}

/** Whether the data of a `layers` event says that our server sends none for now, because the connection carries sound alone. */
export function isHeld(data, mediaId) {
  const told = data?.[mediaId];
  return Array.isArray(told) && told.some((layer) => layer?.held === true);
}

function listed(layers) {
  const isSent = (layer) => layer?.bitrate > 0;
  return { active: layers.filter(isSent), inactive: layers.filter((layer) => !isSent(layer)) };
}
