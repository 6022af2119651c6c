// Replication: the head of the log, how far every node has come in every database, who
// is in sync, and how all that went in the last quarter of an hour.

import { $, h, put, text, fact } from './dom.js';
import { start, showState } from './shell.js';
import { Table } from './table.js';
import { Chart, COLOURS } from './chart.js';
import { History } from './history.js';
import { troubleBox } from './dialog.js';
import { age, bytes, count, number, rate, rule, span } from './format.js';
import { why } from './verified.js';

const live = start();

const facts = { head: fact('Log head'), term: fact('Term'), writes: fact('Writes'), log: fact('Log on disk'), first: fact('Log from'), snaps: fact('Snapshots'), sync: fact('In sync'), ack: fact('Acknowledged when') };
put($('facts'), Object.values(facts).map((f) => f.element));

const table = new Table({
	label: 'Position of every node in every database', key: (r) => `${r.db}\n${r.node}`, sort: 'db',
	columns: [
		{ id: 'db', label: 'Database', data: true, value: (r) => r.db },
		{ id: 'node', label: 'Node', data: true, value: (r) => r.node, show: (cell, r) => { if (!cell.firstChild) cell.append(r.node === 'master' ? r.node : h('a', { href: `/nodes/${encodeURIComponent(r.node)}` }, r.node)); } },
		{ id: 'state', label: 'State', value: (r) => r.state, show: (cell, r) => showState(cell, r.state, r.reason) },
		{ id: 'sync', label: 'In sync', value: (r) => (r.sync ? 'yes' : 'no') },
		{ id: 'position', label: 'Position', num: true, value: (r) => r.position, show: (cell, r) => text(cell, number(r.position)) },
		{ id: 'behind', label: 'Behind', num: true, value: (r) => r.behind, show: (cell, r) => text(cell, number(r.behind)) },
		{ id: 'equal', label: 'Compared', value: (r) => r.verified?.state ?? '', show: showCompared },
		{ id: 'lag', label: 'Lag', num: true, value: (r) => r.lag, show: (cell, r) => text(cell, r.lag > 0 ? span(r.lag) : '–') },
	],
});
function showCompared(cell, r) {
	put(cell, r.verified ? `${r.verified.state}, ${age(r.at)}` : '–', (r.verified?.tables?.length > 0 || r.verified?.reason) && h('div', { class: 'reason small quiet' }, why(r.verified)));
	cell.classList.toggle('bad', r.verified?.state === 'different');
}

const none = h('p', { class: 'nothing' }, 'There is no database yet.');
put($('table'), table.element, none);

const states = new Map(); // of the nodes, by id

live.on('cluster', ({ cluster }) => {
	const nodes = cluster.nodes ?? [];
	for (const n of nodes) states.set(n.id, n.state);
	const heads = Object.entries(cluster.heads ?? {}).filter(([db]) => !db.startsWith('_'));
	text(facts.head.value, number(cluster.cursor));
	text(facts.term.value, number(cluster.term));
	put(facts.log.value, bytes(cluster.log_bytes), cluster.log_max > 0 && h('small', {}, ` of ${bytes(cluster.log_max)}`));
	text(facts.first.value, number(cluster.log_first));
	put(facts.snaps.value, bytes(cluster.snapshot_bytes), h('small', {}, ` of ${count(Object.keys(cluster.snapshots ?? {}).length, 'database')}`));
	text(facts.ack.value, rule(cluster.ack));
	const inSync = nodes.filter((n) => heads.every(([db]) => n.in_sync?.includes(db))).length;
	put(facts.sync.value, String(inSync), h('small', {}, ` of ${count(nodes.length, 'node')}`));
	const rows = [];
	for (const [db, head] of heads) {
		const stopped = cluster.stopped?.[db];
		rows.push({ db, node: 'master', state: stopped ? 'stopped' : 'online', reason: stopped, sync: !stopped, position: head.position, behind: 0, lag: 0 });
		for (const n of nodes) rows.push(row(n, db, head));
	}
	for (const r of rows) {
		const v = cluster.verified?.[r.db];
		r.verified = v?.nodes[r.node];
		r.at = v?.at;
	}
	table.set(rows);
	table.element.hidden = rows.length === 0;
	none.hidden = rows.length > 0;
	const behind = rows.filter((r) => r.behind > 0).length;
	text($('tally'), rows.length === 0 ? '' : behind === 0 ? 'all copies are at the head' : `${count(behind, 'copy', 'copies')} behind`);
});

function row(n, db, head) {
	const d = n.status?.databases?.[db];
	const away = n.state === 'offline' || n.state === 'stopped';
	const position = n.acked?.[db] ?? d?.position ?? (away ? null : 0); // null: it has not said since the master started
	const behind = position === null ? null : Math.max(0, head.position - position);
	return { db, node: n.id, state: away ? n.state : (d?.state ?? 'joining'), reason: d?.reason ?? n.reason, sync: n.in_sync?.includes(db), position, behind, lag: behind > 0 ? n.lag_ms : 0 };
}

const charts = { writes: new Chart({ label: 'Writes per second' }), ack: new Chart({ label: 'Time to the acknowledgement' }), behind: new Chart({ label: 'Positions behind the head' }), bytes: new Chart({ label: 'Log on disk' }) };
for (const [name, chart] of Object.entries(charts)) put($(name), chart.element);
const ms = (v) => (v >= 1000 ? span(v) : `${rate(v)} ms`);

const past = new History(live, { show: (samples, window) => {
	const common = { kind: 'line', x: 'time', span: window, gap: 5000 };
	const last = samples.at(-1);
	put(facts.writes.value, rate(last?.writes_s), h('small', {}, ' /s'));
	charts.writes.show({ ...common, least: 4, series: [{ name: 'writes/s', points: samples.map((s) => [s.t, s.writes_s ?? null]) }] });
	charts.bytes.show({ ...common, least: 1000, format: bytes, series: [{ name: 'log', points: samples.map((s) => [s.t, s.log_bytes ?? null]) }] });
	charts.ack.show({ ...common, named: true, least: 1, format: ms, series: perNode(samples, (n) => n.ack_ms || null) });
	charts.behind.show({ ...common, named: true, least: 4, series: perNode(samples, (n, s) => (n.away && !n.position ? null : Math.max(0, s.head - n.position))) });
} });
past.load().catch((err) => put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) })));

// perNode makes a line of every node; of many, those whose figures are the highest. While
// a node is away its line is broken and goes on with what was last known of it.
function perNode(samples, of) {
	const last = samples.at(-1);
	const figures = new Map();
	for (const s of samples) for (const id of Object.keys(s.nodes ?? {})) figures.set(id, -1);
	for (const [id, n] of Object.entries(last?.nodes ?? {})) figures.set(id, of(n, last) ?? -1);
	const shown = [...figures].sort(([, a], [, b]) => b - a).slice(0, COLOURS).map(([id]) => id).sort(new Intl.Collator('en', { numeric: true }).compare);
	return shown.map((id) => {
		const gone = last?.nodes?.[id]?.away;
		const line = (away) => samples.map((s) => [s.t, s.nodes?.[id] && Boolean(s.nodes[id].away) === away ? of(s.nodes[id], s) : null]);
		return { name: gone ? `${id} (${states.get(id) ?? 'away'})` : id, gone, points: line(false), away: line(true) };
	});
}
