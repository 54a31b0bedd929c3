// The HTTP side of a WHIP or WHEP session (RFC 9725, section 4): POST the offer, DELETE the session.

/**
 * The server said no. `retryAfter` is in seconds, or null; `problem` is its problem document (RFC 9457), or null; `detail` is
 * what it says of it, which may be nothing.
 */
export class Refused extends Error {
  constructor(status, retryAfter, { detail = "", problem = null } = {}) {
    super(detail || `the server answered ${status}`);
    this.name = "Refused";
    this.status = status;
    this.retryAfter = retryAfter;
    this.problem = problem;
    this.detail = detail;
  }
}

/** What a key may be made of (RFC 6750, section 2.1, and more): browsers send no header with anything else. */
const KEY = /^[\x21-\x7e]*$/;
/** Between two questions to a server that refuses connections: for the first second, and later. */
const ASK_AGAIN_MS = 150;
const ASK_AGAIN_LATER_MS = 500;
/** What an ICE agent proves itself with. */
const ICE_CREDENTIALS = ["ice-ufrag", "ice-pwd"];

/** What the servers named so far: for a session that is made after one that could not connect. */
let iceServers = [];

/** A configuration with the STUN and TURN servers that are known. */
export function configuration() {
  return { bundlePolicy: "max-bundle", iceServers };
}

/** The STUN and TURN servers in the value of all Link headers (RFC 9725, section 4.6). */
function iceServersOf(header) {
  const servers = [...links(header ?? "")].filter(({ rel }) => rel === "ice-server");
  return servers.map(({ target: urls, username, credential }) => (username === undefined ? { urls } : { urls, username, credential }));
}

/** The links of a header (RFC 8288): `target`, and the parameters by name. */
export function* links(header) {
  for (const [, target, parameters] of header.matchAll(/<([^>]*)>((?:\s*;\s*[^\s,;="]+=(?:"(?:[^"\\]|\\.)*"|[^\s,;"]*))*)/g)) {
    const link = { target };
    for (const [, name, quoted, bare] of parameters.matchAll(/([^\s,;="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*))/g)) {
      link[name.toLowerCase()] = quoted?.replace(/\\(.)/g, "$1") ?? bare;
    }
    yield link;
  }
}

/**
 * POSTs an SDP offer. Resolves to `{ answer, location, link, tag, token }`, where `link` is the value of all Link headers,
 * or null, and `tag` names the ICE session; rejects with Refused or a network error.
 */
export async function postOffer(url, offer, token, signal) {
  // What was pasted may bring spaces along.
  token = token?.trim() || null;
  if (!KEY.test(token ?? "")) throw new Refused(400, null, { problem: { code: "token-malformed" } });
  const response = await fetch(url, {
    method: "POST",
    headers: headersWith(token, { "Content-Type": "application/sdp", Accept: "application/sdp" }),
    body: offer,
    signal,
  });
  const body = await response.text();
  if (response.status !== 201) {
    const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    throw new Refused(response.status, Number.isNaN(seconds) ? null : seconds, reasonOf(response, body));
  }
  const location = response.headers.get("Location");
  if (!location) throw new Refused(response.status, null, { detail: "the server names no session" });
  const link = response.headers.get("Link");
  iceServers = iceServersOf(link);
  return { answer: body, location: new URL(location, response.url).href, link, tag: tagOf(response), token };
}

/** Ends a session on the server; also works while the page goes away. Never rejects. */
export async function deleteSession({ location, token }) {
  try {
    await fetch(location, { method: "DELETE", headers: headersWith(token, {}), keepalive: true });
  } catch {
    // The server notices the silence by itself.
  }
}

/**
 * Begins ICE anew within a session (RFC 9725, section 4.3.3) with the credentials of `offer`, and notes the new tag in it.
 * Resolves to the status of the server's answer and the credentials in it; rejects if there is no answer.
 */
export async function patchIce(resource, offer, signal) {
  const { location, token } = resource;
  const body = ICE_CREDENTIALS.map((name) => `${lineOf(offer, name)}\r\n`).join("");
  const patch = (tag) => {
    const headers = headersWith(token, { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag });
    return fetch(location, { method: "PATCH", headers, body, signal });
  };
  // With its tag, a request that a bad network delivers late cannot undo the restart after it.
  let response = await patch(resource.tag ?? "*");
  // The server has restarted already: what did not come was its answer.
  if (response.status === 412) response = await patch("*");
  if (response.status === 200) resource.tag = tagOf(response);
  return { status: response.status, answer: await response.text() };
}

/** The tag of an answer; null if there is none that If-Match could name: a proxy that packs answers makes them weak. */
function tagOf(response) {
  const tag = response.headers.get("ETag");
  return tag?.startsWith('"') ? tag : null;
}

/** An SDP with the ICE credentials of a fragment in place of its own. */
export function withCredentialsOf(fragment, sdp) {
  return ICE_CREDENTIALS.reduce((text, name) => text.replace(linesOf(name), lineOf(fragment, name)), sdp);
}

/** The first line of this name. */
function lineOf(sdp, name) {
  const [line] = sdp.match(linesOf(name)) ?? [];
  if (!line) throw new SyntaxError(`no a=${name}`);
  return line;
}

function linesOf(name) {
  return new RegExp(`^a=${name}:[^\\r\\n]*`, "gm");
}

/** Whether anybody answers under a URL within a second, whatever he says. Never rejects. */
export async function isReachable(url) {
  try {
    await fetch(url, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(1000) });
    return true;
  } catch {
    return false;
  }
}

/**
 * How a session stands: "known" to its server, "unknown" there, or "silent" if the server does not answer in `patience` ms,
 * or until `asking` is aborted. Never rejects.
 */
export async function standing({ location, token }, patience, asking = new AbortController()) {
  const { signal } = asking;
  setTimeout(() => asking.abort(), patience);
  const began = performance.now();
  while (!signal.aborted) {
    try {
      const { ok, status } = await fetch(location, { headers: headersWith(token, {}), cache: "no-store", signal });
      // A proxy before a server that is away, and whoever is too busy, does not know.
      if (status < 500 && status !== 429) return ok ? "known" : "unknown";
    } catch {
      // Refused: its process may be about to start again, and goes on with its sessions then.
    }
    const pause = performance.now() - began < 1000 ? ASK_AGAIN_MS : ASK_AGAIN_LATER_MS;
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return "silent";
}

/** `url`, with a word on the server at `lost`, which does not answer: whoever is asked there sends nobody to it. */
export function withoutServer(lost, url) {
  const asked = new URL(url, document.baseURI);
  if (lost === null) return asked.href;
  const { host } = new URL(lost);
  // Whoever does not answer cannot be asked either.
  if (host !== asked.host) asked.search += `${asked.search ? "&" : "?"}lost=${host}`;
  return asked.href;
}

/** What the publisher of a session could do better, a list as advice.js shows it, or null. Never rejects. */
export async function adviceOf({ location, token }) {
  try {
    const signal = AbortSignal.timeout(1000);
    const response = await fetch(`${location}/advice`, { headers: headersWith(token, {}), cache: "no-store", signal });
    return response.ok ? (await response.json()).advice : null;
  } catch {
    return null;
  }
}

/**
 * What whoever publishes at a WHIP endpoint could do better. Resolves to the status of the server's answer, 0 if there is
 * none, to the advice, or null, and to the code of the problem, if there is one. Never rejects.
 */
export async function adviceAt(url, token) {
  try {
    const signal = AbortSignal.timeout(3000);
    const response = await fetch(`${url}/advice`, { headers: headersWith(token, {}), cache: "no-store", signal });
    const { advice = null, code = null } = await response.json();
    return { status: response.status, advice, code };
  } catch {
    return { status: 0, advice: null, code: null };
  }
}

/** Hands a caption or other timed data, as JSON, to a WHIP endpoint; whether it was taken. Never rejects. */
export async function postCue(url, token, body) {
  try {
    const signal = AbortSignal.timeout(3000);
    const headers = headersWith(token, { "Content-Type": "application/json" });
    return (await fetch(`${url}/cues`, { method: "POST", headers, body, signal })).ok;
  } catch {
    return false;
  }
}

/** Adds parameters to the Opus format of an SDP, so that both channels are carried. */
export function withStereo(sdp) {
  const payloadType = /a=rtpmap:(\d+) opus\/48000/i.exec(sdp)?.[1];
  if (!payloadType) return sdp;
  const format = new RegExp(`a=fmtp:${payloadType} [^\\r\\n]*`);
  if (!format.test(sdp)) {
    return sdp.replace(
      new RegExp(`(a=rtpmap:${payloadType} [^\\r\\n]*)`),
      `$1\r\na=fmtp:${payloadType} stereo=1;sprop-stereo=1`,
    );
  }
  return sdp.replace(format, (line) => (line.includes("stereo=1") ? line : `${line};stereo=1;sprop-stereo=1`));
}

/** Asks for the header extension that carries the time of capture, where the browser has it switched off. */
export function withCaptureTime(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  const wanted = extensions.find(({ uri }) => uri.endsWith("/abs-capture-time"));
  if (!wanted) return;
  wanted.direction = "sendrecv";
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}

function headersWith(token, headers) {
  return token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
}

function reasonOf(response, body) {
  if (response.headers.get("Content-Type")?.includes("json")) {
    try {
      const problem = JSON.parse(body);
      return { detail: problem.detail ?? problem.title, problem };
    } catch {
      return {};
    }
  }
  return { detail: body.length < 200 ? body.trim() : "" };
}
