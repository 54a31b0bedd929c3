// What a publisher could do better, in German: of each code what it is, the sentence with the most figures first, and what
// helps. The names of the figures stand in docs/operating/broadcasters.md.

export default {
  "udp-blocked": {
    what: ["Der Server wartet seit {waited} s auf den Sender und hat über UDP nichts bekommen."],
    remedy: "Lassen Sie UDP aus dem Netz, aus dem Sie senden, zum Medienport des Servers hinaus (52000, wenn der Betreiber nichts anderes sagt), oder senden Sie über RTMPS. Für den Betreiber: diesen Port öffnen und hinter NAT media.public_ip setzen.",
  },
  "handshake-stuck": {
    what: ["UDP kommt vom Sender an, aber nach {waited} s besteht keine Verbindung."],
    remedy: "Schalten Sie VPN und Firewall zur Probe aus. Ein ffmpeg mit GnuTLS braucht ein ECDSA-Zertifikat, gegeben mit -cert_file und -key_file.",
  },
  "no-media": {
    what: ["Vom Sender kommt weder Ton noch Bild."],
    remedy: "Sehen Sie nach, ob der Encoder noch läuft: in OBS den Stream beenden und neu starten und, wenn es wieder vorkommt, unter Hilfe, Logdateien nachsehen.",
  },
  "no-picture": {
    what: ["Vom Sender kommt Ton, aber kein Bild."],
    remedy: "Sehen Sie nach der Quelle: Kamera abgezogen, Fenster geschlossen, Encoder ausgefallen. In OBS unter Einstellungen, Ausgabe einen anderen Encoder wählen.",
  },
  "no-audio": {
    what: ["Vom Sender kommt das Bild, aber kein Ton."],
    remedy: "Sehen Sie nach der Tonquelle: in OBS unter Einstellungen, Audio und nach der Spur, die unter Einstellungen, Ausgabe gewählt ist.",
  },
  "no-audio-track": {
    what: ["Der Sender schickt ein Bild und keinen Ton."],
    remedy: "Wenn das nicht so gemeint ist: in OBS unter Einstellungen, Ausgabe eine Tonspur wählen; in ffmpeg eine Tonquelle hinzufügen und -an weglassen.",
  },
  silence: {
    what: ["Der Sender schickt Ton, aber es ist nichts zu hören."],
    remedy: "Wenn das nicht so gemeint ist: Mikrofon oder Mischpult einschalten; in OBS müssen sich die Pegel im Audiomixer bewegen.",
  },
  "b-frames": {
    what: ["Das Bild hat B-Frames: Browser zeigen es über WebRTC ruckelnd oder gar nicht."],
    remedy: "Setzen Sie die B-Frames auf 0. x264 in OBS: Tuning zerolatency, oder bframes=0 in den x264-Optionen; NVENC, AMF, QuickSync: Max. B-Frames 0. ffmpeg: -bf 0 oder -tune zerolatency.",
  },
  "keyframe-interval": {
    what: ["Keyframes kommen im Abstand von {interval} s.", "Das letzte Keyframe ist {age} s alt."],
    remedy: "Setzen Sie das Keyframeintervall auf 1 oder 2 Sekunden. OBS: Einstellungen, Ausgabe, Keyframeintervall (0 heißt 250 Bilder). ffmpeg: -g mit den Bildern von einer oder zwei Sekunden.",
  },
  "no-keyframe": {
    what: ["Seit {age} s ist kein Keyframe gekommen."],
    remedy: "Setzen Sie das Keyframeintervall auf 1 oder 2 Sekunden. OBS: Einstellungen, Ausgabe, Keyframeintervall. ffmpeg: -g mit den Bildern von einer oder zwei Sekunden, und kein intra-refresh.",
  },
  "parameter-sets": {
    what: ["Die letzten {keyframes} Keyframes kamen ohne Parametersätze."],
    remedy: "Lassen Sie den Encoder sie mit jedem Keyframe wiederholen. ffmpeg: -bsf:v dump_extra, oder ohne -flags +global_header; x264: repeat-headers=1; GStreamer: h264parse config-interval=-1.",
  },
  "h264-profile": {
    what: ["Das Bild hat das H.264-Profil {profile}.", "Das Bild hat das H.264-Profil Nummer {profile_number}."],
    remedy: "OBS: Einstellungen, Erweitert, Farbformat NV12, und Einstellungen, Ausgabe, Profil high, main oder baseline. ffmpeg: -pix_fmt yuv420p -profile:v high.",
  },
  "h264-level": {
    what: ["Das H.264-Level ist {level} bei {size}.", "Das H.264-Level ist {level}."],
    remedy: "Senden Sie höchstens 1920x1080 mit 60 Bildern pro Sekunde; überlassen Sie das Level dem Encoder und wählen Sie bei x264 ein schnelleres Preset, das auf weniger Bilder zurückgreift. ffmpeg: -level 4.2.",
  },
  "h264-level-too-high": {
    what: ["Das H.264-Level ist {level} bei {size}.", "Das H.264-Level ist {level}."],
    remedy: "Senden Sie ein kleineres Bild oder weniger Bilder pro Sekunde, und überlassen Sie das Level dem Encoder. ffmpeg: -level 4.2 oder gar kein -level.",
  },
  interlaced: {
    what: ["Das Bild ist als Zeilensprung (interlaced) codiert."],
    remedy: "Senden Sie Vollbilder. ffmpeg: -vf bwdif und kein -flags +ildct+ilme; OBS: Deinterlacing der Quelle, in ihrem Kontextmenü.",
  },
  "codec-support": {
    what: ["Das Bild ist in {coding} codiert, das viele Browser nicht decodieren.", "Das Bild ist in H.265 codiert, das Firefox und viele ältere Geräte nicht decodieren."],
    remedy: "H.264 läuft überall. OBS: Einstellungen, Ausgabe, Videoencoder x264 oder einer, der H.264 nennt. ffmpeg: -c:v libx264.",
  },
  "ahead-of-time": {
    what: ["Bild und Ton kommen {speed}-mal so schnell, wie sie abgespielt werden."],
    remedy: "ffmpeg: -re vor -i setzen, damit eine Datei so schnell gelesen wird, wie sie spielt.",
  },
  "falls-behind": {
    what: ["In zehn Sekunden kommen nur {media} s Bild und Ton."],
    remedy: "Der Encoder ist zu langsam, oder, über RTMP, die Leitung zu dünn für die Datenrate. Gegen das Erste hilft ein schnelleres Preset (x264: veryfast, ultrafast) oder ein Encoder in Hardware, gegen das Zweite eine niedrigere Datenrate.",
  },
  "frame-rate-unsteady": {
    what: ["Von {claimed} Bildern pro Sekunde, die der Stream angibt, kommen {rate}."],
    remedy: "Der Rechner kommt nicht nach oder, über RTMP, die Leitung. OBS: Ansicht, Statistiken zeigt, was davon. Verpasste oder übersprungene Frames: Wählen Sie ein schnelleres Preset, eine kleinere Ausgabe oder einen Encoder in Hardware. Verworfene Frames: weniger Bitrate.",
  },
  "frame-rate-high": {
    what: ["Der Sender schickt {rate} Bilder pro Sekunde."],
    remedy: "OBS: Einstellungen, Video, FPS-Wert 30 oder 60. ffmpeg: -r 60.",
  },
  "bitrate-high": {
    what: ["Das Bild braucht {bitrate}."],
    remedy: "4 bis 8 Mbit/s reichen für 1920x1080 aus. OBS: Einstellungen, Ausgabe, Qualitätsregulierungsmethode CBR und eine Bitrate. ffmpeg: -b:v 6M -maxrate 6M -bufsize 6M.",
  },
  "bitrate-beyond-link": {
    what: [
      "Bei {bitrate} kommen die Pakete des Senders {late} ms zu spät, und {lost} % gehen zunächst verloren.",
      "Bei {bitrate} kommen die Pakete des Senders {late} ms zu spät.",
    ],
    remedy: "Senken Sie die Datenrate auf zwei Drittel dessen, was die Leitung hochlädt. OBS: Einstellungen, Ausgabe, Bitrate. ffmpeg: -b:v mit -maxrate und -bufsize. Beenden Sie andere Uploads.",
  },
  "uplink-damage": {
    what: ["{lost} % der Pakete des Bildes kommen nie an."],
    remedy: "Nehmen Sie ein Kabel statt WLAN oder Mobilfunk, einen näheren Server oder eine niedrigere Datenrate.",
  },
  "uplink-loss": {
    what: ["{lost} % der Pakete kommen zunächst nicht an."],
    remedy: "Nehmen Sie ein Kabel statt WLAN oder einen näheren Server. Wird es mit einer niedrigeren Datenrate besser, bleiben Sie dabei.",
  },
  "uplink-jitter": {
    what: ["Die Pakete kommen um {jitter} ms ungleichmäßig."],
    remedy: "Nehmen Sie ein Kabel statt WLAN, und beenden Sie andere Uploads.",
  },
  "round-trip-long": {
    what: ["Zum Sender und zurück dauert es {round_trip} ms."],
    remedy: "Senden Sie zu einem näheren Server, ohne VPN.",
  },
  "av-skew": {
    what: ["Das Bild kommt {picture_late} ms später als der Ton.", "Der Ton kommt {sound_late} ms später als das Bild."],
    remedy: "Lassen Sie den Encoder weniger vorausschauen. x264: Tuning zerolatency; NVENC: Look-ahead aus, Preset oder Tuning für geringe Latenz. Ist der Ton zu spät, senken Sie seinen Synchronversatz in den erweiterten Audioeigenschaften.",
  },
  "encoder-old": {
    what: ["Der Sender ist OBS {version}, das nicht alles noch einmal schickt, was verloren ging."],
    remedy: "Aktualisieren Sie OBS auf 30.2 oder neuer; ab 32.1 kann es auch mehrere Größen senden. Bis dahin hilft ein Kabel statt WLAN, oder RTMP, auf dem nichts verloren geht.",
  },
  "aac-profile": {
    what: ["Der Ton ist HE-AAC oder anderes AAC, das nicht angenommen wird: Der Encoder wird abgewiesen."],
    remedy: "Stellen Sie den Encoder auf AAC-LC (meist nur AAC genannt; 1024 Abtastwerte je Frame) mit 128 kbit/s oder mehr. OBS: Einstellungen, Ausgabe, Audioencoder FFmpeg AAC, und unter Audio eine Audiobitrate von 128 oder mehr. ffmpeg: -c:a aac -profile:a aac_low -b:a 128k.",
  },
  "audio-channels": {
    what: ["Der Ton hat mehr als zwei Kanäle: Der Encoder wird abgewiesen."],
    remedy: "Stellen Sie den Ton auf Stereo oder Mono. OBS: Einstellungen, Audio, Kanäle Stereo. ffmpeg: -ac 2.",
  },
  "codec-refused": {
    what: ["Bild oder Ton hat einen Codec, der nicht angenommen wird: Der Encoder wird abgewiesen."],
    remedy: "H.264 mit AAC läuft überall. OBS: Einstellungen, Ausgabe, Videoencoder x264 oder einer, der H.264 nennt, Audioencoder FFmpeg AAC. ffmpeg: -c:v libx264 -c:a aac.",
  },
  "media-unreadable": {
    what: ["Bild oder Ton ist nicht lesbar, weil darin etwas beschädigt ist, fehlt oder zu groß ist: Der Encoder wird abgewiesen."],
    remedy: "Beenden Sie den Encoder und starten Sie ihn neu; hilft das nicht, wählen Sie einen anderen. OBS: Einstellungen, Ausgabe, Videoencoder x264, Audioencoder FFmpeg AAC. ffmpeg: -c:v libx264 -c:a aac statt copy; Opus mit höchstens 256 kbit/s. Für den Betreiber: im Log des Knotens steht, was es ist.",
  },
};
