// The SQL console: runs what is written, at the master or at one node, and shows what
// came as rows or as a chart.

import { $, h, put, text, attr, icon, button } from './dom.js';
import { start } from './shell.js';
import { open, troubleBox } from './dialog.js';
import { edit } from './editor.js';
import { Grid } from './grid.js';
import { Picture } from './picture.js';
import { harm, onlyReads, statements } from './sqltext.js';
import { csv, json, save } from './values.js';
import * as api from './api.js';
import { held } from './may.js';
import { count, dateTime, names, number, span } from './format.js';

const MOST_ROWS = 10000;
const MOST_NAMES = 4; // of nodes in a line
const KEPT = 100; // entries of the history
const asked = new URLSearchParams(location.search);

const live = start();
const editor = edit($('sql'), $('colours'), () => run());
const grid = new Grid();
const picture = new Picture();
let running = null;
let answer = null;
let at = 0; // which result is shown
let drawn = false;

// What to choose from: databases and nodes, as they come and go.
live.on('cluster', ({ cluster }) => {
	const dbs = Object.keys(cluster.heads ?? {}).filter((name) => !name.startsWith('_')).sort();
	options($('db'), [['', dbs.length > 0 ? 'none' : 'none yet'], ...dbs.map((d) => [d, d])], remembered('db') ?? dbs[0] ?? '');
	attr($('sql'), 'placeholder', dbs.length > 0 ? 'SELECT …' : 'CREATE DATABASE SnapDB');
	options($('node'), [['', 'master'], ...(cluster.nodes ?? []).map((n) => [n.id, n.state === 'online' ? n.id : `${n.id} (${n.state})`])], asked.get('node') ?? '');
});

function options(select, list, first) {
	const key = list.map((o) => o.join('\n')).join('\n\n');
	if (select.dataset.key === key) return;
	const chosen = select.dataset.key ? select.value : first;
	select.dataset.key = key;
	put(select, list.map(([value, words]) => h('option', { value }, words)));
	select.value = list.some(([value]) => value === chosen) ? chosen : list[0][0];
}

const remembered = (name) => asked.get(name) ?? stored(`sql-${name}`);

function stored(key) {
	try {
		return localStorage.getItem(key);
	} catch {
		return null; // a browser that keeps nothing
	}
}

function store(key, value) {
	try {
		localStorage.setItem(key, value);
	} catch {
		// It is forgotten with the page, then.
	}
}

$('db').addEventListener('change', () => store('sql-db', $('db').value));
editor.set(asked.get('sql') ?? stored('sql-text') ?? '');
$('sql').addEventListener('input', () => store('sql-text', $('sql').value));
const readsOnly = held('writer', 'Changing data or tables');
if (readsOnly) $('trouble').before(readsOnly);
$('run').addEventListener('click', () => (running ? running.abort() : run()));
$('explain').addEventListener('click', () => run({ plan: true }));
$('history').addEventListener('click', () => showHistory());

async function run({ plan = false } = {}) {
	if (running) return;
	const node = $('node').value;
	const sql = plan ? planOf(editor.sql) : editor.sql;
	if (sql === '') return;
	const found = plan ? [] : harm(sql);
	if (found.length > 0 && !(await sure(found, node))) return;
	await execute({ sql, node, db: $('db').value });
}

// planOf asks how the first statement would be executed.
function planOf(sql) {
	const [first] = statements(sql);
	if (!first) return '';
	const whole = sql.slice(first[0].at, first.at(-1).at + first.at(-1).text.length);
	return /^explain\b/i.test(whole) ? whole : `EXPLAIN QUERY PLAN ${whole}`;
}

function sure(found, node) {
	return open({
		title: found.length === 1 ? found[0].what : `${found.length} statements destroy more than one row`,
		content: [h('p', {}, `It is executed ${node ? `on ${node}` : 'on the master and every slave'}, and cannot be taken back.`), found.map((f) => h('div', { class: 'field' }, found.length > 1 && h('span', {}, f.what), h('pre', { class: 'value' }, f.text)))],
		action: { label: 'Run it', danger: true },
	});
}

async function execute({ sql, node, db }) {
	running = new AbortController();
	busy(true);
	put($('trouble'));
	text($('outcome'), 'Running…');
	const begun = performance.now();
	const entry = { sql, db, at: Date.now() };
	try {
		const reads = onlyReads(sql);
		const path = node || reads ? `query?max_rows=${MOST_ROWS}${node ? `&node=${encodeURIComponent(node)}` : ''}` : 'exec';
		answer = await api.run(path, { db: db || undefined, sql }, running.signal);
		show(performance.now() - begun, node);
		entry.ok = true;
	} catch (err) {
		text($('outcome'), '');
		if (err.name !== 'AbortError') {
			put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) }));
			pointAt(err, sql);
		} else text($('outcome'), 'Given up. What was sent already may have been executed.');
	}
	running = null;
	busy(false);
	keep(entry);
}

// pointAt selects what a syntax error is about, if the editor still has it.
function pointAt(err, sql) {
	if (err.code !== 'syntax' || !(err.offset >= 0) || err.statement > 1) return;
	const offset = new TextDecoder().decode(new TextEncoder().encode(sql).slice(0, err.offset)).length;
	const base = $('sql').value.indexOf(sql);
	if (base >= 0 && offset < sql.length) editor.mark(base + offset, base + offset + (/^[\w"]+|./.exec(sql.slice(offset))?.[0].length ?? 1));
}

function busy(on) {
	put($('run'), icon(on ? 'square' : 'play'), on ? 'Stop' : 'Run', ' ', !on && h('kbd', {}, 'Ctrl Enter'));
	$('explain').disabled = on;
}

// show shows the last result that has columns, and says what happened.
function show(ms, node) {
	const results = answer.results ?? [];
	const last = results.findLastIndex((r) => r.columns?.length > 0);
	at = last;
	drawn = drawn && last >= 0 && results[last].rows.length > 0;
	put($('outcome'), words(results, ms, node), answer.applied?.length > MOST_NAMES && h('details', {}, h('summary', {}, 'all of them'), answer.applied.join(', ')));
	$('result').hidden = last < 0;
	if (last >= 0) showResult();
}

function words(results, ms, node) {
	const changes = results.reduce((sum, r) => sum + (r.columns?.length > 0 ? 0 : (r.changes ?? 0)), 0);
	const parts = [`${span(ms)}`];
	if (results.length > 1) parts.unshift(count(results.length, 'statement'));
	if (answer.applied) {
		parts.push(`${count(changes, 'row')} changed`, `position ${number(answer.position)}`, answer.applied.length > 0 ? `applied by ${names(answer.applied, MOST_NAMES)}` : 'applied by the master alone');
		if (answer.pending?.length > 0) parts.push(`pending ${names(answer.pending)}`);
	} else if (answer.position) parts.push(`${node || 'master'} at position ${number(answer.position)}`);
	return parts.join(' · ');
}

const viewButtons = [['table', 'Rows', false], ['chart', 'Chart', true]].map(([name, label, chart]) => button(label, { name, onclick: () => {
	drawn = chart;
	showResult();
} }));

function showResult() {
	const results = answer.results;
	const result = results[at];
	const shown = results.map((r, i) => [r, i]).filter(([r]) => r.columns?.length > 0);
	const which = shown.length > 1 && h('label', { class: 'inline' }, h('span', { class: 'quiet small' }, 'Result'), h('select', { onchange: (e) => {
		at = Number(e.target.value);
		showResult();
	} }, shown.map(([r, i]) => h('option', { value: i, selected: i === at }, `${i + 1}: ${count(r.rows.length, 'row')}`))));
	viewButtons.forEach((b, i) => attr(b, 'aria-pressed', String(drawn === (i === 1))));
	viewButtons[1].disabled = result.rows.length === 0;
	put($('result-head'), h('h2', {}, count(result.rows.length, 'row'), h('span', { class: 'quiet small' }, result.ms === undefined ? '' : `  in ${rateMS(result.ms)}`)), h('div', { class: 'tools' }, which, h('div', { class: 'choice' }, viewButtons),
		button('CSV', { name: 'download', 'aria-label': 'CSV: save what is shown', onclick: () => save('result.csv', 'text/csv', csv(grid.shown)) }),
		button('JSON', { name: 'download', 'aria-label': 'JSON: save what is shown', onclick: () => save('result.json', 'application/json', json(grid.shown)) })));
	grid.show(result);
	if (drawn) picture.show(result);
	put($('result-body'), result.truncated && h('p', { class: 'note' }, icon('alert'), h('span', {}, `There are more rows than these ${number(result.rows.length)}. Ask for fewer with WHERE, or page with LIMIT and OFFSET.`)),
		drawn ? picture.element : result.rows.length > 0 ? grid.element : h('p', { class: 'nothing' }, `No rows. The columns are ${result.columns.join(', ')}.`));
}

const rateMS = (ms) => (ms < 10 ? `${ms.toFixed(2)} ms` : span(ms));

// The history is kept by the browser.
function history() {
	try {
		const list = JSON.parse(stored('sql-history') ?? '[]');
		return Array.isArray(list) ? list : [];
	} catch {
		return [];
	}
}

function keep(entry) {
	if (entry.sql.length > 20000) return;
	store('sql-history', JSON.stringify([entry, ...history().filter((e) => e.sql !== entry.sql)].slice(0, KEPT)));
}

function showHistory() {
	const list = h('ul', { class: 'past' });
	const search = h('input', { type: 'search', placeholder: 'Search…', 'aria-label': 'Search the history', oninput: () => fill() });
	const fill = () => {
		const found = history().filter((e) => e.sql.toLowerCase().includes(search.value.toLowerCase()));
		put(list, found.length === 0 ? h('li', { class: 'nothing' }, 'Nothing here. What you run is kept in this browser.') : found.map((e) => h('li', {}, h('button', { type: 'button', onclick: (ev) => {
			editor.set(e.sql);
			store('sql-text', e.sql);
			ev.target.closest('dialog').close();
		} }, h('code', {}, e.sql.replace(/\s+/g, ' ').slice(0, 300)), h('small', {}, e.db || '', e.ok ? '' : ' · failed', ' · ', dateTime(e.at))))));
	};
	fill();
	open({ title: 'History', wide: true, cancel: 'Close', focus: search, content: [search, list] });
}
