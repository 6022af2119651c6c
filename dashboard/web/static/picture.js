// A result as a chart: proposed by what is in its columns, changed by whoever looks.

import { h, put, attr, button } from './dom.js';
import { Chart } from './chart.js';
import { choose, spec, study } from './chartpick.js';

const kinds = [['bar', 'Bar'], ['line', 'Line'], ['scatter', 'Scatter'], ['pie', 'Pie']];

export class Picture {
	#chart = new Chart({ height: 360 });
	#tools = h('div', { class: 'tools' });
	#notes = h('p', { class: 'small quiet' });
	#result = null;
	#choice = null;
	#key = '';

	constructor() {
		this.element = h('div', { class: 'chartbox' }, this.#tools, this.#chart.element, this.#notes);
	}

	// show draws a result. The choice stays while the columns do.
	show(result) {
		const key = JSON.stringify(result.columns);
		this.#result = result;
		if (key !== this.#key) this.#choice = choose(result) ?? { kind: 'bar', x: 0, y: [] };
		this.#key = key;
		this.#draw();
	}

	#draw() {
		const { kind, x, y } = this.#choice;
		const cols = study(this.#result);
		const numbers = cols.filter((c) => c.kind === 'number');
		const selectX = h('select', { onchange: (e) => this.#change({ x: Number(e.target.value) }) }, h('option', { value: -1 }, 'row number'), cols.filter((c) => c.kind !== 'none').map((c) => h('option', { value: c.i, selected: c.i === x }, c.name)));
		const one = kind === 'pie' || kind === 'scatter';
		put(this.#tools,
			h('div', { class: 'choice', role: 'group', 'aria-label': 'Kind of chart' }, kinds.map(([id, label]) => attr(button(label, { onclick: () => this.#change({ kind: id }) }), 'aria-pressed', String(id === kind)))),
			h('label', { class: 'inline' }, h('span', { class: 'quiet small' }, kind === 'bar' || kind === 'pie' ? 'Labels' : 'Across'), selectX),
			h('fieldset', { class: 'ys' }, h('legend', { class: 'quiet small' }, 'Values'), numbers.length === 0 ? h('span', { class: 'small quiet' }, 'number of rows') : numbers.map((c) => h('label', { class: 'inline small' }, h('input', { type: one ? 'radio' : 'checkbox', name: 'chart-values', value: c.i, checked: one ? c.i === y[0] : y.includes(c.i), onchange: (e) => this.#change({ y: one ? [c.i] : e.target.checked ? [...y, c.i] : y.filter((i) => i !== c.i) }) }), c.name))));
		const { spec: drawn, notes } = spec(this.#result, this.#choice);
		this.#chart.label = `${kinds.find(([id]) => id === kind)[1]} chart`;
		this.#chart.show(drawn);
		put(this.#notes, notes.join(' '));
	}

	#change(part) {
		this.#choice = { ...this.#choice, ...part };
		if ((this.#choice.kind === 'line' || this.#choice.kind === 'scatter') && this.#choice.y.length === 0) {
			const first = study(this.#result).find((c) => c.kind === 'number');
			if (first) this.#choice.y = [first.i];
		}
		this.#draw();
	}
}
