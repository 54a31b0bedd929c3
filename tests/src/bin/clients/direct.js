// The test picture from one peer of this page to another, without a server between: what this browser and machine make of it
// at best. What it answers to is what the player's page answers to.
(async ({ codec }) => {
  const testpicture = await import("/assets/testpicture.js");
  const source = testpicture.open("direct");
  const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
  from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate);
  to.onicecandidate = ({ candidate }) => candidate && from.addIceCandidate(candidate);
  const video = Object.assign(document.createElement("video"), { autoplay: true, srcObject: new MediaStream() });
  document.body.prepend(video);
  const started = performance.now();
  let firstFrameMs = null;
  video.requestVideoFrameCallback(() => (firstFrameMs = performance.now() - started));
  to.ontrack = ({ track }) => video.srcObject.addTrack(track);
  for (const track of source.stream.getTracks()) {
    const transceiver = from.addTransceiver(track, { direction: "sendonly", streams: [source.stream] });
    if (track.kind !== "video") continue;
    const isWanted = ({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`;
    transceiver.setCodecPreferences(RTCRtpSender.getCapabilities("video").codecs.filter(isWanted));
  }
  await from.setLocalDescription();
  await to.setRemoteDescription(from.localDescription);
  await to.setLocalDescription();
  await from.setRemoteDescription(to.localDescription);
  for (const receiver of to.getReceivers()) if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  window.direct = { from, to, source, video };
  window.mediaTree = {
    async stats() {
      const report = await to.getStats();
      const inbound = [...report.values()].filter(({ type }) => type === "inbound-rtp");
      const [picture, sound] = ["video", "audio"].map((wanted) => inbound.find(({ kind }) => kind === wanted));
      return {
        framesDecoded: picture?.framesDecoded ?? 0,
        freezeCount: picture?.freezeCount ?? null,
        totalFreezesDuration: picture?.totalFreezesDuration ?? null,
        audioEnergy: sound?.totalAudioEnergy ?? 0,
        packetsLost: (picture?.packetsLost ?? 0) + (sound?.packetsLost ?? 0),
        videoCodec: report.get(picture?.codecId)?.mimeType.split("/")[1] ?? null,
        firstFrameMs,
      };
    },
  };
})
