// Where a broadcast can be had: the URL that the player came from, and those that it has learnt of.

const LEARNT_MAX = 4;
/** After so many turns in vain, one that did not answer is worth a try again. */
const LOST_TURNS = 3;

export class Places {
  #entry;
  #learnt = [];
  #lost = null;

  constructor(entry) {
    this.#entry = entry;
  }

  /** Remembers where else the broadcast was to be had; the latest comes first. */
  learn(url) {
    if (url === this.#entry) return;
    if (url === this.#lost) this.#lost = null;
    this.#learnt = [url, ...this.#learnt.filter((known) => known !== url)].slice(0, LEARNT_MAX);
  }

  /**
   * Remembers the endpoint of a session if its URL tells, and gives it, else null: behind a redirect stands a server that
   * has an endpoint of its own.
   */
  learnFrom(location) {
    const endpoint = new URL(location.replace(/\/[^/]*$/, ""));
    if (endpoint.pathname !== new URL(this.#entry).pathname || this.isEntry(endpoint.href)) return null;
    this.learn(endpoint.href);
    return endpoint.href;
  }

  /** Whether it is the one that the player came from. */
  isEntry(url) {
    return url === this.#entry;
  }

  /** It does not answer: others come first for a while. */
  lose(url) {
    this.forget(url);
    if (!this.isEntry(url)) this.#lost = url;
  }

  /** It is of no use. */
  forget(url) {
    this.#learnt = this.#learnt.filter((known) => known !== url);
  }

  /** Where to try, by turns: `preferred` if given, then where the player came from, which knows best, then the others. */
  pick(turn, preferred) {
    const lost = turn >= LOST_TURNS ? this.#lost : null;
    const all = [...new Set([preferred, this.#entry, ...this.#learnt, lost])].filter(Boolean);
    return all[turn % all.length];
  }
}
