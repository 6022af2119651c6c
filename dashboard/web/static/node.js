// One node: how it is, its last quarter of an hour, its databases, commands and log.

import { $, h, put, text, button, fact } from './dom.js';
import { start, showState } from './shell.js';
import { Table } from './table.js';
import { Chart } from './chart.js';
import { LogList } from './loglist.js';
import { History } from './history.js';
import { hostLines, listed } from './host.js';
import { troubleBox } from './dialog.js';
import * as commanding from './commanding.js';
import { hold, may } from './may.js';
import { age, bytes, dateTime, moment, number, percent, rate, span } from './format.js';

const id = document.body.dataset.node;
const live = start({ topics: ['commands', 'logs'], node: id });
let node = null;

// What is above: state and position.
const facts = { seen: fact('Last seen'), applied: fact('Applied'), lag: fact('Lag'), sync: fact('In sync for'), up: fact('Process up for'), version: fact('Version'), labels: fact('Labels') };
put($('facts'), Object.values(facts).map((f) => f.element));

function showFacts() {
	if (!node) return;
	const s = node.status;
	showState($('state'), node.state);
	put(facts.seen.value, age(node.last_seen), moment(node.last_seen) !== null && h('small', {}, ` ${dateTime(node.last_seen)}`));
	text(facts.applied.value, number(s?.cursor));
	text(facts.lag.value, node.lag_ms > 0 ? span(node.lag_ms) : 'none');
	const dbs = (node.in_sync ?? []).filter((db) => !db.startsWith('_'));
	text(facts.sync.value, dbs.length > 0 ? dbs.join(', ') : 'nothing');
	text(facts.up.value, s && !commanding.away(node) ? span(Date.now() - moment(s.started)) : '–');
	text(facts.version.value, s?.version ?? '–');
	text(facts.labels.value, Object.entries(s?.labels ?? {}).map(([k, v]) => `${k}=${v}`).sort().join('  ') || 'none');
	showReason();
}

let reason = null;
function showReason() {
	const ill = Object.entries(node.status?.databases ?? {}).filter(([, d]) => d.reason).map(([db, d]) => `${db}: ${d.reason}`);
	const now = [node.reason, ...ill.filter((words) => !node.reason?.includes(words))].filter(Boolean).join('\n');
	if (now === reason) return;
	reason = now;
	put($('trouble'), now && troubleBox({ code: node.state, message: now }));
}

const databases = new Table({
	label: 'Databases of this node', key: (d) => d.name, sort: 'name',
	columns: [
		{ id: 'name', label: 'Database', data: true, value: (d) => d.name, show: (cell, d) => { if (!cell.firstChild) cell.append(h('a', { href: `/databases?db=${encodeURIComponent(d.name)}` }, d.name)); } },
		{ id: 'state', label: 'State', value: (d) => d.state, show: (cell, d) => showState(cell, d.state, d.reason) },
		{ id: 'position', label: 'Position', num: true, value: (d) => d.position, show: (cell, d) => text(cell, number(d.position)) },
		{ id: 'behind', label: 'Behind', num: true, value: (d) => d.behind, show: (cell, d) => text(cell, number(d.behind)) },
		{ id: 'sync', label: 'In sync', value: (d) => (d.sync ? 'yes' : 'no') },
	],
});
const noDatabases = h('p', { class: 'nothing' }, 'It has no database.');
put($('databases'), databases.element, noDatabases);

function showDatabases(heads) {
	const rows = Object.entries(node.status?.databases ?? {}).filter(([name]) => !name.startsWith('_')).map(([name, d]) => ({
		name, ...d, behind: Math.max(0, (heads[name]?.position ?? d.head) - Math.max(d.position, node.acked?.[name] ?? 0)), sync: node.in_sync?.includes(name),
	}));
	databases.set(rows);
	databases.element.hidden = rows.length === 0;
	noDatabases.hidden = rows.length > 0;
	text(noDatabases, node.status ? 'It has no database.' : 'It has not said.');
}

function showHost() {
	const s = node.status ?? undefined;
	const lines = [...hostLines(s), ['host power', s && (s.power ? 'allowed' : 'not allowed')]];
	const key = lines.map((l) => l.join(' ')).join('\n');
	if ($('host').dataset.key === key) return;
	$('host').dataset.key = key;
	put($('host'), s ? listed(lines) : h('dd', { class: 'quiet' }, 'It has not said.'));
}

// Its last quarter of an hour.
const charts = {
	cpu: { chart: new Chart({ label: 'CPU of the host', height: 120 }), of: (n) => n.cpu, format: percent, least: 10 },
	rss: { chart: new Chart({ label: 'Memory of the process', height: 120 }), of: (n) => n.rss, format: bytes, least: 1e6 },
	lag: { chart: new Chart({ label: 'Lag', height: 120 }), of: (n) => n.lag_ms, format: span, least: 10 },
	ack: { chart: new Chart({ label: 'Time to the acknowledgement', height: 120 }), of: (n) => n.ack_ms || null, format: (v) => (v >= 1000 ? span(v) : `${rate(v)} ms`), least: 1 },
};
for (const [name, c] of Object.entries(charts)) put($(name), c.chart.element);

const there = (n) => n && !n.away;

const past = new History(live, { node: id, show: (samples, window) => {
	for (const [name, c] of Object.entries(charts)) {
		const points = samples.map((s) => [s.t, there(s.nodes?.[id]) ? (c.of(s.nodes[id]) ?? null) : null]);
		c.chart.show({ kind: 'line', x: 'time', span: window, least: c.least, format: c.format, gap: 5000, series: [{ name: id, points }] });
		const last = points.at(-1)?.[1];
		text($(`${name}-now`), last === null || last === undefined ? '' : c.format(last));
	}
} });
past.load().catch((err) => err.code !== 'not_found' && put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) }))); // the page says that by itself

// Its commands.
const records = new Map();
const commands = new Table({
	label: 'A command to this node', key: (r) => r.id, sort: 'created', down: true, open: (r) => { location.href = `/commands?id=${encodeURIComponent(r.id)}`; },
	columns: [
		{ id: 'op', label: 'Command', value: (r) => r.op, wide: true, show: (cell, r) => { if (!cell.firstChild) cell.append(h('a', { href: `/commands?id=${encodeURIComponent(r.id)}` }, commanding.verbs[r.op] ?? r.op), ' ', h('span', { class: 'mono quiet' }, commanding.detail(r))); } },
		{ id: 'state', label: 'State', value: (r) => commanding.stateOf(mine(r)), show: (cell, r) => showState(cell, commanding.stateOf(mine(r))) },
		{ id: 'reason', label: 'Reason', value: (r) => mine(r)?.reason || null },
		{ id: 'by', label: 'By', value: (r) => r.by || null },
		{ id: 'created', label: 'Asked', value: (r) => moment(r.created), show: (cell, r) => text(cell, dateTime(r.created)) },
	],
});
const noCommands = h('p', { class: 'nothing' }, 'It has not been told to do anything.');
put($('commands'), commands.element, noCommands);
const mine = (r) => r.nodes.find((n) => n.node === id);

function showCommands() {
	const rows = [...records.values()].filter(mine).sort((a, b) => moment(b.created) - moment(a.created)).slice(0, 20);
	commands.set(rows);
	commands.element.hidden = rows.length === 0;
	noCommands.hidden = rows.length > 0;
}
showCommands();
live.on('command', ({ command }) => {
	records.set(command.id, command);
	showCommands();
});

// Its log.
const log = new LogList(live, { one: true });
put($('log-tools'), log.tools);
put($('log'), log.element);

// What it can be told.
const acts = [
	['Ping', 'target', commanding.ping], ['Labels…', 'tag', commanding.label],
	['Files…', 'files', () => { location.href = `/files?do=push&nodes=${encodeURIComponent(id)}`; }], ['Resync…', 'restart', commanding.resync],
	['Reboot…', 'restart', commanding.reboot, 'danger'], ['Shut down…', 'power', commanding.shutdown, 'danger'],
].map(([label, name, act, kind]) => button(label, { name, kind, disabled: true, onclick: () => give(act) }));
put($('actions'), acts, hold('operator', 'A command to this node', acts));

async function give(act) {
	try {
		await act([node]);
	} catch (err) {
		put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) }));
	}
}

live.on('cluster', ({ cluster }) => {
	node = (cluster.nodes ?? []).find((n) => n.id === id) ?? null;
	for (const b of acts) b.disabled = node === null || !may('operator');
	$('unknown').hidden = node !== null;
	$('actions').hidden = node === null;
	$('known').hidden = node === null;
	if (!node) return;
	showFacts();
	showDatabases(cluster.heads ?? {});
	showHost();
});
setInterval(showFacts, 1000);
