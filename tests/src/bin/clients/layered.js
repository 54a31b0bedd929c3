// Publishes a picture that is large enough for three layers, and so restless that each of them needs the bitrate that it may
// take, and a tone, with the publish page's own session.
(async ({ token, width, height, bitrate }) => {
  const { WhipSession } = await import("/assets/whip.js");
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { alpha: false });
  const GRAIN = 12;
  const noise = new OffscreenCanvas(width, height);
  const grains = noise.getContext("2d");
  for (let y = 0; y < height; y += GRAIN) {
    for (let x = 0; x < width; x += GRAIN) {
      grains.fillStyle = `hsl(${Math.random() * 360} 40% ${30 + Math.random() * 40}%)`;
      grains.fillRect(x, y, GRAIN, GRAIN);
    }
  }
  const paint = () => {
    const now = performance.now();
    context.fillStyle = `hsl(${(now / 50) % 360} 40% 40%)`;
    context.fillRect(0, 0, width, height);
    // Noise that wanders, and a place where every picture has noise of its own.
    context.drawImage(noise, -((now / 20) % (width / 2)), 0, width, height);
    const [left, top] = [Math.random() * width * 0.9, Math.random() * height * 0.9];
    context.drawImage(noise, left, top, width / 10, height / 10, width * 0.45, height * 0.45, width / 10, height / 10);
    context.fillStyle = "white";
    context.font = "60px monospace";
    context.fillText(now.toFixed(0), width / 3 + (width / 4) * Math.sin(now / 700), height / 4);
  };
  paint();
  const stream = canvas.captureStream(30);
  const ticker = new Worker("/assets/ticker.js");
  ticker.onmessage = paint;
  ticker.postMessage(1000 / 30);
  const audio = new AudioContext();
  const tone = new OscillatorNode(audio, { frequency: 440 });
  const sound = new MediaStreamAudioDestinationNode(audio);
  tone.connect(sound);
  tone.start();
  sound.stream.getAudioTracks().forEach((track) => stream.addTrack(track));
  const session = new WhipSession(() => {});
  window.layered = { session, stream, ticker, audio };
  await session.open("/whip/show", token, stream, { codec: "vp8", bitrate, isLayered: true });
})
