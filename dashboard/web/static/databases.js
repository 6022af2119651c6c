// The databases: made and dropped; and what is in one of them: its tables, their
// columns and indexes, and their rows, paged and filtered.

import { $, h, put, text, attr, button, commandLine } from './dom.js';
import { start, showState } from './shell.js';
import { Table } from './table.js';
import { Grid } from './grid.js';
import { open, toast, troubleBox } from './dialog.js';
import { quoted } from './sqltext.js';
import * as api from './api.js';
import { held, hold, may } from './may.js';
import { age, bytes, count, dateTime, names, number } from './format.js';
import { listed } from './host.js';
import { verification, why } from './verified.js';

const PAGE = 200;
const asked = new URLSearchParams(location.search);
const live = start();
let chosen = asked.get('db');
let view = 'rows';
let tables = [];
let table = null; // of tables
let heads = {};

const list = new Table({
	label: 'Databases', key: (d) => d.name, sort: 'name', open: (d) => choose(d.name),
	columns: [
		{ id: 'name', label: 'Database', data: true, first: true, value: (d) => d.name, show: (cell, d) => { if (!cell.firstChild) cell.append(h('a', { href: `/databases?db=${encodeURIComponent(d.name)}`, onclick: (e) => {
			e.preventDefault();
			choose(d.name);
		} }, d.name)); } },
		{ id: 'state', label: 'State', value: (d) => d.state, show: (cell, d) => showState(cell, d.state, d.reason) },
		{ id: 'position', label: 'Head', num: true, value: (d) => d.position, show: (cell, d) => text(cell, number(d.position)) },
		{ id: 'copies', label: 'In sync on', value: (d) => d.copies.length, show: (cell, d) => text(cell, d.copies.length > 0 ? names(d.copies) : 'no node') },
		{ id: 'verified', label: 'Compared', value: (d) => d.verified?.at ?? 0, show: (cell, d) => { text(cell, d.compared.text); cell.classList.toggle('bad', d.compared.bad); } },
		{ id: 'snapshot', label: 'Snapshot', value: (d) => d.snapshot?.taken ?? 0, show: (cell, d) => text(cell, d.snapshot ? `${bytes(d.snapshot.size)}, ${age(d.snapshot.taken)}` : '–') },
		{ id: 'drop', label: 'Actions', show: (cell, d) => { if (!cell.firstChild) cell.append(button('Drop…', { name: 'trash', kind: 'plain danger', 'aria-label': `Drop ${d.name}`, disabled: !may('admin'), onclick: () => drop(d.name) })); } },
	],
});
const empty = h('div', { class: 'scroll', hidden: true }, h('div', { class: 'empty' }, h('h2', {}, 'There is no database yet'),
	h('p', {}, 'A database is one SQLite file on the master and on every slave. Make one here, or with SQL:'), commandLine(`snapdb sql -c 'CREATE DATABASE SnapDB' --server ${document.body.dataset.nats}`)));
put($('list'), empty, list.element, hold('writer', 'Creating a database', $('create')), held('admin', 'Dropping a database'));
list.element.hidden = true;

live.on('cluster', ({ cluster }) => {
	heads = Object.fromEntries(Object.entries(cluster.heads ?? {}).filter(([db]) => !db.startsWith('_')));
	const rows = Object.entries(heads).map(([name, head]) => ({
		name, position: head.position, reason: cluster.stopped?.[name], state: cluster.stopped?.[name] ? 'stopped' : 'online',
		snapshot: cluster.snapshots?.[name], verified: cluster.verified?.[name], compared: verification(cluster.verified?.[name]),
		copies: (cluster.nodes ?? []).filter((n) => n.in_sync?.includes(name)).map((n) => n.id),
	}));
	list.set(rows);
	empty.hidden = rows.length > 0;
	list.element.hidden = rows.length === 0;
	text($('tally'), rows.length > 0 ? count(rows.length, 'database') : '');
	list.mark(chosen);
	showFacts(rows.find((d) => d.name === chosen));
	if (chosen && !heads[chosen] && !$('one').hidden) choose(null);
});

// showFacts tells of the database that is open what the list has no room for.
function showFacts(d) {
	if (!d) return;
	const v = d.verified;
	const found = v && Object.entries(v.nodes).map(([id, n]) => [`${id} ${n.state}`, why(n)].filter(Boolean).join(': ')).sort();
	const lines = [
		['stopped', d.reason],
		['in sync on', d.copies.join(', ') || 'no node'],
		['compared', v ? `at position ${number(v.position)}, ${dateTime(v.at)}: ${found.join(', ')}` : 'not yet'],
		['snapshot', d.snapshot ? `at position ${number(d.snapshot.position)}, ${dateTime(d.snapshot.taken)}, ${bytes(d.snapshot.size)}` : 'not yet'],
	];
	const key = lines.join('\n');
	if ($('facts').dataset.key === key) return;
	$('facts').dataset.key = key;
	put($('facts'), listed(lines));
}

const fail = (err) => put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) }));

$('create').addEventListener('click', () => {
	const name = h('input', { class: 'mono', autocomplete: 'off', spellcheck: 'false', maxlength: '63' });
	open({
		title: 'Create database', focus: name,
		content: h('label', { class: 'field' }, h('span', {}, 'Name'), name, h('small', {}, 'Letters, digits and _, up to 63, not beginning with a digit')),
		action: { label: 'Create', run: async () => {
			const answer = await api.post('databases', { name: name.value.trim() });
			toast(`${name.value.trim()} is there, at position ${answer.position}.`);
			choose(name.value.trim());
		} },
	});
});

function drop(name) {
	return open({
		title: `Drop ${name}`,
		content: h('p', {}, 'All its tables and rows are removed on the master and on every slave. This cannot be taken back.'),
		action: { label: `Drop ${name}`, danger: true, type: name, run: async () => {
			const answer = await api.remove(`databases/${encodeURIComponent(name)}`);
			toast(`${name} is dropped, at position ${answer.position}.`);
		} },
	});
}

// choose opens a database, or none.
async function choose(name) {
	chosen = name;
	window.history.replaceState(null, '', name ? `/databases?db=${encodeURIComponent(name)}` : '/databases');
	list.mark(name);
	$('one').hidden = !name;
	if (!name) return;
	text($('name'), name);
	put($('tools'), h('a', { class: 'button', href: `/sql?db=${encodeURIComponent(name)}` }, 'Open in SQL'), button('Refresh', { name: 'restart', onclick: () => choose(name) }));
	try {
		const schema = await api.get(`databases/${encodeURIComponent(name)}/schema`);
		if (name !== chosen) return;
		tables = (schema.tables ?? []).filter((t) => !t.name.startsWith('_snapdb') && t.type !== 'shadow');
		showTables();
	} catch (err) {
		fail(err);
	}
}

function showTables() {
	put($('tables'), tables.map((t) => h('button', { type: 'button', 'aria-current': String(table?.name === t.name), onclick: () => showTable(t) }, h('span', {}, t.name), t.type !== 'table' && h('small', {}, t.type))));
	const found = tables.find((t) => t.name === table?.name) ?? tables[0];
	if (found) showTable(found);
	else put($('shown'), h('p', { class: 'nothing' }, 'It has no tables yet.'));
}

function showTable(t) {
	table = t;
	for (const b of $('tables').children) attr(b, 'aria-current', String(b.firstChild.textContent === t.name));
	const views = [['rows', 'Rows', () => rowsOf(t)], ['columns', 'Columns', () => columnsOf(t)], ['indexes', `Indexes ${t.indexes.length}`, () => indexesOf(t)], ['sql', 'SQL', () => h('pre', { class: 'value', tabindex: '0' }, [t.sql, ...t.triggers.map((g) => g.sql)].join(';\n\n'))]];
	put($('shown'), h('h3', { class: 'mono' }, t.name), h('div', { class: 'choice', role: 'group', 'aria-label': 'What of the table' }, views.map(([id, label]) => button(label, { 'aria-pressed': String(view === id), onclick: () => {
		view = id;
		showTable(t);
	} }))), views.find(([id]) => id === view)[2]());
}

function columnsOf(t) {
	const columns = new Table({ label: `Columns of ${t.name}`, key: (c) => c.name, columns: [
		{ id: 'name', label: 'Column', data: true, value: (c) => c.name }, { id: 'type', label: 'Type', data: true, value: (c) => c.type || 'any' },
		{ id: 'key', label: 'Key', value: (c) => (c.primary_key > 0 ? `primary ${t.columns.filter((o) => o.primary_key > 0).length > 1 ? c.primary_key : ''}` : null) },
		{ id: 'null', label: 'NULL', value: (c) => (c.not_null ? 'no' : 'yes') }, { id: 'default', label: 'Default', data: true, value: (c) => c.default },
		{ id: 'refers', label: 'Refers to', data: true, value: (c) => t.foreign_keys.filter((f) => f.from === c.name).map((f) => `${f.table}${f.to ? `(${f.to})` : ''}`).join(' ') || null },
	] });
	columns.set(t.columns);
	return columns.element;
}

function indexesOf(t) {
	if (t.indexes.length === 0) return h('p', { class: 'nothing' }, 'It has no index but its rowid.');
	const indexes = new Table({ label: `Indexes of ${t.name}`, key: (i) => i.name, columns: [
		{ id: 'name', label: 'Index', data: true, value: (i) => i.name }, { id: 'columns', label: 'Columns', data: true, value: (i) => i.columns.map((c) => c || 'expression').join(', ') },
		{ id: 'unique', label: 'Unique', value: (i) => (i.unique ? 'yes' : 'no') }, { id: 'origin', label: 'Made by', value: (i) => ({ c: 'CREATE INDEX', u: 'UNIQUE', pk: 'PRIMARY KEY' })[i.origin] },
	] });
	indexes.set(t.indexes);
	return indexes.element;
}

// rowsOf pages through the rows; a filter is a piece of text that any column has.
function rowsOf(t) {
	const grid = new Grid({ label: `Rows of ${t.name}` });
	const word = h('span', { class: 'quiet small', role: 'status' });
	const filter = h('input', { type: 'search', placeholder: 'Rows that contain…', 'aria-label': `Filter the rows of ${t.name}`, 'data-search': true, autocomplete: 'off', onchange: () => load(0) });
	const back = button('Previous', { disabled: true, onclick: () => load(from - PAGE) });
	const on = button('Next', { disabled: true, onclick: () => load(from + PAGE) });
	const box = h('div', { class: 'shown' }, h('div', { class: 'pager' }, filter, back, on, word), grid.element);
	let from = 0;

	async function load(at) {
		from = at;
		const visible = t.columns.filter((c) => !c.hidden);
		const where = filter.value === '' ? '' : ` WHERE ${visible.map((c) => `instr(lower(${quoted(c.name)}), lower(?1))`).join(' OR ')}`;
		const sql = `SELECT * FROM ${quoted(t.name)}${where} LIMIT ${PAGE + 1} OFFSET ${from}`;
		try {
			const answer = await api.run('query', { db: chosen, sql, args: where ? [filter.value] : [] });
			const result = answer.results[0];
			const more = result.rows.length > PAGE;
			result.rows.length = Math.min(PAGE, result.rows.length);
			grid.show(result);
			back.disabled = from === 0;
			on.disabled = !more;
			text(word, result.rows.length === 0 ? (where ? 'No row contains that.' : 'It has no rows.') : `Rows ${number(from + 1)} to ${number(from + result.rows.length)}${more ? '' : `, the last${from === 0 ? '' : ' ones'}`}`);
			grid.element.hidden = result.rows.length === 0;
		} catch (err) {
			put(box, troubleBox(err));
		}
	}
	load(0);
	return box;
}

if (chosen) choose(chosen);
