// A clock that machines read off the picture: one row of black and white blocks along the top edge.
//
// 52 blocks: white, black (what those look like here), 42 bits of Date.now() with the highest first, 8 bits of CRC.

const DATA_BITS = 42;
const CRC_BITS = 8;
const BLOCKS = 2 + DATA_BITS + CRC_BITS;
/** Share of the picture's height that the row takes. */
const ROW_SHARE = 1 / 12;
/** White and black must differ by this much (of 255), or there is no row. */
const CONTRAST_MIN = 64;

/** Paints the row for `now` (ms since 1970) over the whole width of a 2D context. */
export function draw(context, now) {
  const { width, height } = context.canvas;
  const row = Math.round(height * ROW_SHARE);
  const bits = [1, 0, ...dataBits(now), ...crcBits(dataBits(now))];
  bits.forEach((bit, index) => {
    const left = Math.round((index * width) / BLOCKS);
    const right = Math.round(((index + 1) * width) / BLOCKS);
    context.fillStyle = bit ? "#fff" : "#000";
    context.fillRect(left, 0, right - left, row);
  });
}

let scratch = null;

/** The time in the picture that `video` shows, in ms since 1970, or null if there is none that can be trusted. */
export function read(video) {
  if (!video.videoWidth || !video.videoHeight) return null;
  // One pixel for each third of a block: the middle one has no neighbour's colour in it.
  const columns = BLOCKS * 3;
  scratch ??= Object.assign(document.createElement("canvas"), { width: columns, height: 3 });
  const context = scratch.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0, video.videoWidth, video.videoHeight * ROW_SHARE, 0, 0, columns, 3);
  const { data } = context.getImageData(0, 1, columns, 1);
  const light = (block) => {
    const at = (block * 3 + 1) * 4;
    return (data[at] + data[at + 1] + data[at + 2]) / 3;
  };
  const [white, black] = [light(0), light(1)];
  if (white - black < CONTRAST_MIN) return null;
  const bits = [];
  for (let block = 2; block < BLOCKS; block += 1) bits.push(light(block) > (white + black) / 2 ? 1 : 0);
  const dataPart = bits.slice(0, DATA_BITS);
  const isWhole = crcBits(dataPart).every((bit, index) => bit === bits[DATA_BITS + index]);
  return isWhole ? dataPart.reduce((value, bit) => value * 2 + bit, 0) : null;
}

function dataBits(now) {
  const bits = [];
  for (let rest = Math.floor(now), left = DATA_BITS; left > 0; left -= 1) {
    bits.unshift(rest % 2);
    rest = Math.floor(rest / 2);
  }
  return bits;
}

/** CRC-8, polynomial x^8 + x^2 + x + 1, start value 0xff so that a row of zeros does not pass. */
function crcBits(bits) {
  let crc = 0xff;
  for (const bit of bits) {
    const isOut = ((crc >> 7) & 1) ^ bit;
    crc = (crc << 1) & 0xff;
    if (isOut) crc ^= 0x07;
  }
  return Array.from({ length: CRC_BITS }, (_, index) => (crc >> (CRC_BITS - 1 - index)) & 1);
}
