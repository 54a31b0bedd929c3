// What a session's statistics say about the last second: plain figures for programs, and the same in words for people.

/** Takes the statistics of a Player again and again; rates are of the time between two of them. */
export class Figures {
  #before = null;

  /**
   * The figures of `player` now, or null without a session: `bitrate` in bit/s, `loss` from 0 to 1, times in ms; null
   * is what is not known.
   */
  async take(player) {
    const stats = await player.stats();
    if (!stats) return null;
    const { video, audio, codecs, roundTripMs, firstFrameMs, delayMs, soundLateMs } = stats;
    const sum = (name) => (video?.[name] ?? 0) + (audio?.[name] ?? 0);
    const shown = video ?? audio;
    const now = {
      id: shown?.id,
      at: performance.now(),
      bytes: sum("bytesReceived"),
      received: sum("packetsReceived"),
      lost: sum("packetsLost"),
      held: shown?.jitterBufferDelay,
      emitted: shown?.jitterBufferEmittedCount,
    };
    const before = this.#before?.id === now.id ? this.#before : null;
    this.#before = now;
    const since = (name) => (before ? now[name] - before[name] : Number.NaN);
    const lost = Math.max(0, since("lost"));
    return {
      delayMs,
      soundLateMs,
      width: video?.frameWidth ?? null,
      height: video?.frameHeight ?? null,
      framesDecoded: video?.framesDecoded ?? 0,
      framesPerSecond: video?.framesPerSecond ?? null,
      videoCodec: codecs.video ?? null,
      audioCodec: codecs.audio ?? null,
      bitrate: known((since("bytes") * 8000) / since("at")),
      loss: known(lost / (lost + since("received"))),
      bufferMs: known((since("held") / since("emitted")) * 1000),
      roundTripMs,
      freezes: video?.freezeCount ?? null,
      freezeMs: (video?.totalFreezesDuration ?? 0) * 1000,
      firstFrameMs,
      layer: player.layer,
      server: player.server,
    };
  }
}

/** The rows of the overlay: names and values in words. */
export function rows(figures, layers, words) {
  const number = (value) => value ?? Number.NaN;
  const size = figures.width && `${figures.width} × ${figures.height}`;
  const freezes = figures.freezes !== null && `${figures.freezes} (${words.delay(figures.freezeMs)})`;
  const all = [
    ["delay", figures.delayMs === null ? words.text("not_known") : words.delay(figures.delayMs)],
    ["picture", size || "–"],
    ["rate", figures.framesPerSecond ?? "–"],
    ["codecs", words.codecs(figures.videoCodec, figures.audioCodec) || "–"],
    ["bitrate", words.bitrate(number(figures.bitrate))],
    ["layer", layers.length > 1 && layerInWords(figures, layers, words)],
    ["loss", words.percent(number(figures.loss))],
    ["buffer", words.delay(number(figures.bufferMs))],
    ["round_trip", words.delay(number(figures.roundTripMs))],
    ["freezes", freezes || "–"],
    ["first", words.delay(number(figures.firstFrameMs))],
    ["server", figures.server ?? "–"],
  ];
  return all.filter(([, value]) => value !== false).map(([name, value]) => [words.text(`figure_${name}`), String(value)]);
}

function layerInWords({ layer, height }, layers, words) {
  const now = shownLayer(height, layers);
  // The bitrate stands in a row of its own.
  if (layer === null) return now ? `${words.text("automatic")}: ${now.height}p` : words.text("automatic");
  const wanted = layers.find(({ name }) => name === layer);
  return wanted ? words.layer(wanted) : layer;
}

/** The layer that is on screen, if its height alone tells; else null. */
export function shownLayer(height, layers) {
  const fitting = layers.filter((layer) => height && layer.height === height);
  return fitting.length === 1 ? fitting[0] : null;
}

function known(number) {
  return Number.isFinite(number) ? number : null;
}
