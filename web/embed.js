// What other pages load: it makes <media-tree-player> known. docs/embedding.md tells how it is used.

// All at once, instead of one after the other as each asks for the next.
import "/assets/cues.js";
import "/assets/dom.js";
import "/assets/endpoint.js";
import "/assets/layers.js";
import "/assets/lip-sync.js";
import "/assets/places.js";
import "/assets/player-figures.js";
import "/assets/player-keys.js";
import "/assets/player-menu.js";
import "/assets/player-view.js";
import "/assets/player.js";
import "/assets/quality.js";
import "/assets/refusals.js";
import "/assets/whep-events.js";
import "/assets/whep.js";
import "/assets/words-de.js";
import "/assets/words-en.js";
import "/assets/words-it.js";
import "/assets/words.js";

export { MediaTreePlayer } from "/assets/player-element.js";
