// What every page has: the live connection, the theme, the menu, and the keyboard.

import { $, h, put, text, attr, icon, swap } from './dom.js';
import { open } from './dialog.js';
import { time } from './format.js';
import { Live } from './live.js';

// start connects a page. It says what it wants to hear; see Live.
export function start(options) {
	const live = new Live(options);
	connection(live);
	tally(live);
	themes();
	menu();
	keyboard();
	return live;
}

// connection shows whether what is shown is live.
function connection(live) {
	const banner = $('banner');
	let lost = 0;
	let next = 0;
	$('banner-retry').addEventListener('click', () => live.now());
	const say = (state) => {
		document.documentElement.dataset.live = state;
		attr($('connection'), 'data-live', state);
		text($('connection-word'), state === 'up' ? 'Live' : 'Not live');
		swap($('connection').querySelector('svg'), state === 'up' ? 'live' : 'cut');
	};
	live.on('up', () => {
		lost = 0;
		banner.hidden = true;
		say('up');
	});
	live.on('down', ({ wait }) => {
		next = Date.now() + wait;
		lost ||= Date.now();
		say('down');
		show();
	});
	// A blink of the connection is no news.
	const show = () => {
		if (!lost || Date.now() - lost < 400) return;
		banner.hidden = false;
		text($('banner-since'), live.heard ? `What you see is from ${time(live.heard)}.` : 'Nothing has arrived yet.');
		const s = Math.ceil((next - Date.now()) / 1000);
		text($('banner-next'), s > 0 ? `Trying again in ${s} s.` : 'Trying again…');
	};
	setInterval(show, 500);
}

// tally keeps the figures in the navigation and the title.
function tally(live) {
	const node = $('nav-nodes');
	live.on('cluster', ({ cluster }) => {
		const nodes = cluster.nodes ?? [];
		const there = nodes.filter((n) => n.state !== 'offline' && n.state !== 'stopped').length;
		const words = nodes.length === 0 ? '' : there === nodes.length ? String(there) : `${there}/${nodes.length}`;
		if (node.firstChild?.data !== words) put(node, words, words && h('span', { class: 'visually-hidden' }, ' there'));
	});
}

const themeNames = { system: 'Theme: system', light: 'Theme: light', dark: 'Theme: dark' };

function themes() {
	const toggle = $('theme');
	const order = ['system', 'light', 'dark'];
	const now = () => document.documentElement.dataset.theme ?? 'system';
	const show = () => {
		text($('theme-word'), themeNames[now()]);
		swap(toggle.querySelector('svg'), now() === 'system' ? 'system' : now() === 'light' ? 'sun' : 'moon');
	};
	toggle.addEventListener('click', () => {
		const next = order[(order.indexOf(now()) + 1) % order.length];
		if (next === 'system') delete document.documentElement.dataset.theme;
		else document.documentElement.dataset.theme = next;
		try {
			localStorage.setItem('theme', next);
		} catch {
			// It lasts as long as the page, then.
		}
		show();
	});
	show();
}

function menu() {
	const side = $('side');
	const toggle = $('menu');
	toggle.addEventListener('click', () => {
		const opened = side.classList.toggle('open');
		attr(toggle, 'aria-expanded', String(opened));
	});
}

const pages = { n: ['/', 'Nodes'], s: ['/sql', 'SQL'], d: ['/databases', 'Databases'], r: ['/replication', 'Replication'], c: ['/commands', 'Commands'], f: ['/files', 'Files & wallpaper'], l: ['/logs', 'Logs'] };
if (document.body.dataset.user !== undefined) pages.a = ['/access', 'Access'];

function keyboard() {
	let went = 0; // when g was pressed
	$('help').addEventListener('click', help);
	document.addEventListener('keydown', (e) => {
		if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector('dialog[open]')) return;
		if (e.target.closest?.('input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]')) {
			if (e.key === 'Escape' && !e.defaultPrevented && !e.isComposing) e.target.blur();
			return;
		}
		if (e.key === '?') help();
		else if (e.key === '/') document.querySelector('[data-search]')?.focus();
		else if (e.key === 'g') {
			went = Date.now();
			return;
		} else if (Date.now() - went < 1200 && pages[e.key]) location.href = pages[e.key][0];
		else return;
		e.preventDefault();
	});
}

function help() {
	const keys = [['/', 'Search or filter this page'], ['?', 'This help'], ['Esc', 'Close a dialog, leave a field'], ['Ctrl Enter', 'Run the SQL in the editor'], ['← → ↑ ↓', 'Move in a result, read a chart'], ['Enter', 'Open a value or a line of the log in full'],
		...Object.entries(pages).map(([key, [, name]]) => [`g ${key}`, name])];
	open({
		title: 'Keyboard', cancel: 'Close',
		content: h('dl', { class: 'keys' }, keys.map(([key, what]) => [h('dt', {}, key.split(' ').map((k) => [h('kbd', {}, k), ' '])), h('dd', {}, what)])),
	});
}

const signs = {
	online: 'check', lagging: 'clock', joining: 'arrow-down', diverged: 'diverged', stopped: 'square', offline: 'cross',
	queued: 'clock', sent: 'arrow-right', accepted: 'play', done: 'check', failed: 'cross', skipped: 'square', timed_out: 'alert', expired: 'square', cancelled: 'square',
};

// state shows a state of a node, a database or a command: sign, word and colour.
export function state(name, word = name.replace('_', ' ')) {
	return h('span', { class: `state state-${name}` }, icon(signs[name] ?? 'square'), h('span', {}, word));
}

// showState writes a state into a cell, and beneath it the reason if there is one.
export function showState(cell, name, reason) {
	const key = [name, reason].filter(Boolean).join(': ');
	if (cell.dataset.state === key) return;
	cell.dataset.state = key;
	put(cell, state(name), reason && h('div', { class: 'reason small quiet' }, reason));
}
