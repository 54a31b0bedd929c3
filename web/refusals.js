// Why a server says no, in words: by the code of its problem document, which never changes, or by the status of its answer.

/** What it says no to for good, by code: keys of words. */
const REASONS = {
  "no-common-codec": "refused_formats",
  "no-usable-codec": "refused_codec",
  "not-an-injection-node": "refused_here",
  "token-malformed": "refused_key",
  "too-slow": "refused_slow",
  "too-large": "refused_offer",
  "offer-empty": "refused_empty",
  "offer-simulcast": "refused_sizes",
  "offer-bundle": "refused_offer",
  "offer-direction": "refused_offer",
  "offer-fingerprint": "refused_offer",
  "offer-ice-credentials": "refused_offer",
  "offer-ice-lite": "refused_offer",
  "offer-mid": "refused_offer",
  "offer-protocol": "refused_offer",
  "offer-rtcp-mux": "refused_offer",
  "offer-too-many-media": "refused_offer",
  "offer-too-rich": "refused_offer",
  "offer-unreadable": "refused_offer",
  "offer-unusable-media": "refused_offer",
};

/** What it says no to for now, by status: keys of words. */
const OBSTACLES = { 409: "because_occupied", 429: "because_often", 503: "because_busy" };

/** A refusal for good (Refused of endpoint.js) in words; in the server's own where its code is not known here. */
export function refusal({ status, problem, detail }, words) {
  const code = problem?.code;
  const reason = Object.hasOwn(REASONS, code) ? words.text(REASONS[code]) : detail;
  return words.text("refused", { reason: reason || words.text("refused_status", { status }) });
}

/** What is in the way for now, as a key of words; null for anything but an answer that says so. */
export function obstacle({ status, problem }) {
  if (problem?.code === "access-unavailable") return "because_unchecked";
  return OBSTACLES[status] ?? (status >= 500 ? "because_failed" : null);
}
