// Where somebody may not go. The menu and the state of the connection are all it needs.

import { start } from './shell.js';

start();
