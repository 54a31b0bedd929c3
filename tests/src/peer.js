// A peer connection of a page's own, without our player or publisher around it.
window.peer = {
  /** Publishes a moving picture, or watches, at a WHIP or WHEP endpoint. */
  async begin(url, token, publishes) {
    const connection = new RTCPeerConnection();
    if (publishes) {
      const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
      const context = canvas.getContext("2d");
      setInterval(() => {
        context.fillStyle = `hsl(${performance.now() % 360} 80% 50%)`;
        context.fillRect(0, 0, 320, 180);
      }, 33);
      connection.addTransceiver(canvas.captureStream(30).getTracks()[0], { direction: "sendonly" });
    } else {
      connection.addTransceiver("video", { direction: "recvonly" });
    }
    await connection.setLocalDescription();
    const headers = { "Content-Type": "application/sdp", ...(token && { Authorization: `Bearer ${token}` }) };
    const body = connection.localDescription.sdp;
    const response = await fetch(url, { method: "POST", headers, body });
    if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
    await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
    const session = new URL(response.headers.get("Location"), response.url).href;
    Object.assign(this, { connection, session, token, tag: response.headers.get("ETag") });
    return session;
  },

  /** Restarts ICE; gives the answer's status, tag and body. */
  async restart(ifMatch) {
    const { connection } = this;
    await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
    const offered = connection.localDescription.sdp;
    const answered = await this.patch(ifMatch, ["ice-ufrag", "ice-pwd"].map((name) => line(offered, name)).join("\r\n"));
    if (answered.status !== 200) {
      await connection.setLocalDescription({ type: "rollback" });
      return answered;
    }
    const names = ["ice-ufrag", "ice-pwd"];
    const sdp = names.reduce(
      (text, name) => text.replaceAll(new RegExp(`^a=${name}:.*$`, "gm"), line(answered.body, name)),
      connection.currentRemoteDescription.sdp,
    );
    await connection.setRemoteDescription({ type: "answer", sdp });
    this.tag = answered.tag;
    return answered;
  },

  async patch(ifMatch, text) {
    const headers = {
      "Content-Type": "application/trickle-ice-sdpfrag",
      ...(ifMatch && { "If-Match": ifMatch }),
      ...(this.token && { Authorization: `Bearer ${this.token}` }),
    };
    const response = await fetch(this.session, { method: "PATCH", headers, body: `${text}\r\n` });
    return { status: response.status, tag: response.headers.get("ETag"), body: await response.text() };
  },

  /** Whether the pair in use was checked with the credentials of the latest offer, and how many pictures went by. */
  async look() {
    const report = [...(await this.connection.getStats()).values()];
    const transport = report.find(({ type }) => type === "transport");
    const pair = report.find(({ id }) => id === transport?.selectedCandidatePairId);
    const local = report.find(({ id }) => id === pair?.localCandidateId);
    const rtp = report.find(({ type }) => type === "inbound-rtp" || type === "outbound-rtp");
    const offered = line(this.connection.localDescription.sdp, "ice-ufrag").split(":")[1];
    return {
      isRestarted: local?.usernameFragment === offered,
      state: this.connection.connectionState,
      dtls: transport?.dtlsState,
      packets: rtp?.packetsReceived ?? rtp?.packetsSent ?? 0,
      frames: rtp?.framesDecoded ?? rtp?.framesEncoded ?? 0,
    };
  },
};

function line(sdp, name) {
  return sdp.match(new RegExp(`^a=${name}:.*$`, "m"))[0];
}
