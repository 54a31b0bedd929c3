// What a publisher could do better, in Italian: of each code what it is, the sentence with the most figures first, and what
// helps. The names of the figures stand in docs/operating/broadcasters.md.

export default {
  "udp-blocked": {
    what: ["Il server aspetta da {waited} s chi trasmette e non ha ricevuto nulla via UDP."],
    remedy: "Lasciare uscire UDP dalla rete da cui si trasmette verso la porta dei media del server (52000, se chi lo gestisce non dice altro), oppure trasmettere via RTMPS. Per chi gestisce il server: aprire quella porta e, dietro un NAT, impostare media.public_ip.",
  },
  "handshake-stuck": {
    what: ["UDP arriva da chi trasmette, ma dopo {waited} s non c’è una connessione."],
    remedy: "Per prova, disattivare VPN e firewall. Un ffmpeg con GnuTLS vuole un certificato ECDSA dato con -cert_file e -key_file.",
  },
  "no-media": {
    what: ["Da chi trasmette non arrivano né audio né immagine."],
    remedy: "Controllare se l’encoder è ancora in funzione: in OBS fermare e riavviare la diretta e, se succede di nuovo, guardare in Aiuto, File di log.",
  },
  "no-picture": {
    what: ["Da chi trasmette arriva l’audio e non l’immagine."],
    remedy: "Controllare la fonte: telecamera scollegata, finestra chiusa, encoder bloccato. In OBS scegliere un altro encoder in Impostazioni, Uscita.",
  },
  "no-audio": {
    what: ["Da chi trasmette arriva l’immagine e non l’audio."],
    remedy: "Controllare la fonte dell’audio: in OBS, Impostazioni, Audio e la traccia scelta in Impostazioni, Uscita.",
  },
  "no-audio-track": {
    what: ["Chi trasmette invia un’immagine e nessun audio."],
    remedy: "Se non è voluto: in OBS scegliere una traccia audio in Impostazioni, Uscita; in ffmpeg aggiungere un ingresso audio e togliere -an.",
  },
  silence: {
    what: ["Chi trasmette invia l’audio, ma non si sente nulla."],
    remedy: "Se non è voluto: riattivare il microfono o il mixer; in OBS gli indicatori del mixer audio devono muoversi.",
  },
  "b-frames": {
    what: ["L’immagine ha dei B-frame: via WebRTC i browser la mostrano a scatti o per nulla."],
    remedy: "Impostare i B-frame a 0. x264 in OBS: messa a punto zerolatency, oppure bframes=0 nelle opzioni x264; NVENC, AMF, QuickSync: B-frame massimi 0. ffmpeg: -bf 0 oppure -tune zerolatency.",
  },
  "keyframe-interval": {
    what: ["I keyframe distano {interval} s l’uno dall’altro.", "L’ultimo keyframe ha {age} s."],
    remedy: "Impostare l’intervallo dei keyframe a 1 o 2 secondi. OBS: Impostazioni, Uscita, intervallo dei keyframe (0 vuol dire 250 immagini). ffmpeg: -g con le immagini di uno o due secondi.",
  },
  "no-keyframe": {
    what: ["Da {age} s non arriva un keyframe."],
    remedy: "Impostare l’intervallo dei keyframe a 1 o 2 secondi. OBS: Impostazioni, Uscita, intervallo dei keyframe. ffmpeg: -g con le immagini di uno o due secondi, e nessun intra-refresh.",
  },
  "parameter-sets": {
    what: ["Gli ultimi {keyframes} keyframe sono arrivati senza set di parametri."],
    remedy: "Far ripetere all’encoder i set di parametri con ogni keyframe. ffmpeg: -bsf:v dump_extra, oppure senza -flags +global_header; x264: repeat-headers=1; GStreamer: h264parse config-interval=-1.",
  },
  "h264-profile": {
    what: ["L’immagine ha il profilo H.264 {profile}.", "L’immagine ha il profilo H.264 numero {profile_number}."],
    remedy: "OBS: Impostazioni, Avanzate, formato colore NV12, e Impostazioni, Uscita, profilo high, main o baseline. ffmpeg: -pix_fmt yuv420p -profile:v high.",
  },
  "h264-level": {
    what: ["Il livello H.264 è {level} a {size}.", "Il livello H.264 è {level}."],
    remedy: "Inviare al massimo 1920x1080 a 60 immagini al secondo; lasciare il livello all’encoder e con x264 scegliere un preset più veloce, che fa riferimento a meno immagini. ffmpeg: -level 4.2.",
  },
  "h264-level-too-high": {
    what: ["Il livello H.264 è {level} a {size}.", "Il livello H.264 è {level}."],
    remedy: "Inviare un’immagine più piccola o meno immagini al secondo, e lasciare il livello all’encoder. ffmpeg: -level 4.2 oppure nessun -level.",
  },
  interlaced: {
    what: ["L’immagine è codificata come interlacciata."],
    remedy: "Inviare immagini progressive. ffmpeg: -vf bwdif e nessun -flags +ildct+ilme; OBS: deinterlacciamento della fonte, nel suo menu contestuale.",
  },
  "codec-support": {
    what: ["L’immagine è codificata in {coding}, che molti browser non decodificano.", "L’immagine è codificata in H.265, che Firefox e molti dispositivi meno recenti non decodificano."],
    remedy: "H.264 funziona ovunque. OBS: Impostazioni, Uscita, encoder video x264 o uno che nomina H.264. ffmpeg: -c:v libx264.",
  },
  "ahead-of-time": {
    what: ["Audio e immagine arrivano {speed} volte più in fretta di quanto durano."],
    remedy: "ffmpeg: mettere -re prima di -i, così un file viene letto alla velocità a cui si riproduce.",
  },
  "falls-behind": {
    what: ["In dieci secondi arrivano solo {media} s di audio e immagine."],
    remedy: "L’encoder è troppo lento oppure, via RTMP, la linea non regge il bitrate. Nel primo caso aiuta un preset più veloce (x264: veryfast, ultrafast) o un encoder hardware, nel secondo un bitrate più basso.",
  },
  "frame-rate-unsteady": {
    what: ["Delle {claimed} immagini al secondo che il flusso dichiara ne arrivano {rate}."],
    remedy: "Il computer non tiene il passo, oppure, su RTMP, la linea. OBS: Visualizza, Statistiche mostra quale dei due. Frame mancati o saltati: scegliere un preset più veloce, un’uscita più piccola o un encoder hardware. Frame persi: un bitrate più basso.",
  },
  "frame-rate-high": {
    what: ["Chi trasmette invia {rate} immagini al secondo."],
    remedy: "OBS: Impostazioni, Video, valori FPS comuni 30 o 60. ffmpeg: -r 60.",
  },
  "bitrate-high": {
    what: ["L’immagine occupa {bitrate}."],
    remedy: "Per 1920x1080 bastano da 4 a 8 Mbit/s. OBS: Impostazioni, Uscita, controllo del bitrate CBR e un bitrate. ffmpeg: -b:v 6M -maxrate 6M -bufsize 6M.",
  },
  "bitrate-beyond-link": {
    what: [
      "A {bitrate} i pacchetti di chi trasmette hanno {late} ms di ritardo, e il {lost} % all’inizio va perso.",
      "A {bitrate} i pacchetti di chi trasmette hanno {late} ms di ritardo.",
    ],
    remedy: "Ridurre il bitrate a due terzi di ciò che la linea carica. OBS: Impostazioni, Uscita, bitrate. ffmpeg: -b:v con -maxrate e -bufsize. Fermare altri caricamenti.",
  },
  "uplink-damage": {
    what: ["Il {lost} % dei pacchetti dell’immagine non arriva mai."],
    remedy: "Usare un cavo invece del Wi-Fi o della rete mobile, un server più vicino o un bitrate più basso.",
  },
  "uplink-loss": {
    what: ["Il {lost} % dei pacchetti all’inizio non arriva."],
    remedy: "Usare un cavo invece del Wi-Fi, o un server più vicino. Se con un bitrate più basso migliora, mantenerlo.",
  },
  "uplink-jitter": {
    what: ["I pacchetti arrivano irregolari, con scarti di {jitter} ms."],
    remedy: "Usare un cavo invece del Wi-Fi, e fermare altri caricamenti.",
  },
  "round-trip-long": {
    what: ["Fino a chi trasmette e ritorno ci vogliono {round_trip} ms."],
    remedy: "Trasmettere a un server più vicino, senza VPN.",
  },
  "av-skew": {
    what: ["L’immagine arriva {picture_late} ms dopo l’audio.", "L’audio arriva {sound_late} ms dopo l’immagine."],
    remedy: "Far guardare meno in avanti l’encoder. x264: messa a punto zerolatency; NVENC: look-ahead disattivato, preset o messa a punto per bassa latenza. Se è l’audio a tardare, ridurre il suo sfasamento nelle proprietà audio avanzate.",
  },
  "encoder-old": {
    what: ["Chi trasmette usa OBS {version}, che non invia di nuovo tutto ciò che è andato perso."],
    remedy: "Aggiornare OBS alla versione 30.2 o successiva; dalla 32.1 può inviare anche più formati. Fino ad allora aiuta un cavo invece del Wi-Fi, oppure RTMP, su cui non si perde nulla.",
  },
  "aac-profile": {
    what: ["L’audio è HE-AAC, o AAC di un altro tipo che non viene accettato: l’encoder viene respinto."],
    remedy: "Impostare l’encoder su AAC-LC (di solito detto solo AAC; 1024 campioni per frame) a 128 kbit/s o più. OBS: Impostazioni, Uscita, encoder audio FFmpeg AAC, e in Audio un bitrate audio di 128 o più. ffmpeg: -c:a aac -profile:a aac_low -b:a 128k.",
  },
  "audio-channels": {
    what: ["L’audio ha più di due canali: l’encoder viene respinto."],
    remedy: "Impostare l’audio su stereo o mono. OBS: Impostazioni, Audio, canali Stereo. ffmpeg: -ac 2.",
  },
  "codec-refused": {
    what: ["L’immagine o l’audio ha un codec che non viene accettato: l’encoder viene respinto."],
    remedy: "H.264 con AAC funziona ovunque. OBS: Impostazioni, Uscita, encoder video x264 o uno che nomina H.264, encoder audio FFmpeg AAC. ffmpeg: -c:v libx264 -c:a aac.",
  },
  "media-unreadable": {
    what: ["L’immagine o l’audio non è leggibile, perché qualcosa è danneggiato, manca o è troppo grande: l’encoder viene respinto."],
    remedy: "Fermare l’encoder e riavviarlo; se non basta, sceglierne un altro. OBS: Impostazioni, Uscita, encoder video x264, encoder audio FFmpeg AAC. ffmpeg: -c:v libx264 -c:a aac invece di copy; Opus a 256 kbit/s al massimo. Per chi gestisce il server: il log del nodo dice che cosa è.",
  },
};
