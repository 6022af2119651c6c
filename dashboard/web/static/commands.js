// The records of commands, what became of each on every node, and new ones.

import { $, h, put, text, attr, button, commandLine } from './dom.js';
import { start, state, showState } from './shell.js';
import { Table } from './table.js';
import { open, troubleBox } from './dialog.js';
import * as commanding from './commanding.js';
import { held, hold, may } from './may.js';
import * as api from './api.js';
import { age, bytes, count, dateTime, full, moment, names, span } from './format.js';

const live = start({ topics: ['commands'] });
const records = new Map();
const outputs = new Map(); // id → record with the outputs of its nodes
let nodes = [];
let openID = new URLSearchParams(location.search).get('id');

const table = new Table({
	label: 'Commands', key: (r) => r.id, name: (r) => `${r.op} ${r.id}`, sort: 'created', down: true, open: (r) => show(r.id),
	columns: [
		{ id: 'op', label: 'Command', value: (r) => r.op, show: showOp, first: true, wide: true },
		{ id: 'to', label: 'To', value: (r) => r.to, show: (cell, r) => text(cell, to(r)) },
		{ id: 'outcome', label: 'Outcome', show: commanding.showOutcome },
		{ id: 'by', label: 'By', spare: true, value: (r) => r.by || null },
		{ id: 'created', label: 'Asked', tight: true, value: (r) => moment(r.created), show: (cell, r) => text(cell, age(r.created)) },
		{ id: 'took', label: 'Took', num: true, spare: true, value: took, show: (cell, r) => text(cell, took(r) === null ? '–' : span(took(r))) },
	],
});

const to = (r) => (r.nodes.length <= 3 ? r.nodes.map((n) => n.node).join(', ') : `${r.to.length < 24 ? r.to : count(r.nodes.length, 'node')}`);

function took(r) {
	return moment(r.ended) === null ? null : moment(r.ended) - (moment(r.at) ?? moment(r.created));
}

function showOp(cell, r) {
	if (cell.firstChild) return;
	const more = commanding.detail(r);
	cell.append(h('a', { href: `/commands?id=${encodeURIComponent(r.id)}`, onclick: (e) => {
		if (e.ctrlKey || e.metaKey || e.shiftKey) return;
		e.preventDefault();
		show(r.id);
	} }, commanding.verbs[r.op] ?? r.op));
	if (more) cell.append(' ', h('span', { class: 'mono quiet' }, more));
}

const empty = h('div', { class: 'scroll', hidden: true }, h('div', { class: 'empty' },
	h('h2', {}, 'No commands yet'),
	h('p', {}, 'Whatever nodes are told to do is recorded here, with what each of them answered: from this panel, from the command line, or with nats.'),
	commandLine(`snapdb node label --all room=lab1 --server ${document.body.dataset.nats}`)));
const none = h('p', { class: 'nothing', hidden: true }, 'No command has these words.');
const trouble = h('div');
put($('list'), trouble, empty, table.element, none);
table.element.hidden = true;

live.on('command', ({ command }) => {
	records.set(command.id, command);
	later();
	if (command.id === openID) load();
});
live.on('cluster', ({ cluster }) => { nodes = cluster.nodes ?? []; });

// Many come in one go at the start.
let due = 0;
function later() {
	due ||= requestAnimationFrame(() => {
		due = 0;
		render();
	});
}

function render() {
	empty.hidden = records.size > 0;
	table.element.hidden = records.size === 0;
	table.set([...records.values()]);
	const at = [...records.values()].filter((r) => moment(r.ended) === null).length;
	text($('tally'), at > 0 ? `${at} under way` : '');
	narrow();
}

function narrow() {
	const wanted = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
	table.filter(wanted.length === 0 ? null : (r) => {
		const words = [r.id, r.op, commanding.verbs[r.op], r.by, r.to, commanding.detail(r), ...r.nodes.flatMap((n) => [n.node, commanding.stateOf(n), n.state, n.reason])].join(' ').toLowerCase();
		return wanted.every((w) => words.includes(w));
	});
	none.hidden = table.shown > 0 || records.size === 0;
}
$('filter').addEventListener('input', narrow);
setInterval(() => table.refresh(), 1000);
api.get('commands?limit=200').then((answer) => {
	for (const r of answer.commands) if (!records.has(r.id)) records.set(r.id, r);
	render();
	if (openID) show(openID, false);
}).catch((err) => put(trouble, troubleBox(err, { dismiss: () => put(trouble) })));

// One command, node by node.
const detailTable = new Table({
	label: 'Nodes of the command', key: (n) => n.node, sort: 'node',
	columns: [
		{ id: 'node', label: 'Node', data: true, value: (n) => n.node, show: (cell, n) => { if (!cell.firstChild) cell.append(h('a', { href: `/nodes/${encodeURIComponent(n.node)}` }, n.node)); } },
		{ id: 'state', label: 'State', value: commanding.stateOf, show: (cell, n) => showState(cell, commanding.stateOf(n)) },
		{ id: 'when', label: 'When', value: (n) => moment(n.ended) ?? moment(n.accepted) ?? moment(n.sent), show: showWhen },
		{ id: 'what', label: 'What it said', wide: true, show: showWhat },
	],
});
const head = { title: h('h2'), facts: h('dl', { class: 'list' }), tools: h('div', { class: 'tools' }), trouble: h('div') };
put($('detail'), h('header', {}, head.title, button('Close', { name: 'cross', kind: 'plain', square: true, onclick: () => show(null) })), head.facts, head.tools, head.trouble, detailTable.element);

function showWhen(cell, n) {
	const steps = [['sent', n.sent], ['accepted', n.accepted], ['ended', n.ended]].filter(([, t]) => moment(t) !== null);
	const key = JSON.stringify(steps);
	if (cell.dataset.steps === key) return;
	cell.dataset.steps = key;
	const opened = cell.querySelector('details')?.open;
	put(cell, steps.length === 0 ? '–' : h('details', { open: opened }, h('summary', { class: 'nowrap' }, dateTime(steps.at(-1)[1])), steps.map(([w, t]) => h('div', { class: 'small quiet' }, `${w} ${full(t)}`))));
}

function showWhat(cell, n) {
	const key = JSON.stringify([n.reason, n.progress, n.total, n.output]);
	if (cell.dataset.what === key) return;
	cell.dataset.what = key;
	const far = n.state === 'accepted' && n.total > 0 ? `${bytes(n.progress ?? 0)} of ${bytes(n.total)}` : '';
	put(cell, [n.reason, far].filter(Boolean).join(' · '), n.output !== undefined && n.output !== null && output(n.output));
	attr(cell, 'class', cell.firstChild ? 'wide' : 'wide empty-cell');
}

function output(value) {
	if (value.digest && value.name) return h('div', {}, h('a', { href: `/api/v1/files/${encodeURIComponent(value.digest)}?name=${encodeURIComponent(value.name)}`, download: value.name }, `Save ${value.name}`), ` ${bytes(value.size)}`);
	return h('details', {}, h('summary', {}, 'Output'), h('pre', { class: 'output', tabindex: '0' }, typeof value === 'string' ? value : JSON.stringify(value, null, 2)));
}

function show(id, focus = true) {
	openID = id;
	history.replaceState(null, '', id ? `/commands?id=${encodeURIComponent(id)}` : '/commands');
	$('split').classList.toggle('open', Boolean(id));
	$('detail').hidden = !id;
	table.mark(id);
	if (!id) return;
	put(head.trouble);
	renderDetail();
	load();
	if (focus) $('detail').focus({ preventScroll: true });
}

// load fetches the record with outputs; lists have none.
async function load() {
	const id = openID;
	try {
		const answer = await api.get(`commands/${encodeURIComponent(id)}`);
		outputs.set(id, answer.commands?.[0] ?? answer);
		if (id === openID) renderDetail();
	} catch (err) {
		if (id === openID) put(head.trouble, troubleBox(err));
	}
}

function renderDetail() {
	const r = outputs.get(openID) ?? records.get(openID);
	if (!r) {
		text(head.title, openID);
		return;
	}
	put(head.title, commanding.verbs[r.op] ?? r.op, ' ', h('span', { class: 'mono quiet' }, commanding.detail(r)));
	const lines = [
		['id', r.id], ['asked', `${full(r.created)}${r.by ? ` by ${r.by}` : ''}`], ['to', r.to], ['if away', awayWords(r)],
		['not before', moment(r.at) && dateTime(r.at)], ['batches', r.batch > 0 && `${r.batch} at a time, ${span(r.pause_ms ?? 0)} apart`], ['again of', r.retry_of],
	];
	put(head.facts, lines.filter(([, v]) => v).map(([k, v]) => [h('dt', {}, k), h('dd', {}, v)]));
	detailTable.set(r.nodes);
	table.mark(openID);
	const failed = r.nodes.filter((n) => ['failed', 'timed_out', 'expired', 'cancelled'].includes(n.state));
	const waiting = r.nodes.filter((n) => ['queued', 'sent', 'accepted'].includes(n.state));
	const key = `${r.id} ${failed.length} ${waiting.length}`;
	if (head.tools.dataset.key === key) return;
	head.tools.dataset.key = key;
	put(head.tools,
		failed.length > 0 && button(`Retry on ${names(failed.map((n) => n.node), 2)}`, { name: 'restart', disabled: !may('operator'), onclick: () => retry(r, failed) }),
		waiting.length > 0 && button(`Cancel on ${names(waiting.map((n) => n.node), 2)}`, { name: 'cross', disabled: !may('operator'), onclick: () => act('cancel', r, waiting) }),
		(failed.length > 0 || waiting.length > 0) && held('operator', 'Retrying or cancelling'));
	head.tools.hidden = !head.tools.firstChild;
}

function awayWords(r) {
	return { skip: 'skipped', wait: 'waits a little', queue: `queued until ${dateTime(r.expires)}` }[r.away];
}

async function act(what, r, which) {
	put(head.trouble);
	try {
		const answer = await api.post(`commands/${encodeURIComponent(r.id)}/${what}`, { nodes: which.map((n) => n.node), by: 'panel' });
		const got = answer.commands?.[0];
		if (got) records.set(got.id, got);
		if (got && got.id !== r.id) show(got.id);
		else load();
	} catch (err) {
		put(head.trouble, troubleBox(err, { dismiss: () => put(head.trouble) }));
	}
}

// retry of what takes machines down asks again.
function retry(r, which) {
	if (!['shutdown', 'reboot', 'resync'].includes(r.op)) return act('retry', r, which);
	const type = which.length === 1 ? which[0].node : `${which.length} nodes`;
	return open({
		title: `${commanding.verbs[r.op]} again`,
		content: h('div', { class: 'names' }, which.map((n) => h('span', { class: 'inline' }, h('code', {}, n.node), state(n.state)))),
		action: { danger: true, label: `${commanding.verbs[r.op]} ${commanding.detail(r)} again`, type, run: () => act('retry', r, which) },
	});
}

const noCommands = hold('operator', 'A command', $('compose'));
if (noCommands) $('split').before(noCommands);

// A new command, to nodes by name, by label, or to all.
$('compose').addEventListener('click', () => {
	const op = h('select', {}, ['ping', 'info', 'label', 'wallpaper-restore', 'resync', 'reboot', 'shutdown'].map((o) => h('option', { value: o }, o === 'wallpaper-restore' ? 'Restore wallpaper' : commanding.verbs[o])));
	const kind = h('select', {}, h('option', { value: 'select' }, 'nodes with labels'), h('option', { value: 'nodes' }, 'nodes by name'), h('option', { value: 'all' }, 'all nodes'));
	const target = h('input', { class: 'mono', placeholder: 'room=lab1,os=linux', autocomplete: 'off', spellcheck: 'false' });
	const field = h('label', { class: 'field' }, h('span', {}, 'Which'), target);
	kind.addEventListener('change', () => {
		field.hidden = kind.value === 'all';
		target.placeholder = kind.value === 'nodes' ? 'snap1, snap2' : 'room=lab1,os=linux';
	});
	open({
		title: 'New command', focus: op,
		content: [h('div', { class: 'row' }, h('label', { class: 'field' }, h('span', {}, 'Command'), op), h('label', { class: 'field' }, h('span', {}, 'To'), kind), field),
			h('p', { class: 'quiet small' }, 'Next you see whom it reaches. Wallpapers and files are sent from ', h('a', { href: '/files' }, 'Files & wallpaper'), '.')],
		action: { label: 'Next', run: () => reach(kind.value, target.value) },
	}).then((found) => found && give(op.value, found));
});

async function reach(kind, words) {
	const request = { op: 'ping', args: {} };
	if (kind === 'all') request.all = true;
	else if (kind === 'select') request.select = words;
	else request.nodes = words.split(/[\s,]+/).filter(Boolean);
	const answer = await api.post('commands/preview', request);
	if (answer.unknown?.length > 0) throw new Error(`There ${answer.unknown.length === 1 ? 'is no node' : 'are no nodes'} ${names(answer.unknown)}.`);
	const ids = new Set([...(answer.reached ?? []), ...(answer.away ?? []).map((n) => n.id)]);
	if (ids.size === 0) throw new Error('That is no node at all.');
	return nodes.filter((n) => ids.has(n.id));
}

function give(op, found) {
	const acts = { label: commanding.label, resync: commanding.resync, reboot: commanding.reboot, shutdown: commanding.shutdown, 'wallpaper-restore': commanding.restore };
	return (acts[op] ?? ((list) => harmless(op, list)))(found);
}

function harmless(op, list) {
	const plan = new commanding.Plan(list);
	return open({
		title: commanding.title(op === 'info' ? 'Ask for the facts of' : commanding.verbs[op], list),
		content: [commanding.whom(list), plan.element],
		action: { label: commanding.verbs[op], run: () => commanding.send({ op, nodes: list.map((n) => n.id), args: {}, ...plan.request() }) },
	});
}
