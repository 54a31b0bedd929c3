"""Publishes over WHIP or Enhanced RTMP with ffmpeg's own muxers, out of PyAV's build of ffmpeg 8.

    python ffmpeg.py RECORDING URL SECONDS [OPTION=VALUE...]

RECORDING is any file whose codecs the muxer takes: H264 and Opus for WHIP, for RTMP HEVC, VP9 or AV1 with AAC or Opus, too.
Its first SECONDS are played over and over in real time until standard input ends. The options are the muxer's, as after
`-f whip`.
"""
import sys
import threading
import time

import av

path, url = sys.argv[1:3]
length = int(sys.argv[3])
options = dict(option.split("=", 1) for option in sys.argv[4:])
is_wanted = threading.Event()
is_wanted.set()


def wait_for_the_end():
    sys.stdin.read()
    is_wanted.clear()


threading.Thread(target=wait_for_the_end, daemon=True).start()
print("version", ".".join(map(str, av.library_versions["libavformat"])), flush=True)
av.logging.restore_default_callback()

recording = av.open(path)
muxer = "flv" if url.startswith("rtmp") else "whip"
output = av.open(url, "w", format=muxer, options=options)
# Nothing is encoded here: there need be no encoder of the name that the decoder has.
streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in recording.streams}
output.start_encoding()
print("state connected", flush=True)
start = time.monotonic()
print("began", time.time() * 1000, flush=True)
turn = 0
while is_wanted.is_set():
    recording.seek(0)
    for packet in recording.demux():
        if packet.dts is None or not is_wanted.is_set():
            continue
        if packet.pts * packet.time_base >= length:
            continue
        offset = round(turn * length / packet.time_base)
        packet.dts, packet.pts = packet.dts + offset, packet.pts + offset
        time.sleep(max(0.0, start + float(packet.dts * packet.time_base) - time.monotonic()))
        packet.stream = streams[packet.stream.index]
        output.mux(packet)
    turn += 1
output.close()
print("deleted", flush=True)
