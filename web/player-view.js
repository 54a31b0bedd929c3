// What a player is made of: picture, notice, figures, bar and key form. Without any behaviour.

import { element, svg } from "./dom.js";

export const ICONS = {
  play: "M7 4l13 8-13 8z",
  pause: "M6 5h4v14H6zm8 0h4v14h-4z",
  sound: "M4 9v6h4l5 4V5L8 9zm12.5 3a4 4 0 0 0-2-3.5v7a4 4 0 0 0 2-3.5zm-2-8v2.1a6.5 6.5 0 0 1 0 11.8V20a8.5 8.5 0 0 0 0-16z",
  silent: "M4 9v6h4l5 4V5L8 9zm17.4.6L20 8.2l-2.4 2.4-2.4-2.4-1.4 1.4 2.4 2.4-2.4 2.4 1.4 1.4 2.4-2.4 2.4 2.4 1.4-1.4-2.4-2.4z",
  settings: "M3 6.2h7.2a3 3 0 0 1 5.6 0H21v1.6h-5.2a3 3 0 0 1-5.6 0H3zm0 10h2.2a3 3 0 0 1 5.6 0H21v1.6H10.8a3 3 0 0 1-5.6 0H3z",
  fullScreen: "M4 4h7v2H6v5H4zm14 9h2v7h-7v-2h5zM13 4h7v7h-2V6h-5zM4 13h2v5h5v2H4z",
  captions: "M4 5h16a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2zm0 2v10h16V7zm2 3h5v2H6zm7 0h5v2h-5zm-7 3h8v2H6zm10 0h2v2h-2z",
  close: "M6.4 5 5 6.4l5.6 5.6L5 17.6 6.4 19l5.6-5.6 5.6 5.6 1.4-1.4-5.6-5.6L19 6.4 17.6 5 12 10.6z",
};

export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button that shows an icon and says `word`. */
export function iconButton(id, iconName, word, attributes = {}) {
  return element("button", { id, type: "button", class: "mt-button", "data-label": word, ...attributes }, icon(iconName));
}

function keyForm() {
  const key = element("input", { id: "key", type: "password", autocomplete: "off", required: "", "aria-describedby": "key-hint" });
  const form = element(
    "form",
    { id: "key-form", class: "mt-key-form", hidden: "" },
    element("label", { for: "key", "data-word": "key" }),
    key,
    element("p", { id: "key-hint", "data-word": "key_hint" }),
    element("button", { type: "submit", "data-word": "watch" }),
  );
  return { form, key };
}

/** The parts by name; `player` holds all others. */
export function view() {
  const { form, key } = keyForm();
  const parts = {
    stage: element("div", { id: "stage", class: "mt-stage" }),
    // The badge says it to those who listen.
    notice: element("p", { id: "notice", class: "mt-notice", "aria-hidden": "true" }),
    soundOn: element(
      "button",
      { id: "sound-on", type: "button", class: "mt-sound-on", hidden: "" },
      icon("silent"),
      element("span", { "data-word": "sound_on" }),
    ),
    // Read aloud only where captions are switched on: who hears the sound does not need them.
    caption: element("p", { id: "caption", class: "mt-caption", dir: "auto", "aria-live": "polite" }),
    figures: element("dl", { id: "figures", class: "mt-figures", hidden: "" }),
    form,
    key,
    play: iconButton("play", "pause", "pause", { "aria-keyshortcuts": "Space K" }),
    mute: iconButton("mute", "silent", "unmute", { "aria-keyshortcuts": "M" }),
    badge: element("span", { id: "badge", class: "mt-badge", role: "status" }),
    delay: element("span", { id: "delay", class: "mt-delay" }),
    captions: iconButton("captions", "captions", "captions", { "aria-keyshortcuts": "C", "aria-pressed": "false", hidden: "" }),
    settings: iconButton("settings", "settings", "settings", { "aria-haspopup": "dialog", "aria-expanded": "false" }),
    fullScreen: iconButton("fullscreen", "fullScreen", "full_screen", { "aria-keyshortcuts": "F" }),
  };
  const { stage, notice, soundOn, caption, figures, play, mute, badge, delay, captions, settings, fullScreen } = parts;
  const state = element("p", { class: "mt-state" }, badge, delay);
  parts.bar = element("div", { class: "mt-bar" }, play, mute, state, captions, settings, fullScreen);
  parts.player = element(
    "section",
    { id: "player", class: "mt-player", tabindex: "-1" },
    stage,
    notice,
    figures,
    soundOn,
    caption,
    form,
    parts.bar,
  );
  return parts;
}

/** Shows figures, [name, value] each; what has not changed is not touched. */
export function showFigures(list, figures) {
  while (list.children.length > figures.length) list.lastElementChild.remove();
  while (list.children.length < figures.length) {
    list.append(element("div", {}, element("dt"), element("dd")));
  }
  figures.forEach(([name, value], index) => {
    const [term, detail] = list.children[index].children;
    if (term.textContent !== name) term.textContent = name;
    if (detail.textContent !== value) detail.textContent = value;
  });
}
