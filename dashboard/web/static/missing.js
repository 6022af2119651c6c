// The page for addresses where nothing is.

import { start } from './shell.js';

start();
