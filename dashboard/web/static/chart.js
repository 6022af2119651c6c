// Charts: lines, bars, points and slices in SVG. They are drawn in the pixels they
// take, again when that changes, and take their colours from the theme. Their values can
// be read with a pointer, or with the arrow keys.

import { h, s, put, text } from './dom.js';
import { rate, time, dateTime } from './format.js';

export const COLOURS = 8;
const STEP = 10; // px, of an arrow key

// Chart draws into its element: show({ kind: 'line' | 'bar' | 'scatter' | 'pie', … }).
export class Chart {
	#height;
	#spec = null;
	#width = 0;
	#svg = s('svg', { role: 'img', tabindex: '0' });
	#said = h('div', { class: 'visually-hidden', 'aria-live': 'polite' }); // what the arrow keys came to
	#tip = h('div', { class: 'tip', hidden: true });
	#legend = h('div', { class: 'legend', hidden: true });
	#near = null; // what the pointer is near to: x, y → { lines, marks }
	#at = null; // the pointer, while it is over the chart

	constructor({ label, height = 160 } = {}) {
		this.#height = height;
		this.label = label;
		const box = h('div', { class: 'chart', onkeydown: (e) => this.#key(e) }, this.#svg, this.#tip, this.#said);
		this.element = h('figure', {}, box, this.#legend);
		new ResizeObserver(([entry]) => {
			const width = Math.floor(entry.contentRect.width);
			if (width > 0 && width !== this.#width) {
				this.#width = width;
				this.#draw();
			}
		}).observe(box);
		box.addEventListener('pointermove', (e) => {
			const r = this.#svg.getBoundingClientRect();
			this.#at = { x: e.clientX - r.left, y: e.clientY - r.top };
			this.#point();
		});
		for (const type of ['pointerleave', 'focusout']) box.addEventListener(type, () => {
			this.#at = null;
			this.#point();
		});
	}

	// key moves what is pointed at.
	#key(e) {
		const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
		if (!step || e.ctrlKey || e.metaKey || e.altKey) return;
		e.preventDefault();
		const { width, height } = this.#svg.viewBox.baseVal;
		const from = this.#at ?? { x: width / 2, y: height / 2 };
		this.#at = { x: Math.min(Math.max(0, from.x + STEP * step[0]), width), y: Math.min(Math.max(0, from.y + STEP * step[1]), height) };
		this.#point();
		text(this.#said, this.#tip.hidden ? '' : [...this.#tip.children].map((line) => line.textContent).join(', '));
	}

	show(spec) {
		this.#spec = spec;
		this.#draw();
	}

	#draw() {
		if (!this.#spec || this.#width === 0) return;
		const draw = { line, scatter: line, bar, pie }[this.#spec.kind];
		const { marks, near, height = this.#height, legend = [], summary } = draw(this.#spec, this.#width, this.#height);
		this.#svg.setAttribute('viewBox', `0 0 ${this.#width} ${height}`);
		this.#svg.setAttribute('aria-label', [this.label ?? this.#spec.label, summary].filter(Boolean).join(': '));
		put(this.#svg, marks);
		this.#near = near;
		this.#legend.hidden = legend.length < (this.#spec.named ? 1 : 2);
		const words = legend.map((one) => one.name).join('\n');
		if (this.#legend.dataset.words !== words) {
			this.#legend.dataset.words = words;
			put(this.#legend, legend.map((one, i) => h('span', { class: `s${i % COLOURS}${one.gone ? ' gone' : ''}` }, h('i'), one.name)));
		}
		this.#point();
	}

	#point() {
		this.#svg.querySelector('.near')?.remove();
		const found = this.#at && this.#near?.(this.#at.x, this.#at.y);
		this.#tip.hidden = !found;
		if (!found) return;
		if (found.marks) this.#svg.append(s('g', { class: 'near' }, found.marks));
		put(this.#tip, found.lines.map((l) => h('div', {}, l)));
		const left = Math.min(Math.max(0, this.#at.x + 12), Math.max(0, this.#width - this.#tip.offsetWidth));
		const top = Math.max(0, this.#at.y - this.#tip.offsetHeight - 12);
		this.#tip.style.transform = `translate(${left}px, ${top}px)`;
	}
}

// ticks are round figures over a range, few enough to be read.
export function ticks(low, high, most) {
	if (!(high > low)) high = low + 1;
	const raw = (high - low) / Math.max(1, most);
	const power = 10 ** Math.floor(Math.log10(raw));
	const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= raw * 0.999);
	const list = [];
	for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) list.push(Math.abs(v) < step * 1e-6 ? 0 : v);
	return list;
}

const MINUTE = 60e3;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const steps = [1e3, 5e3, 10e3, 30e3, MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY];
const months = [1, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 2400];

// timeTicks are moments over a range, few enough to be read, and how they are written.
function timeTicks(low, high, most) {
	const step = steps.find((m) => (high - low) / m <= most);
	const list = [];
	if (step) {
		for (let v = Math.ceil(low / step) * step; v <= high; v += step) list.push(v);
		return { list, word: (v) => (step >= DAY ? new Date(v).toISOString().slice(0, 10) : time(v).slice(0, step >= MINUTE ? 5 : 8)) };
	}
	// Months and years are not all of one length.
	const apart = months.find((m) => (high - low) / (m * 30.4 * DAY) <= most) ?? months.at(-1);
	const from = new Date(low);
	for (let m = Math.floor((from.getUTCFullYear() * 12 + from.getUTCMonth()) / apart) * apart; ; m += apart) {
		const v = new Date(0).setUTCFullYear(Math.floor(m / 12), m % 12, 1);
		if (v > high) break;
		if (v >= low) list.push(v);
	}
	return { list, word: (v) => new Date(v).toISOString().slice(0, apart % 12 === 0 ? 4 : 7) };
}

const LETTER = 6.7; // px, of the figures on the axes

// frame makes the axes that lines, points and upright bars share.
function frame({ width, height, low, high, format, left: least = 0, title, bottom = 22 }) {
	const most = Math.max(2, Math.floor(height / 44));
	let rows = ticks(low, high, most);
	if (rows.length > 1 && rows.at(-1) < high) rows = ticks(low, rows.at(-1) + (rows[1] - rows[0]), most); // a figure stands above all that is drawn
	const top = title ? 22 : 8;
	high = Math.max(high, rows.at(-1) ?? high);
	const words = rows.map(format);
	const left = Math.max(least, Math.ceil(Math.max(...words.map((w) => w.length)) * LETTER) + 10);
	const [right, base] = [width - 10, height - bottom];
	const y = (v) => base - ((v - low) / (high - low || 1)) * (base - top);
	const marks = rows.map((v, i) => [
		s('line', { class: v === 0 ? 'axis' : 'grid', x1: left, x2: right, y1: Math.round(y(v)) + 0.5, y2: Math.round(y(v)) + 0.5 }),
		s('text', { x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, words[i]),
	]);
	if (title) marks.push(s('text', { class: 'title', x: 0, y: 11 }, title));
	return { left, right, top, base, y, marks };
}

function nothing(width, height, why = 'Nothing to draw yet') {
	return { marks: s('text', { class: 'empty-note', x: width / 2, y: height / 2, 'text-anchor': 'middle' }, why) };
}

// line draws series of [x, y] as lines (y null: a gap) or, for kind scatter, as points;
// the points away of a series are joined by a broken line, and one that is gone at the
// end has an empty sign in the legend. named: even a series alone is in the legend.
// x: 'time' | 'number'; span fixes the range of x; zero: y begins at 0; format writes y.
function line(spec, width, height) {
	const { kind, series, x: kindX = 'number', zero = kind === 'line', format = rate, title, gap = Infinity } = spec;
	const points = series.flatMap((one) => [...one.points, ...(one.away ?? [])].filter(([, y]) => y !== null && Number.isFinite(y)));
	if (points.length === 0) return nothing(width, height, spec.empty);
	let [x0, x1] = spec.span ?? [Infinity, -Infinity];
	let [low, high] = zero ? [0, 0] : [Infinity, -Infinity];
	for (const [px, py] of points) {
		if (!spec.span) {
			x0 = Math.min(x0, px);
			x1 = Math.max(x1, px);
		}
		low = Math.min(low, py);
		high = Math.max(high, py);
	}
	if (low === high) high = low + (spec.least ?? 1);
	high = Math.max(high, low + (spec.least ?? 0));
	if (!zero) low -= low > 0 && low < (high - low) * 0.5 ? low : (high - low) * 0.05;
	if (x0 === x1) [x0, x1] = [x0 - 1, x1 + 1];
	const f = frame({ width, height, low, high, format, title });
	const x = (v) => f.left + ((v - x0) / (x1 - x0)) * (f.right - f.left);
	const room = Math.max(2, Math.floor((f.right - f.left) / 90));
	const columns = kindX === 'time' ? timeTicks(x0, x1, room) : { list: ticks(x0, x1, room), word: plain };
	const marks = [...f.marks];
	for (const v of columns.list) {
		if (v < x0 || v > x1) continue;
		marks.push(s('text', { x: x(v), y: height - 6, 'text-anchor': x(v) > f.right - 20 ? 'end' : x(v) < f.left + 20 ? 'start' : 'middle' }, columns.word(v)));
	}
	const thinner = (list) => (kind === 'line' ? thinned(list, f.right - f.left) : list);
	const thin = series.map((one) => thinner(one.points));
	const away = series.map((one) => thinner(one.away ?? []));
	away.forEach((list, i) => marks.push(path(list, x, f, i, false, gap, 'line away')));
	thin.forEach((list, i) => marks.push(kind === 'line' ? path(list, x, f, i, series.length === 1, gap) : dots(list, x, f.y, i)));
	const wordX = (v) => (kindX === 'time' ? dateTime(v) : plain(v));
	const near = kind === 'line' ? nearLine(series, thin.map((list, i) => [...list, ...away[i]]), x, f, wordX, format) : nearDot(series, x, f.y, spec);
	return { marks, near, legend: series, summary: lastWords(series, format) };
}

// plain writes a figure of an axis without groups when it could be a year or an id.
function plain(v) {
	return Number.isInteger(v) && Math.abs(v) < 10000 ? String(v) : rate(v);
}

function lastWords(series, format) {
	const last = series.slice(0, 4).map((one) => {
		const p = [...one.points, ...(one.away ?? [])].findLast(([, y]) => y !== null);
		return p && `${one.name} ${format(p[1])}`;
	});
	return last.filter(Boolean).join(', ');
}

// thinned keeps the highest point of every pixel or two.
function thinned(points, width) {
	const most = Math.max(50, Math.floor(width / 1.5));
	if (points.length <= most) return points;
	const size = points.length / most;
	const kept = [];
	for (let i = 0; i < most; i++) {
		const part = points.slice(Math.floor(i * size), Math.floor((i + 1) * size));
		kept.push(part.find(([, y]) => y === null) ?? part.reduce((a, b) => (b[1] > a[1] ? b : a)));
	}
	return kept;
}

function path(points, x, f, i, filled, gap, look = 'line') {
	const runs = [];
	let run = null;
	let before = null;
	for (const p of points) {
		if (p[1] === null || !Number.isFinite(p[1])) run = null;
		else {
			if (!run || (before !== null && p[0] - before > gap)) runs.push((run = []));
			run.push(`${x(p[0]).toFixed(1)},${f.y(p[1]).toFixed(1)}`);
			before = p[0];
		}
	}
	return s('g', { class: `s${i % COLOURS}` }, runs.map((r) => {
		const d = r.length === 1 ? `M${r[0]}h0.01` : `M${r.join('L')}`;
		return [filled && r.length > 1 && s('path', { class: 'area', d: `${d}L${r.at(-1).split(',')[0]},${f.base}L${r[0].split(',')[0]},${f.base}Z` }), s('path', { class: r.length === 1 ? `${look} spot` : look, d })];
	}));
}

function dots(points, x, y, i) {
	return s('g', { class: `s${i % COLOURS}` }, points.filter((p) => p[1] !== null).slice(0, 5000).map((p) => s('circle', { class: 'dot', cx: x(p[0]).toFixed(1), cy: y(p[1]).toFixed(1), r: 3 })));
}

function nearLine(series, thin, x, f, wordX, format) {
	return (px) => {
		if (px < f.left - 8 || px > f.right + 8) return null;
		let best = null;
		for (const list of thin) {
			for (const p of list) {
				if (p[1] !== null && (best === null || Math.abs(x(p[0]) - px) < Math.abs(x(best) - px))) best = p[0];
			}
		}
		if (best === null) return null;
		const marks = [s('line', { class: 'cross', x1: x(best), x2: x(best), y1: f.top, y2: f.base })];
		const lines = [wordX(best)];
		thin.forEach((list, i) => {
			const p = list.find((q) => q[0] === best && q[1] !== null);
			if (!p) return;
			marks.push(s('circle', { class: `point s${i % COLOURS}`, cx: x(p[0]), cy: f.y(p[1]), r: 3.5 }));
			lines.push(`${series[i].name}  ${format(p[1])}`);
		});
		return { marks, lines };
	};
}

function nearDot(series, x, y, spec) {
	return (px, py) => {
		let best = null;
		series.forEach((one, i) => one.points.forEach((p) => {
			if (p[1] === null) return;
			const d = Math.hypot(x(p[0]) - px, y(p[1]) - py);
			if (d < 24 && (!best || d < best.d)) best = { d, p, i };
		}));
		if (!best) return null;
		const { p, i } = best;
		return { marks: s('circle', { class: `point s${i % COLOURS}`, cx: x(p[0]), cy: y(p[1]), r: 4.5 }), lines: [`${spec.nameX ?? 'x'}  ${plain(p[0])}`, `${series[i].name}  ${plain(p[1])}`, p[2]].filter(Boolean) };
	};
}

// bar draws series of values over labels: upright when the labels are few and short,
// else lying, so that they can be read.
function bar(spec, width, height) {
	const { labels, series, format = rate, title } = spec;
	if (labels.length === 0) return nothing(width, height, spec.empty);
	let [low, high] = [0, 0];
	for (const one of series) {
		for (const v of one.values) {
			low = Math.min(low, v ?? 0);
			high = Math.max(high, v ?? 0);
		}
	}
	const longest = Math.max(...labels.map((l) => l.length));
	const draw = longest * LETTER + 8 <= (width - 60) / labels.length ? upright : lying;
	const drawn = draw({ labels, series, format, title, low, high, width, height });
	return { ...drawn, legend: series, summary: labels.slice(0, 5).map((l, i) => `${l} ${format(series[0].values[i])}`).join(', ') };
}

function upright({ labels, series, format, title, low, high, width, height }) {
	const f = frame({ width, height, low, high, format, title });
	const slot = (f.right - f.left) / labels.length;
	const thick = Math.min(56, (slot * 0.72) / series.length);
	const marks = [...f.marks];
	labels.forEach((label, i) => {
		const middle = f.left + slot * (i + 0.5);
		marks.push(s('text', { x: middle, y: height - 6, 'text-anchor': 'middle' }, label));
		series.forEach((one, j) => {
			const v = one.values[i];
			if (v === null) return;
			const [a, b] = [f.y(Math.max(0, v)), f.y(Math.min(0, v))];
			marks.push(s('rect', { class: `bar s${j % COLOURS}`, x: middle - (thick * series.length) / 2 + thick * j, y: a, width: Math.max(1, thick - 1), height: Math.max(v === 0 ? 0 : 1, b - a) }));
		});
	});
	const near = (px) => {
		const i = Math.floor((px - f.left) / slot);
		return i >= 0 && i < labels.length ? { lines: [labels[i], ...series.map((one) => `${one.name}  ${one.values[i] === null ? 'NULL' : format(one.values[i])}`)] } : null;
	};
	return { marks, near };
}

function lying({ labels, series, format, title, low, high, width }) {
	const row = Math.max(20, series.length * 8 + 8);
	const top = title ? 24 : 4;
	const letters = Math.min(Math.max(...labels.map((l) => l.length)), Math.floor((width * 0.36) / LETTER));
	const left = letters * LETTER + 10;
	const figure = 9 * LETTER;
	const right = Math.max(left + 40, width - figure);
	const x = (v) => left + ((v - low) / (high - low || 1)) * (right - left);
	const marks = title ? [s('text', { class: 'title', x: 0, y: 11 }, title)] : [];
	labels.forEach((label, i) => {
		const y = top + row * i;
		const short = label.length > letters ? `${label.slice(0, letters - 1)}…` : label;
		marks.push(s('text', { x: left - 8, y: y + row / 2 + 4, 'text-anchor': 'end' }, short));
		series.forEach((one, j) => {
			const v = one.values[i];
			if (v === null) return;
			const thick = (row - 6) / series.length;
			marks.push(s('rect', { class: `bar s${j % COLOURS}`, x: x(Math.min(0, v)), y: y + 3 + thick * j, width: Math.max(v === 0 ? 0 : 1, x(Math.max(0, v)) - x(Math.min(0, v))), height: Math.max(2, thick - 1) }));
			if (series.length === 1) marks.push(s('text', { x: x(Math.max(0, v)) + 5, y: y + row / 2 + 4 }, format(v)));
		});
	});
	const height = top + row * labels.length + 4;
	marks.push(s('line', { class: 'axis', x1: Math.round(x(0)) + 0.5, x2: Math.round(x(0)) + 0.5, y1: top, y2: height - 4 }));
	const near = (_, py) => {
		const i = Math.floor((py - top) / row);
		return i >= 0 && i < labels.length ? { lines: [labels[i], ...series.map((one) => `${one.name}  ${one.values[i] === null ? 'NULL' : format(one.values[i])}`)] } : null;
	};
	return { marks, near, height };
}

// pie draws values that make up a whole, in their order, clockwise from the top.
function pie(spec, width, height) {
	const { labels, values, format = rate } = spec;
	const total = values.reduce((a, v) => a + v, 0);
	if (!(total > 0)) return nothing(width, height, spec.empty);
	const radius = Math.min(height / 2 - 8, width / 4);
	const [cx, cy] = [radius + 8, height / 2];
	const slices = labels.map((label, i) => ({ label, v: values[i] }));
	let angle = -Math.PI / 2;
	const marks = [];
	const parts = slices.map(({ label, v }, i) => {
		const from = angle;
		angle += (v / total) * 2 * Math.PI;
		const at = (a) => `${(cx + radius * Math.cos(a)).toFixed(2)},${(cy + radius * Math.sin(a)).toFixed(2)}`;
		const whole = v === total;
		const d = whole ? `M${cx - radius},${cy}a${radius},${radius} 0 1 0 ${2 * radius},0a${radius},${radius} 0 1 0 ${-2 * radius},0` : `M${cx},${cy}L${at(from)}A${radius},${radius} 0 ${v / total > 0.5 ? 1 : 0} 1 ${at(angle)}Z`;
		marks.push(s('path', { class: `slice s${i % COLOURS}`, d }));
		return { label, v, from, to: angle };
	});
	const left = 2 * radius + 40;
	const rowHeight = Math.min(22, (height - 8) / parts.length);
	const letters = Math.min(Math.max(...labels.map((l) => l.length)), Math.max(6, Math.floor((width - left - 150) / LETTER)));
	const columns = [left + 18, left + 18 + (letters + 7) * LETTER, left + 18 + (letters + 16) * LETTER]; // name, share, value
	parts.forEach((p, i) => {
		const y = cy + (i - (parts.length - 1) / 2) * rowHeight;
		const short = p.label.length > letters ? `${p.label.slice(0, letters - 1)}…` : p.label;
		marks.push(s('rect', { class: `bar s${i % COLOURS}`, x: left, y: y - 5, width: 10, height: 10 }), s('text', { x: columns[0], y: y + 4 }, short), s('text', { x: columns[1], y: y + 4, 'text-anchor': 'end' }, share(p.v, total)), s('text', { x: columns[2], y: y + 4, 'text-anchor': 'end' }, format(p.v)));
	});
	const near = (px, py) => {
		if (Math.hypot(px - cx, py - cy) > radius) return null;
		let a = Math.atan2(py - cy, px - cx);
		if (a < -Math.PI / 2) a += 2 * Math.PI;
		const p = parts.find((q) => a >= q.from && a < q.to) ?? parts.at(-1);
		return { lines: [p.label, `${format(p.v)} · ${share(p.v, total)}`] };
	};
	return { marks, near, summary: parts.slice(0, 5).map((p) => `${p.label} ${share(p.v, total)}`).join(', ') };
}

function share(v, total) {
	const part = (100 * v) / total;
	return `${part < 10 ? part.toFixed(1) : Math.round(part)} %`;
}
