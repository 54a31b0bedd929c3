// A worker that ticks: timers of a page in the background are slowed down to one a second, those of a worker are not.

self.onmessage = ({ data: intervalMs }) => {
  setInterval(() => self.postMessage(null), intervalMs);
};
