// The keys of a player.

/** `does` names what a key does, `says` says it; `caps` is what stands on the keys, or the word for it. */
export const KEYS = [
  { keys: [" ", "k"], caps: ["key_space", "k"], does: "pause", says: "keys_pause" },
  { keys: ["m"], caps: ["m"], does: "mute", says: "keys_mute" },
  { keys: ["f"], caps: ["f"], does: "fullScreen", says: "keys_full_screen" },
  { keys: ["p"], caps: ["p"], does: "floating", says: "keys_floating" },
  { keys: ["c"], caps: ["c"], does: "captions", says: "keys_captions" },
  { keys: ["i"], caps: ["i"], does: "statistics", says: "keys_statistics" },
  { keys: ["arrowup", "arrowdown"], caps: ["↑", "↓"], does: "volume", says: "keys_volume" },
  { keys: ["?"], caps: ["?"], does: "help", says: "keys_help" },
];

/** Types of input in which a letter is not typed. */
const SILENT_INPUTS = ["button", "checkbox", "radio", "range", "submit"];

/** What a key press means, as `does` of KEYS, or null: others have their own use of it. */
export function meaning(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return null;
  const target = event.composedPath()[0];
  const isInput = target.localName === "input";
  if (isInput && !SILENT_INPUTS.includes(target.type)) return null;
  if (["select", "textarea"].includes(target.localName) || target.isContentEditable) return null;
  // What fills forms in presses keys without a name.
  const key = (event.key ?? "").toLowerCase();
  // What has the focus takes the space bar itself, and the arrows where it has a use for them.
  if (key === " " && (isInput || ["button", "a", "summary"].includes(target.localName))) return null;
  if (key.startsWith("arrow") && isInput) return null;
  const found = KEYS.find(({ keys }) => keys.includes(key));
  // A key that is held down goes on being one press, but for the volume.
  return found && (!event.repeat || found.does === "volume") ? found.does : null;
}
