// States, numbers and names in plain words, in the language of whoever reads them.
//
// Each language is one table: the same keys in all, with the same {placeholders}.

import de from "./words-de.js";
import en from "./words-en.js";
import it from "./words-it.js";

const TABLES = { de, en, it };

/** The languages there are, as in `lang`. */
export const LANGUAGES = Object.keys(TABLES);

/** The first of `wanted` (as in `lang` or `navigator.languages`) that there is; else English. */
export function languageOf(...wanted) {
  for (const tag of wanted) {
    const language = (tag ?? "").toLowerCase().split(/[-_]/)[0];
    if (Object.hasOwn(TABLES, language)) return language;
  }
  return "en";
}

/** The words for a reader who has asked for the languages `wanted`, best first, or else for the browser's languages. */
export function wordsFor(...wanted) {
  return new Words(languageOf(...wanted, ...(navigator.languages ?? [navigator.language])));
}

export class Words {
  #table;
  #plural;
  #ordinal;

  /** `language` is one of LANGUAGES. */
  constructor(language) {
    this.language = language;
    this.#table = TABLES[language];
    this.#plural = new Intl.PluralRules(language);
    this.#ordinal = new Intl.PluralRules(language, { type: "ordinal" });
  }

  /** The text of a key, with `values` in its placeholders. */
  text(key, values = {}) {
    return this.#table[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  /** 1 → "1st", 2 → "2nd", 13 → "13th". */
  ordinal(number) {
    return this.text(`nth_${this.#ordinal.select(number)}`, { number });
  }

  /** Bits per second as "740 kbit/s" or "2.4 Mbit/s". */
  bitrate(bitsPerSecond) {
    if (!Number.isFinite(bitsPerSecond)) return "–";
    return bitsPerSecond < 999_500
      ? `${Math.round(bitsPerSecond / 1000)} kbit/s`
      : `${this.#decimal(bitsPerSecond / 1e6)} Mbit/s`;
  }

  /** A number with one decimal at most: "10", "8.3". */
  number(number) {
    return number.toLocaleString(this.language, { maximumFractionDigits: 1, useGrouping: false });
  }

  /** Seconds as "8 s", "12 min", "3 h 05 min". */
  duration(seconds) {
    if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min`;
    return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  }

  /** Milliseconds as "85 ms" or "1.4 s". */
  delay(milliseconds) {
    if (!Number.isFinite(milliseconds)) return "–";
    return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${this.#decimal(milliseconds / 1000)} s`;
  }

  /** A share of 1 as "0 %", "0.4 %", "12 %". */
  percent(share) {
    if (!Number.isFinite(share)) return "–";
    return share === 0 || share >= 0.1 ? `${Math.round(share * 100)} %` : `${this.#decimal(share * 100)} %`;
  }

  /** "no viewers", "1 viewer", "12 viewers". */
  viewers(count) {
    if (count === 0) return this.text("viewers_none");
    return this.text(`viewers_${this.#plural.select(count) === "one" ? "one" : "other"}`, {
      count: count.toLocaleString(this.language),
    });
  }

  /** "H.265", "H.264 (High 4:4:4)": a codec as people call it, with its profile if that matters. */
  codec(name, profile = null) {
    const plain = { H264: "H.264", H265: "H.265", opus: "Opus" }[name] ?? name ?? this.text("not_known");
    return profile ? `${plain} (${profile})` : plain;
  }

  /** "H264 + Opus"; what is not there is left out. */
  codecs(...names) {
    const present = names.filter(Boolean);
    return present.map((name) => (name.toLowerCase() === "opus" ? "Opus" : name)).join(" + ");
  }

  /** "Reconnecting, 3rd try" from the second attempt on; with the reason before it, if there is one. */
  reconnecting(attempt, reason = null) {
    const state = attempt > 1 ? this.text("reconnecting_nth", { nth: this.ordinal(attempt) }) : this.text("reconnecting");
    const text = reason ? this.text("because", { reason, state }) : state;
    return text.replace(/^./, (first) => first.toUpperCase());
  }

  /** "720p · 1.5 Mbit/s"; what is not known of a layer is left out. */
  layer({ name, height, bitrate }) {
    const facts = [height && `${height}p`, bitrate && this.bitrate(bitrate)].filter(Boolean);
    return facts.length > 0 ? facts.join(" · ") : name;
  }

  #decimal(number) {
    const digits = { minimumFractionDigits: 1, maximumFractionDigits: 1, useGrouping: false };
    return number.toLocaleString(this.language, digits);
  }
}

/** For what is in English only. */
export const english = new Words("en");
