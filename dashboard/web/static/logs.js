// The log lines of all nodes and of the master, live.

import { $, h, icon, put, text } from './dom.js';
import { start } from './shell.js';
import { LogList } from './loglist.js';
import { count, number } from './format.js';
import { isLimited } from './may.js';

const live = start({ topics: ['logs'] });
const list = new LogList(live, { tell: (shown, all) => text($('tally'), shown === all ? count(all, 'line') : `${number(shown)} of ${count(all, 'line')}`) });
put($('tools'), list.tools);
put($('log'), isLimited ? h('p', { class: 'note' }, icon('lock'), h('span', {}, 'Log lines tell of all databases, and you are limited to some: an admin can change that.')) : list.element);
