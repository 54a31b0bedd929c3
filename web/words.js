// Numbers and states in plain words.

/** 1 → "1st", 2 → "2nd", 13 → "13th". */
export function ordinal(number) {
  const isTeen = number % 100 >= 11 && number % 100 <= 13;
  const ending = isTeen ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[number % 10] ?? "th");
  return `${number}${ending}`;
}

/** Bits per second as "740 kbit/s" or "2.4 Mbit/s". */
export function bitrate(bitsPerSecond) {
  if (!Number.isFinite(bitsPerSecond)) return "–";
  return bitsPerSecond < 999_500
    ? `${Math.round(bitsPerSecond / 1000)} kbit/s`
    : `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}

/** Seconds as "8 s", "12 min", "3 h 05 min". */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Milliseconds as "85 ms" or "1.4 s". */
export function delay(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "–";
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

/** A share of 1 as "0 %", "0.4 %", "12 %". */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  return share === 0 || share >= 0.1 ? `${Math.round(share * 100)} %` : `${(share * 100).toFixed(1)} %`;
}

/** "no viewers", "1 viewer", "12 viewers". */
export function viewers(count) {
  if (count === 0) return "no viewers";
  return count === 1 ? "1 viewer" : `${count.toLocaleString("en")} viewers`;
}

/** "H264 + Opus"; what is not there is left out. */
export function codecs(...names) {
  const present = names.filter(Boolean);
  return present.map((name) => (name.toLowerCase() === "opus" ? "Opus" : name)).join(" + ");
}

/** "reconnecting, 3rd try" from the second attempt on. */
export function reconnecting(attempt) {
  return attempt > 1 ? `reconnecting, ${ordinal(attempt)} try` : "reconnecting";
}
