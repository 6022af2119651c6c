// A table of things that live: rows are kept by key, so that what is chosen stays
// chosen, what has the focus keeps it, and only cells that changed are touched.

import { h, attr, icon } from './dom.js';

const order = new Intl.Collator('en', { numeric: true });

// compare puts texts in the order of people (snap2 before snap10), numbers by size,
// and what is unknown last.
export function compare(a, b) {
	if (a === b) return 0;
	if (a === null || a === undefined) return 1;
	if (b === null || b === undefined) return -1;
	return typeof a === 'string' || typeof b === 'string' ? order.compare(String(a), String(b)) : a < b ? -1 : 1;
}

export class Table {
	#columns;
	#key;
	#rows = new Map(); // key → { tr, cells, tick, row }
	#shown = [];
	#data = [];
	#test = null;
	#sort = null;
	#down = false;
	#body = h('tbody');
	#heads = new Map();
	#all = null;
	#last = null;
	#onselect;
	#onopen;
	#name;

	// columns: { id, label, num, data, wide, first, spare, tight, value(row), show(cell, row) }; value is
	// what is sorted by and, without show, what is shown. On a phone a cell that is wide
	// has a line of its own, and the first names the card; what is spare is left out where
	// there is little room, and what is tight has one line.
	// select(keys) is called when the choice changes, open(row) when a row is clicked.
	constructor({ label, columns, key, sort, down = false, select, open, name = key }) {
		this.#columns = columns;
		this.#key = key;
		this.#name = name;
		this.#onselect = select;
		this.#onopen = open;
		this.chosen = new Set();
		this.#sort = columns.find((c) => c.id === sort) ?? null;
		this.#down = down;
		const head = h('tr', { role: 'row' });
		if (select) {
			this.#all = h('input', { type: 'checkbox', 'aria-label': 'Choose all that are shown', onchange: () => this.#chooseAll() });
			head.append(h('th', { class: 'tick', scope: 'col', role: 'columnheader' }, this.#all));
		}
		for (const c of columns) head.append(this.#head(c));
		this.element = h('div', { class: 'scroll' }, h('table', { class: 'rows cards', role: 'table', 'aria-label': label }, h('thead', { role: 'rowgroup' }, head), this.#body));
		attr(this.#body, 'role', 'rowgroup');
		this.#marks();
	}

	#head(c) {
		const th = h('th', { scope: 'col', role: 'columnheader', class: [c.num && 'num', c.spare && 'spare'].filter(Boolean).join(' ') || null });
		if (c.value) th.append(h('button', { type: 'button', onclick: () => this.#sortBy(c) }, c.label, icon('arrow-up')));
		else th.append(c.label);
		this.#heads.set(c, th);
		return th;
	}

	#sortBy(c) {
		this.#down = this.#sort === c ? !this.#down : Boolean(c.num);
		this.#sort = c;
		this.#marks();
		this.#arrange();
	}

	#marks() {
		for (const [c, th] of this.#heads) attr(th, 'aria-sort', this.#sort === c ? (this.#down ? 'descending' : 'ascending') : null);
	}

	// set shows these rows and no others.
	set(data) {
		this.#data = data;
		const gone = new Set(this.#rows.keys());
		for (const row of data) {
			const key = this.#key(row);
			gone.delete(key);
			let r = this.#rows.get(key);
			if (!r) this.#rows.set(key, (r = this.#make(key)));
			r.row = row;
			this.#paint(r);
		}
		let lost = false;
		for (const key of gone) {
			this.#rows.get(key).tr.remove();
			this.#rows.delete(key);
			lost = this.chosen.delete(key) || lost;
		}
		this.#arrange();
		if (lost) this.#said();
	}

	// refresh shows the same rows again, for what changes with time alone.
	refresh() {
		for (const r of this.#rows.values()) this.#paint(r);
	}

	// filter shows only rows that pass; null shows all.
	filter(test) {
		this.#test = test;
		this.#arrange();
	}

	get shown() {
		return this.#shown.length;
	}

	// choose chooses these keys and no others.
	choose(keys) {
		this.chosen = new Set(keys);
		this.#said();
	}

	// mark shows which row is open.
	mark(key) {
		for (const [k, r] of this.#rows) attr(r.tr, 'aria-current', k === key ? 'true' : null);
	}

	#make(key) {
		const tr = h('tr', { role: 'row', class: this.#onopen ? 'link' : null });
		const r = { tr, cells: [], tick: null, row: null };
		if (this.#onselect) {
			r.tick = h('input', { type: 'checkbox', onclick: (e) => this.#choose(key, r.tick.checked, e.shiftKey) });
			tr.append(h('td', { class: 'tick', role: 'cell' }, r.tick));
		}
		for (const c of this.#columns) {
			const td = h('td', { role: 'cell', class: [c.num && 'num', c.data && 'data', c.wide && 'wide', c.first && 'first', c.spare && 'spare', c.tight && 'nowrap'].filter(Boolean).join(' ') || null, 'data-label': c.label });
			r.cells.push(td);
			tr.append(td);
		}
		if (this.#onopen) tr.addEventListener('click', (e) => {
			if (!e.target.closest('a, button, input, label') && String(getSelection()) === '') this.#onopen(r.row);
		});
		return r;
	}

	#paint(r) {
		if (r.tick) attr(r.tick, 'aria-label', `Choose ${this.#name(r.row)}`);
		this.#columns.forEach((c, i) => {
			const cell = r.cells[i];
			if (c.show) c.show(cell, r.row);
			else {
				const value = c.value(r.row);
				const now = value === null || value === undefined ? '–' : String(value);
				if (cell.textContent !== now) cell.textContent = now;
			}
		});
	}

	// arrange puts the rows that pass in order, moving only those that are not.
	#arrange() {
		const rows = this.#data.map((row) => this.#rows.get(this.#key(row))).filter((r) => !this.#test || this.#test(r.row));
		if (this.#sort) {
			const sign = this.#down ? -1 : 1;
			rows.sort((a, b) => {
				const [x, y] = [this.#sort.value(a.row), this.#sort.value(b.row)];
				const unknown = x === null || x === undefined || y === null || y === undefined;
				return (unknown ? 1 : sign) * compare(x, y) || compare(this.#key(a.row), this.#key(b.row));
			});
		}
		const focus = document.activeElement;
		const inside = this.#body.contains(focus);
		const keep = new Set(rows);
		for (const r of this.#shown) if (!keep.has(r)) r.tr.remove();
		let at = this.#body.firstElementChild;
		for (const r of rows) {
			if (r.tr === at) at = at.nextElementSibling;
			else this.#body.insertBefore(r.tr, at);
		}
		if (inside && focus.isConnected && document.activeElement !== focus) focus.focus({ preventScroll: true });
		this.#shown = rows;
		this.#ticks();
	}

	#choose(key, on, range) {
		const keys = range && this.#last !== null ? this.#between(this.#last, key) : [key];
		for (const k of keys) {
			if (on) this.chosen.add(k);
			else this.chosen.delete(k);
		}
		this.#last = key;
		this.#said();
	}

	#between(a, b) {
		const keys = this.#shown.map((r) => this.#key(r.row));
		const [from, to] = [keys.indexOf(a), keys.indexOf(b)].sort((x, y) => x - y);
		return from < 0 ? [b] : keys.slice(from, to + 1);
	}

	#chooseAll() {
		for (const r of this.#shown) {
			if (this.#all.checked) this.chosen.add(this.#key(r.row));
			else this.chosen.delete(this.#key(r.row));
		}
		this.#said();
	}

	#said() {
		this.#ticks();
		this.#onselect?.([...this.chosen].sort(compare));
	}

	#ticks() {
		if (!this.#all) return;
		let on = 0;
		for (const r of this.#shown) {
			r.tick.checked = this.chosen.has(this.#key(r.row));
			attr(r.tr, 'aria-selected', r.tick.checked ? 'true' : null);
			on += r.tick.checked;
		}
		this.#all.checked = on > 0 && on === this.#shown.length;
		this.#all.indeterminate = on > 0 && on < this.#shown.length;
	}
}
