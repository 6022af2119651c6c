// The editor for SQL: a textarea over the same text in colour.

import { h, put } from './dom.js';
import { tokens } from './sqltext.js';

const plain = new Set(['space', 'word', 'mark']);
const MOST = 50000; // characters that are coloured

// edit makes an editor of a textarea and the element under it; run is called on
// Ctrl+Enter.
export function edit(area, under, run) {
	const paint = () => {
		const sql = area.value;
		if (sql.length > MOST) put(under, sql, '\n');
		else put(under, tokens(sql).map((t) => (plain.has(t.kind) ? t.text : h('span', { class: t.kind }, t.text))), '\n');
		under.scrollTop = area.scrollTop;
	};
	area.addEventListener('input', paint);
	area.addEventListener('scroll', () => { under.scrollTop = area.scrollTop; }, { passive: true });
	area.addEventListener('keydown', (e) => {
		if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) {
			e.preventDefault();
			run();
		}
	});
	paint();
	return {
		// sql is what is selected, else everything.
		get sql() {
			return area.value.slice(area.selectionStart, area.selectionEnd).trim() || area.value.trim();
		},
		set(sql) {
			area.value = sql;
			paint();
			area.focus();
		},
		// mark selects from a place on, as errors name it.
		mark(from, to) {
			area.focus();
			area.setSelectionRange(from, to);
		},
	};
}
