// What a publisher could do better, as a list of sentences in the language of the page.

import de from "./advice-words-de.js";
import it from "./advice-words-it.js";

/** English is what the server says itself. */
const TABLES = { de, it };

/** Shows advice in a list, `[{ code, severity, what, figures, remedy }]`. */
export function showAdvice(list, advice, words) {
  const items = advice.map((piece) => {
    const { what, remedy, language } = sentencesOf(piece, words);
    const item = document.createElement("li");
    item.className = piece.severity;
    item.lang = language;
    const sentence = document.createElement("strong");
    sentence.textContent = what;
    item.append(sentence, ` ${remedy}`);
    return item;
  });
  const text = items.map((item) => item.textContent).join("");
  // Unchanged words are left alone: a screen reader would read them again.
  if (list.textContent !== text) list.replaceChildren(...items);
}

/** In the reader's language; in the server's own words where a code, or its figures, are not known here. */
function sentencesOf({ code, what, figures = {}, remedy }, words) {
  const table = TABLES[words.language] ?? {};
  const known = Object.hasOwn(table, code) ? table[code] : null;
  const sentence = known?.what.find((text) => placeholdersOf(text).every((name) => Object.hasOwn(figures, name)));
  if (!sentence) return { what, remedy, language: "en" };
  const said = sentence.replace(/\{(\w+)\}/g, (_, name) => figure(name, figures[name], words));
  return { what: said, remedy: known.remedy, language: words.language };
}

function placeholdersOf(text) {
  return [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
}

function figure(name, value, words) {
  if (typeof value !== "number") return value;
  return name === "bitrate" ? words.bitrate(value) : words.number(value);
}
