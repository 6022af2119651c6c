// The grid of a result. It stays fast with any number of rows, because only those in
// sight are in the page; arrow keys or a click choose a value, Enter or another click open it, Ctrl+C copies it.

import { h, put, attr, icon, button, copy } from './dom.js';
import { open } from './dialog.js';
import { compare } from './table.js';
import { number } from './format.js';
import { figure, kindOf, shown, whole } from './values.js';

const ROW = 28;
const LETTER = 7.9; // px of a monospace letter at 13 px
const SPARE = 10; // rows above and below those in sight

export class Grid {
	#result = { columns: [], rows: [] };
	#order = [];
	#sort = null;
	#down = false;
	#active = null; // { row, column } in what is shown
	#due = 0;
	#body = h('tbody');
	#head = h('thead');
	#cols = h('colgroup');
	#table = h('table', {}, this.#cols, this.#head, this.#body);

	constructor({ label = 'Result' } = {}) {
		this.element = h('div', { class: 'gridbox', tabindex: '0', role: 'region', 'aria-label': `${label}: arrow keys move, Enter opens a value`, onkeydown: (e) => this.#key(e) }, this.#table);
		attr(this.#table, 'aria-label', label);
		this.element.addEventListener('scroll', () => this.#later(), { passive: true });
		this.#body.addEventListener('click', (e) => {
			const td = e.target.closest('td[data-column]');
			if (!td) return;
			const [row, column] = [Number(td.parentElement.dataset.row), Number(td.dataset.column)];
			if (this.#active?.row === row && this.#active.column === column) {
				if (String(getSelection()) === '') this.#open();
				return;
			}
			this.#active = { row, column };
			this.#render();
		});
		new ResizeObserver(() => this.#later()).observe(this.element);
	}

	// show shows a result: { columns, types, rows }.
	show(result) {
		this.#result = result;
		this.#order = result.rows;
		this.#sort = null;
		this.#active = null;
		this.#numbers = result.columns.map((_, i) => {
			const row = result.rows.find((r) => r[i] !== null);
			return row !== undefined && kindOf(row[i]) === 'number';
		});
		this.#heads();
		this.element.scrollTop = 0;
		this.element.scrollLeft = 0;
		this.#render();
	}

	#numbers = [];

	// more adds rows at the end.
	more(rows) {
		this.#result.rows.push(...rows);
		if (this.#sort !== null) this.#sortBy(this.#sort, this.#down);
		this.#render();
	}

	// shown is the result in the order that is shown.
	get shown() {
		return { ...this.#result, rows: this.#order };
	}

	#heads() {
		const { columns, types = [], rows } = this.#result;
		const digits = String(rows.length).length;
		const widths = columns.map((name, i) => {
			let letters = name.length + 3;
			for (let r = 0; r < Math.min(200, rows.length); r++) letters = Math.max(letters, shown(rows[r][i]).length);
			return Math.round(Math.min(44, Math.max(5, letters)) * LETTER) + 22;
		});
		const nr = Math.round(digits * LETTER) + 22;
		const width = (w) => {
			const col = h('col');
			col.style.width = `${w}px`;
			return col;
		};
		put(this.#cols, width(nr), widths.map(width));
		this.#table.style.width = `${nr + widths.reduce((a, b) => a + b, 0)}px`;
		put(this.#head, h('tr', {}, h('th', { class: 'nr', scope: 'col' }, '#'), columns.map((name, i) => h('th', { scope: 'col', class: this.#numbers[i] ? 'num' : null },
			h('button', { type: 'button', onclick: () => this.#toggle(i) }, h('span', {}, name))))));
		attr(this.#table, 'aria-rowcount', rows.length + 1);
	}

	#toggle(i) {
		this.#sortBy(i, this.#sort === i ? !this.#down : false);
		this.#active = null;
		this.#render();
	}

	#sortBy(i, down) {
		this.#sort = i;
		this.#down = down;
		const rank = { null: 0, number: 1, text: 2, blob: 3 };
		const plain = (v) => (v === null || typeof v !== 'object' ? v : v.real !== undefined ? figure(v) : shown(v));
		this.#order = [...this.#result.rows].sort((a, b) => {
			const [x, y] = [a[i], b[i]];
			return (down ? -1 : 1) * (rank[kindOf(x)] - rank[kindOf(y)] || compare(plain(x), plain(y)));
		});
		[...this.#head.querySelectorAll('th:not(.nr)')].forEach((th, j) => {
			th.querySelector('.icon')?.remove();
			attr(th, 'aria-sort', j === i ? (down ? 'descending' : 'ascending') : null);
			if (j === i) th.firstChild.append(icon('arrow-up'));
		});
	}

	#later() {
		this.#due ||= requestAnimationFrame(() => {
			this.#due = 0;
			this.#render();
		});
	}

	#render() {
		const box = this.element;
		const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
		const last = Math.min(this.#order.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE);
		const rows = [];
		for (let i = first; i < last; i++) rows.push(this.#row(i));
		put(this.#body, gap(first), rows, gap(this.#order.length - last));
	}

	#row(i) {
		return h('tr', { 'data-row': i, 'aria-rowindex': i + 2 }, h('td', { class: 'nr' }, String(i + 1)), this.#order[i].map((v, j) => {
			const active = this.#active?.row === i && this.#active.column === j;
			const words = shown(v);
			const kind = kindOf(v);
			return h('td', { class: [kind === 'number' ? 'num' : kind, active && 'active'].filter(Boolean).join(' '), 'data-column': j }, words.length > 400 ? `${words.slice(0, 400)}…` : words);
		}));
	}

	#key(e) {
		if (e.target !== this.element || this.#order.length === 0) return;
		const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 2);
		const steps = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], PageDown: [page, 0], PageUp: [-page, 0], Home: [-Infinity, 0], End: [Infinity, 0] };
		if ((e.ctrlKey || e.metaKey) && e.key === 'c' && this.#active && String(getSelection()) === '') navigator.clipboard.writeText(this.#value());
		else if (e.key === 'Enter' && this.#active && !e.ctrlKey) this.#open();
		else if (steps[e.key] && !e.ctrlKey && !e.metaKey) this.#move(...steps[e.key]);
		else return;
		e.preventDefault();
	}

	#move(rows, columns) {
		const at = this.#active ?? { row: 0, column: 0 };
		const limit = (v, most) => Math.min(Math.max(0, v), most);
		this.#active = this.#active ? { row: limit(at.row + rows, this.#order.length - 1), column: limit(at.column + columns, this.#result.columns.length - 1) } : at;
		const box = this.element;
		const top = this.#active.row * ROW;
		if (top < box.scrollTop) box.scrollTop = top;
		if (top + 2 * ROW + 4 > box.scrollTop + box.clientHeight) box.scrollTop = top + 2 * ROW + 4 - box.clientHeight;
		this.#render();
		const cell = this.#body.querySelector('td.active');
		if (!cell) return;
		const nr = this.#body.querySelector('td.nr').offsetWidth;
		if (cell.offsetLeft - nr < box.scrollLeft) box.scrollLeft = cell.offsetLeft - nr;
		else if (cell.offsetLeft + cell.offsetWidth > box.scrollLeft + box.clientWidth) box.scrollLeft = cell.offsetLeft + cell.offsetWidth - box.clientWidth;
	}

	#value() {
		const { row, column } = this.#active;
		return whole(this.#order[row][column]);
	}

	#open() {
		if (!this.#active) return;
		const b = button('Copy', { name: 'copy', onclick: () => copy(this.#value(), b) });
		const { row, column } = this.#active;
		open({ title: this.#result.columns[column], cancel: 'Close', wide: true, content: [h('p', { class: 'small quiet' }, [this.#result.types?.[column], `row ${number(row + 1)}`].filter(Boolean).join(' · ')), h('pre', { class: 'value', tabindex: '0' }, this.#value()), h('div', {}, b)] });
	}
}

function gap(rows) {
	if (rows <= 0) return null;
	const td = h('td');
	td.style.height = `${rows * ROW}px`;
	return h('tr', { class: 'gap', 'aria-hidden': 'true' }, td);
}
