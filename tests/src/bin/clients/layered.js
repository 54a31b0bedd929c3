// Publishes a picture that is large enough for three layers, and so restless that each of them needs the bitrate that it may
// take, with the publish page's own session.
(async ({ token, width, height, bitrate }) => {
  const { WhipSession } = await import("/assets/whip.js");
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { alpha: false });
  const noise = new OffscreenCanvas(width, height);
  const grains = noise.getContext("2d");
  for (let y = 0; y < height; y += 6) {
    for (let x = 0; x < width; x += 6) {
      grains.fillStyle = `hsl(${Math.random() * 360} 60% ${20 + Math.random() * 60}%)`;
      grains.fillRect(x, y, 6, 6);
    }
  }
  const paint = () => {
    const now = performance.now();
    context.fillStyle = `hsl(${(now / 50) % 360} 40% 40%)`;
    context.fillRect(0, 0, width, height);
    // A window into the noise that wanders, and noise of its own in every picture.
    context.drawImage(noise, -((now / 7) % (width / 2)), 0, width, height);
    const [left, top] = [Math.random() * width, Math.random() * height];
    context.drawImage(noise, left, top, width / 8, height / 8, width * 0.4, height * 0.4, width / 5, height / 5);
    context.fillStyle = "white";
    context.font = "60px monospace";
    context.fillText(now.toFixed(0), width / 3 + (width / 4) * Math.sin(now / 700), height / 4);
  };
  paint();
  const stream = canvas.captureStream(30);
  const ticker = new Worker("/assets/ticker.js");
  ticker.onmessage = paint;
  ticker.postMessage(1000 / 30);
  const session = new WhipSession(() => {});
  window.layered = { session, stream, ticker };
  await session.open("/whip/show", token, stream, { codec: "vp8", bitrate, isLayered: true });
})
