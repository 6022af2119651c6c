// The first page: every node as it is now, and commands to those that are chosen.

import { $, h, put, text, attr, button, commandLine, fact } from './dom.js';
import { start, showState } from './shell.js';
import { Table } from './table.js';
import { open, troubleBox } from './dialog.js';
import * as commanding from './commanding.js';
import { hold, secured } from './may.js';
import { invite } from './invite.js';
import { age, bytes, count, moment, number, percent, rule, span } from './format.js';
import { hostLines, listed } from './host.js';

const live = start();
let cluster = null;

const table = new Table({
	label: 'Nodes', key: (n) => n.id, sort: 'id', select: (keys) => bulk(keys),
	columns: [
		{ id: 'id', label: 'Node', value: (n) => n.id, show: showID, first: true },
		{ id: 'state', label: 'State', value: (n) => n.state, show: (cell, n) => showState(cell, n.state, n.reason) },
		{ id: 'seen', label: 'Last seen', tight: true, value: (n) => moment(n.last_seen), show: (cell, n) => text(cell, age(n.last_seen)) },
		{ id: 'applied', label: 'Applied', num: true, value: applied, show: (cell, n) => text(cell, number(applied(n))) },
		{ id: 'behind', label: 'Behind', num: true, value: behind, show: showLag },
		{ id: 'cpu', label: 'CPU', num: true, value: cpu, show: (cell, n) => meter(cell, cpu(n)) },
		{ id: 'memory', label: 'Memory', num: true, value: (n) => memory(n), show: (cell, n) => meter(cell, memory(n)) },
		{ id: 'disk', label: 'Disk', num: true, value: (n) => disk(n), show: (cell, n) => meter(cell, disk(n)) },
		{ id: 'os', label: 'System', spare: true, value: (n) => system(n) },
		{ id: 'version', label: 'Version', data: true, spare: true, value: (n) => n.status?.version },
		{ id: 'labels', label: 'Labels', wide: true, value: (n) => words(n).join(' ') || null, show: showLabels },
	],
});

function showID(cell, n) {
	if (cell.firstChild) return;
	cell.append(h('a', { class: 'mono', href: `/nodes/${encodeURIComponent(n.id)}` }, n.id));
}

// applied is the position up to which a node has everything: what it says now and then,
// or more if it has acknowledged more since. Of a database at whose head it is it lacks
// nothing; of the others, nothing up to what it has acknowledged.
function applied(n) {
	let newest = 0, oldest = Infinity;
	for (const [db, head] of Object.entries(cluster?.heads ?? {})) {
		const acked = n.acked?.[db] ?? 0;
		newest = Math.max(newest, acked);
		if (acked < head.position) oldest = Math.min(oldest, acked);
	}
	return Math.max(n.status?.cursor ?? 0, oldest === Infinity ? newest : oldest) || null;
}

// behind is how many positions of the log a node lacks, at most: those of databases
// that it is not at the head of. What a node that is away has is not known before it has
// said so to this master.
function behind(n) {
	if (commanding.away(n) && !n.status) return null;
	let lacks = 0;
	for (const [db, head] of Object.entries(cluster?.heads ?? {})) {
		lacks = Math.max(lacks, head.position - (n.acked?.[db] ?? 0));
	}
	return lacks;
}

function showLag(cell, n) {
	const lacks = behind(n);
	put(cell, number(lacks), lacks > 0 && h('div', { class: 'small quiet' }, span(n.lag_ms)));
}

function meter(cell, value) {
	let bar = cell.querySelector('.meter');
	if (!bar) put(cell, h('span'), (bar = h('span', { class: 'meter', 'aria-hidden': 'true' }, h('i'))));
	text(cell.firstChild, percent(value));
	bar.hidden = value === undefined || value === null;
	bar.firstChild.style.width = `${Math.min(100, value ?? 0)}%`;
	attr(bar, 'class', `meter${value >= 95 ? ' full' : value >= 80 ? ' high' : ''}`);
}

// What a node that is away said last of its load is no news.
function cpu(n) {
	return commanding.away(n) ? null : n.status?.host?.cpu_percent;
}

const memory = (n) => (commanding.away(n) ? null : share(n.status?.host?.memory_used, n.status?.host?.memory_total));
const disk = (n) => (n.status?.host ? share(n.status.host.disk_total - n.status.host.disk_free, n.status.host.disk_total) : null);
const share = (part, whole) => (whole > 0 ? (100 * part) / whole : null);
const system = (n) => (n.status ? n.status.host?.platform || `${n.status.os} ${n.status.arch}` : null);
const words = (n) => Object.entries(n.status?.labels ?? {}).map(([k, v]) => `${k}=${v}`).sort();

function showLabels(cell, n) {
	const now = words(n);
	if (cell.dataset.labels === now.join('\n') && cell.firstChild) return;
	cell.dataset.labels = now.join('\n');
	attr(cell, 'class', now.length > 0 ? 'wide' : 'wide empty-cell');
	put(cell, now.length > 0 ? h('span', { class: 'labels' }, now.map((w) => h('button', { type: 'button', class: 'label', 'aria-label': `${w}: show only these`, onclick: () => search(w) }, w))) : '–');
}

function search(word) {
	$('filter').value = word;
	narrow();
}

// narrow shows the nodes that have all the words of the filter somewhere.
function narrow() {
	const wanted = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
	table.filter(wanted.length === 0 ? null : (n) => {
		const text = [n.id, n.state, system(n), n.status?.os, n.status?.arch, n.status?.version, n.status?.host?.hostname, ...words(n)].join(' ').toLowerCase();
		return wanted.every((w) => text.includes(w));
	});
	none.hidden = table.shown > 0 || wanted.length === 0;
}

const none = h('p', { class: 'nothing', hidden: true }, 'No node has these words in its id, state, system, version or labels.');
$('filter').addEventListener('input', narrow);

const order = ['online', 'lagging', 'joining', 'diverged', 'stopped', 'offline'];

function tally(nodes) {
	const n = {};
	for (const node of nodes) n[node.state] = (n[node.state] ?? 0) + 1;
	return order.filter((s) => n[s]).map((s) => `${n[s]} ${s}`).join(' · ');
}

// The master and its log, above the nodes.
const facts = { head: fact('Log head'), writes: fact('Writes'), log: fact('Log on disk'), dbs: fact('Databases'), host: fact('Master’s machine'), ack: fact('Acknowledged when'), up: fact('Master up for'), cluster: fact('Cluster') };
put($('cluster'), Object.values(facts).map((f) => f.element));
for (const f of [facts.up, facts.cluster]) f.element.classList.add('minor');

function showCluster() {
	const c = cluster;
	text(facts.head.value, number(c.cursor));
	put(facts.log.value, bytes(c.log_bytes), c.log_max > 0 && h('small', {}, ` of ${bytes(c.log_max)}`));
	text(facts.dbs.value, Object.keys(c.heads ?? {}).filter((name) => !name.startsWith('_')).length);
	text(facts.ack.value, rule(c.ack));
	showMaster(c.host);
	text(facts.up.value, span(Date.now() - moment(c.started)));
	text(facts.cluster.value, c.cluster.slice(0, 8));
	put($('machine'), listed([['cluster', c.cluster], ...hostLines(c)]));
}

// showMaster tells of the machine that the master runs on.
function showMaster(host) {
	const disk = host && share(host.disk_total - host.disk_free, host.disk_total);
	put(facts.host.value, host ? `CPU ${percent(host.cpu_percent)}` : '–', host && h('small', {}, ` memory ${percent(share(host.memory_used, host.memory_total))} · disk ${percent(disk)}`));
}

live.on('sample', ({ sample }) => put(facts.writes.value, number(Math.round(sample.writes_s ?? 0)), h('small', {}, ' /s')));

// In a secured cluster nodes come by invitation.
function inviteFirst() {
	const b = button('Invite a node…', { name: 'plus', kind: 'main-action', onclick: () => invite() });
	return [b, hold('admin', 'Inviting a node', b)];
}

// What to do when nobody has joined yet.
function joinCommand(id) {
	return commandLine(`snapdb slave --nats ${document.body.dataset.nats} --id ${id} --data ${id}`);
}

const empty = h('div', { class: 'scroll', hidden: true }, h('div', { class: 'empty' },
	h('h2', {}, 'No node has joined yet'),
	h('p', {}, secured ? 'Nodes come by invitation. A new one takes a copy of every database, follows the log, and shows up here within a second.' : 'Start one with this command, on this machine or on any other that reaches the address. It takes a copy of every database, follows the log, and shows up here within a second.'),
	secured ? inviteFirst() : joinCommand('snap1')));
put($('list'), empty, table.element, none);
table.element.hidden = true;

function nextID() {
	const taken = new Set((cluster?.nodes ?? []).map((n) => n.id));
	for (let i = 1; ; i++) if (!taken.has(`snap${i}`)) return `snap${i}`;
}

$('join').addEventListener('click', () => (secured ? invite() : open({
	title: 'Add a node', cancel: 'Close', wide: true,
	content: [h('p', {}, 'Run this where the node is to live. Every node needs an id of its own.'), joinCommand(nextID())],
})));
const noInvite = hold('admin', 'Adding a node', $('join'));
if (noInvite) $('tools').append(noInvite);

live.on('cluster', (message) => {
	cluster = message.cluster;
	const nodes = cluster.nodes ?? [];
	empty.hidden = nodes.length > 0;
	table.element.hidden = nodes.length === 0;
	$('tools').hidden = $('legend').hidden = nodes.length === 0;
	table.set(nodes);
	text($('tally'), tally(nodes));
	showCluster();
	narrow();
});
setInterval(() => {
	if (!cluster) return;
	table.refresh();
	showCluster();
}, 1000);

// The bar of commands to those that are chosen.
const actions = [
	['Ping', 'target', commanding.ping], ['Labels…', 'tag', commanding.label], ['Wallpaper…', 'files', (nodes) => go('/files', nodes)],
	['Push a file…', 'upload', (nodes) => go('/files?do=push', nodes)], ['Resync…', 'restart', commanding.resync],
	['Reboot…', 'restart', commanding.reboot, 'danger'], ['Shut down…', 'power', commanding.shutdown, 'danger'],
].map(([label, name, act, kind]) => button(label, { name, kind, onclick: () => give(act) }));
const chosenWord = h('strong', { 'aria-live': 'polite' });
const trouble = h('div');
$('bulk').after(trouble);
put($('bulk'), chosenWord, actions, button('Clear', { kind: 'plain', onclick: () => table.choose([]) }), hold('operator', 'A command to nodes', actions));

function bulk(keys) {
	$('bulk').hidden = keys.length === 0;
	text(chosenWord, `${count(keys.length, 'node')} chosen`);
}

async function give(act) {
	const nodes = (cluster?.nodes ?? []).filter((n) => table.chosen.has(n.id));
	put(trouble);
	try {
		await act(nodes);
	} catch (err) {
		put(trouble, troubleBox(err, { dismiss: () => put(trouble) }));
	}
}

function go(path, nodes) {
	location.href = `${path}${path.includes('?') ? '&' : '?'}nodes=${nodes.map((n) => encodeURIComponent(n.id)).join(',')}`;
}
