// The page of a player.

import { translate } from "./dom.js";
import { startPlayer } from "./player-page.js";

const { broadcast, words } = startPlayer();
document.getElementById("name").textContent = broadcast;
translate(document.getElementById("about"), words);
