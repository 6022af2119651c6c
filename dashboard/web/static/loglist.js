// A list of log lines as they come: of a hundred thousand only those in sight are in
// the page. It follows the newest until it is paused or scrolled away from the end.

import { h, put, text, icon, button, copy, attr } from './dom.js';
import { count, full, moment } from './format.js';

const MOST = 100000; // lines kept
const TRIM = 5000; // how many go at a time beyond that
const levels = ['DEBUG', 'INFO', 'WARN', 'ERROR'];
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 1 });

export class LogList {
	#lines = [];
	#shown = [];
	#held = []; // came while paused
	#paused = false;
	#follows = true;
	#unseen = 0;
	#level = 'DEBUG';
	#node = '';
	#words = '';
	#open = null;
	#due = 0;
	#window = h('div', { class: 'window' });
	#space = h('div', { class: 'space' }, this.#window);
	#scroller = h('div', { class: 'scroller', tabindex: '0', role: 'region', 'aria-label': 'Log lines: Enter opens one, arrow keys go to others', onkeydown: (e) => this.#key(e) }, this.#space);
	#none = h('p', { class: 'nothing' }, 'No lines yet. What nodes report appears here as it happens.');
	#pill = button('', { name: 'arrow-down', kind: 'pill', hidden: true, onclick: () => this.resume() });
	#detail = h('div', { class: 'opened', hidden: true });
	#pauseButton = button('Pause', { name: 'pause', 'aria-pressed': 'false', onclick: () => (this.#paused ? this.resume() : this.pause()) });
	#nodeSelect = h('select', { 'aria-label': 'Node', onchange: (e) => this.#narrow({ node: e.target.value }) }, h('option', { value: '' }, 'All nodes'));
	#nodes = new Set();

	// live feeds it; one: all lines are of one node. count(shown, all) is told how many.
	constructor(live, { one = false, tell } = {}) {
		this.tell = tell;
		this.element = h('div', { class: `loglist${one ? ' one short' : ''}` }, this.#scroller, this.#none, this.#pill, this.#detail);
		const level = h('select', { 'aria-label': 'Level', onchange: (e) => this.#narrow({ level: e.target.value }) }, levels.map((l) => h('option', { value: l }, l === 'DEBUG' ? 'All levels' : l === 'ERROR' ? 'Errors' : `${l[0]}${l.slice(1).toLowerCase()} and above`)));
		const search = h('input', { type: 'search', placeholder: 'Search…', 'aria-label': 'Search in the log', autocomplete: 'off', spellcheck: 'false', oninput: (e) => this.#narrow({ words: e.target.value.toLowerCase() }) });
		attr(search, 'data-search', '');
		this.tools = [h('label', { class: 'search' }, icon('search'), search), one ? null : this.#nodeSelect, level, this.#pauseButton];
		this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
		new ResizeObserver(() => this.#later()).observe(this.#scroller);
		live.on('logs', ({ lines, skipped }) => this.#add(lines, skipped));
	}

	#add(lines, skipped) {
		if (skipped > 0) lines = [{ cut: `${count(skipped, 'line')} left out: they came faster than this page takes them`, time: lines[0]?.time }, ...lines];
		const known = this.#nodes.size;
		for (const line of lines) {
			if (line.node) this.#nodes.add(line.node);
			line.text = `${line.msg ?? line.cut ?? ''} ${attrsWords(line)}`.toLowerCase();
		}
		if (this.#nodes.size > known) this.#listNodes();
		if (this.#paused) {
			this.#held.push(...lines);
			if (this.#held.length > MOST) this.#held.splice(0, this.#held.length - MOST);
		} else this.#take(lines);
		this.#later();
	}

	#take(lines) {
		for (const line of lines) this.#lines.push(line);
		const passed = lines.filter((line) => this.#passes(line));
		for (const line of passed) this.#shown.push(line);
		if (!this.#follows) this.#unseen += passed.length;
		if (this.#lines.length > MOST) this.#trim();
	}

	#trim() {
		const gone = new Set(this.#lines.splice(0, this.#lines.length - MOST + TRIM));
		let n = 0;
		while (n < this.#shown.length && gone.has(this.#shown[n])) n++;
		this.#shown.splice(0, n);
		if (!this.#follows) this.#scroller.scrollTop -= n * this.#height();
	}

	#listNodes() {
		const options = [...this.#nodes].sort(new Intl.Collator('en', { numeric: true }).compare);
		put(this.#nodeSelect, h('option', { value: '' }, 'All nodes'), options.map((n) => h('option', { value: n, selected: n === this.#node }, n)));
	}

	#passes(line) {
		if (line.cut) return true;
		return levels.indexOf(line.level) >= levels.indexOf(this.#level) && (this.#node === '' || line.node === this.#node) && (this.#words === '' || line.text.includes(this.#words));
	}

	#narrow({ level = this.#level, node = this.#node, words = this.#words }) {
		[this.#level, this.#node, this.#words] = [level, node, words];
		this.#shown = this.#lines.filter((line) => this.#passes(line));
		this.#follows = true;
		this.#unseen = 0;
		this.#later();
	}

	pause() {
		this.#paused = true;
		this.#buttons();
	}

	// resume goes to the end and follows.
	resume() {
		this.#paused = false;
		this.#take(this.#held);
		this.#held = [];
		this.#follows = true;
		this.#unseen = 0;
		this.#buttons();
		this.#later();
	}

	#buttons() {
		attr(this.#pauseButton, 'aria-pressed', String(this.#paused));
		put(this.#pauseButton, icon(this.#paused ? 'play' : 'pause'), this.#paused ? 'Resume' : 'Pause');
	}

	#scrolled() {
		const s = this.#scroller;
		this.#follows = s.scrollTop + s.clientHeight >= s.scrollHeight - 8;
		if (this.#follows) this.#unseen = 0;
		this.#later();
	}

	// key opens the last line in sight; from there arrow keys go on.
	#key(e) {
		const step = { ArrowUp: -1, ArrowDown: 1 }[e.key];
		let at = this.#shown.indexOf(this.#open);
		if (e.key === 'Enter' && !this.#open) at = this.#next(Math.min(this.#shown.length, Math.floor((this.#scroller.scrollTop + this.#scroller.clientHeight) / this.#height())), -1);
		else if (this.#open && step) at = this.#next(at, step);
		else if (!this.#open || (e.key !== 'Enter' && e.key !== 'Escape')) return;
		e.preventDefault();
		const line = this.#shown[at];
		if (!line || (step && line === this.#open)) return;
		this.#show(line);
		this.#reveal(at);
	}

	// next is the line beside one, past those that stand for others.
	#next(at, step) {
		do at += step; while (this.#shown[at]?.cut);
		return at;
	}

	#reveal(at) {
		const [s, height] = [this.#scroller, this.#height()];
		if (at * height < s.scrollTop) s.scrollTop = at * height;
		else if ((at + 1) * height > s.scrollTop + s.clientHeight) s.scrollTop = (at + 1) * height - s.clientHeight;
	}

	#later() {
		this.#due ||= requestAnimationFrame(() => {
			this.#due = 0;
			this.#render();
		});
	}

	#height() {
		return parseInt(getComputedStyle(this.element).getPropertyValue('--line-height'), 10) || 24;
	}

	#render() {
		const height = this.#height();
		const s = this.#scroller;
		this.#space.style.height = `${this.#shown.length * height}px`;
		if (this.#follows && !this.#paused) s.scrollTop = s.scrollHeight;
		const first = Math.max(0, Math.floor(s.scrollTop / height) - 8);
		const last = Math.min(this.#shown.length, Math.ceil((s.scrollTop + s.clientHeight) / height) + 8);
		this.#window.style.transform = `translateY(${first * height}px)`;
		put(this.#window, this.#shown.slice(first, last).map((line) => this.#row(line)));
		this.#none.hidden = this.#shown.length > 0;
		text(this.#none, this.#lines.length > 0 ? 'No line passes the filter.' : 'No lines yet. What nodes report appears here as it happens.');
		const fresh = this.#unseen + this.#held.length;
		this.#pill.hidden = fresh === 0;
		put(this.#pill, icon('arrow-down'), `${fresh.toLocaleString('en')} new`);
		this.tell?.(this.#shown.length, this.#lines.length);
	}

	#row(line) {
		if (line.cut) return h('div', { class: 'logline cut' }, h('span', { class: 'rest' }, line.cut));
		const words = attrsWords(line);
		return h('div', { class: `logline ${line.level.toLowerCase()}${line === this.#open ? ' open' : ''}`, onclick: () => this.#show(line) },
			h('time', {}, clock.format(moment(line.time))), h('span', { class: 'level' }, line.level), h('span', { class: 'node' }, line.node),
			h('span', { class: 'rest' }, h('span', { class: 'msg' }, this.#marked(line.msg)), words && h('span', { class: 'attrs' }, this.#marked(words))));
	}

	#marked(words) {
		const at = this.#words === '' ? -1 : words.toLowerCase().indexOf(this.#words);
		return at < 0 ? words : [words.slice(0, at), h('mark', {}, words.slice(at, at + this.#words.length)), words.slice(at + this.#words.length)];
	}

	// show opens a line in full, or closes it.
	#show(line) {
		if (String(getSelection()) !== '') return;
		this.#open = this.#open === line ? null : line;
		this.#detail.hidden = this.#open === null;
		if (this.#open) {
			const b = button('Copy', { name: 'copy', onclick: () => copy(JSON.stringify({ time: line.time, node: line.node, level: line.level, msg: line.msg, ...line.attrs }), b) });
			put(this.#detail, h('dl', { class: 'list' }, [['time', full(line.time)], ['node', line.node], ['level', line.level], ['message', line.msg], ...attrsOf(line).map(([k, v]) => [k, value(v)])].map(([k, v]) => [h('dt', {}, k), h('dd', {}, v)])),
				b, button('Close', { name: 'cross', kind: 'plain', square: true, onclick: () => this.#show(line) }));
		}
		this.#later();
	}
}

const value = (v) => (typeof v === 'string' ? v : JSON.stringify(v));

// attrsOf leaves out what is empty, and the node, which has a column of its own.
const attrsOf = (line) => Object.entries(line.attrs ?? {}).filter(([k, v]) => v !== '' && !(k === 'node' && v === line.node));

const attrsWords = (line) => attrsOf(line).map(([k, v]) => `${k}=${value(v)}`).join(' ');
