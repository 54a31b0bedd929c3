// A player and nothing else, for frames on other pages.

import { startPlayer } from "./player-page.js";

startPlayer();
