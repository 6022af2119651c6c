// Files to nodes: dropped here, kept once on the master, pulled and verified by every
// node, as wallpaper or into its folder; and what lies in a node's folder.

import { $, h, put, text, attr, button } from './dom.js';
import { start, showState } from './shell.js';
import { Table } from './table.js';
import { troubleBox } from './dialog.js';
import * as commanding from './commanding.js';
import { hold, may } from './may.js';
import * as api from './api.js';
import { age, bytes, count, dateTime } from './format.js';

const pictures = ['image/png', 'image/jpeg', 'image/webp'];
const MOST_WALLPAPER = 64e6;
const asked = new URLSearchParams(location.search);
const live = start({ topics: ['commands'] });
let nodes = [];
let file = null;
let preview = null; // URL of what is shown of it
let problem = '';
let sent = null; // id of the command whose outcome is shown
const plan = new commanding.Plan([], 'queue');
put($('plan'), plan.element, hold('operator', 'Sending a file, setting a wallpaper and looking into a folder', $('go'), $('restore'), $('folder-go'), $('file')));

const table = new Table({
	label: 'Nodes', key: (n) => n.id, sort: 'id', select: () => ready(),
	columns: [
		{ id: 'id', label: 'Node', data: true, first: true, value: (n) => n.id },
		{ id: 'state', label: 'State', value: (n) => n.state, show: (cell, n) => showState(cell, n.state) },
		{ id: 'seen', label: 'Last seen', value: (n) => n.last_seen, show: (cell, n) => text(cell, age(n.last_seen)) },
		{ id: 'labels', label: 'Labels', data: true, value: (n) => Object.entries(n.status?.labels ?? {}).map(([k, v]) => `${k}=${v}`).sort().join(' ') || null },
	],
});
const none = h('p', { class: 'nothing' }, 'No node has joined yet.');
put($('nodes'), table.element, none);
let first = true;

live.on('cluster', ({ cluster }) => {
	nodes = cluster.nodes ?? [];
	table.set(nodes);
	table.element.hidden = nodes.length === 0;
	none.hidden = nodes.length > 0;
	$('folder-node').hidden = $('folder-go').hidden = nodes.length === 0;
	ready();
	if (first && nodes.length > 0) table.choose((asked.get('nodes') ?? '').split(',').filter((id) => nodes.some((n) => n.id === id)));
	first = false;
	const key = nodes.map((n) => n.id).join('\n');
	if ($('folder-node').dataset.key === key) return;
	$('folder-node').dataset.key = key;
	const before = $('folder-node').value || asked.get('nodes');
	put($('folder-node'), nodes.map((n) => h('option', { value: n.id, selected: n.id === before }, n.id)));
});

// The file.
const drop = $('drop');
for (const type of ['dragenter', 'dragover']) drop.addEventListener(type, (e) => {
	e.preventDefault();
	drop.classList.add('over');
});
for (const type of ['dragleave', 'drop']) drop.addEventListener(type, () => drop.classList.remove('over'));
drop.addEventListener('drop', (e) => {
	e.preventDefault();
	if (e.dataTransfer.files.length > 0) take(e.dataTransfer.files[0]);
});
$('file').addEventListener('change', () => $('file').files.length > 0 && take($('file').files[0]));
if (asked.get('do') === 'push') document.querySelector('[value="push"]').checked = true;
const wallpaper = () => document.querySelector('[name="what"]:checked').value === 'wallpaper';
$('what').addEventListener('change', () => ready());

async function take(chosen) {
	file = chosen;
	if (preview) URL.revokeObjectURL(preview);
	preview = null;
	put($('preview'));
	put($('trouble'));
	$('as').value = file.name;
	const lines = [bytes(file.size), file.type || 'unknown type'];
	problem = '';
	if (pictures.includes(file.type)) {
		preview = URL.createObjectURL(file);
		const img = h('img', { src: preview, alt: `Preview of ${file.name}` });
		try {
			await img.decode();
			put($('preview'), img);
			lines.unshift(`${img.naturalWidth} × ${img.naturalHeight}`);
			if (file.size > MOST_WALLPAPER) problem = `It has more than the ${bytes(MOST_WALLPAPER)} that a wallpaper may have.`;
		} catch {
			problem = 'It is damaged: this browser cannot show it.';
		}
	} else {
		problem = 'It is no PNG, JPEG or WebP, so it cannot become wallpaper.';
		document.querySelector('[value="push"]').checked = true;
	}
	put($('words'), h('strong', {}, file.name), ` · ${lines.join(' · ')}`, problem && h('span', { class: 'bad' }, ` ${problem}`));
	ready();
}

function ready() {
	const chosen = table.chosen.size;
	text($('chosen'), chosen > 0 ? `${count(chosen, 'node')} chosen` : nodes.length > 0 ? 'choose at least one' : '');
	$('as-field').hidden = wallpaper();
	text($('go').querySelector('span'), `${wallpaper() ? 'Set wallpaper' : 'Push'}${chosen > 0 ? ` ${wallpaper() ? 'of' : 'to'} ${count(chosen, 'node')}` : ''}`);
	$('go').disabled = !file || chosen === 0 || (wallpaper() && problem !== '') || !may('operator');
}
ready();

$('go').addEventListener('click', async () => {
	const word = $('go').querySelector('span');
	$('go').disabled = true;
	put($('trouble'));
	try {
		const kept = await api.upload(file, (done, all) => text(word, `Uploading: ${Math.round((100 * done) / all)} %`));
		const args = { digest: kept.digest, size: kept.size, name: wallpaper() ? file.name : $('as').value.trim() || file.name };
		const record = await commanding.send({ op: wallpaper() ? 'wallpaper' : 'push', nodes: [...table.chosen], args, ...plan.request() });
		follow(record);
	} catch (err) {
		put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) }));
	}
	ready();
});

$('restore').addEventListener('click', async () => {
	const chosen = nodes.filter((n) => table.chosen.has(n.id));
	if (chosen.length === 0) {
		put($('trouble'), troubleBox(new Error('Choose the nodes first whose wallpaper is to be restored.'), { dismiss: () => put($('trouble')) }));
		return;
	}
	const record = await commanding.restore(chosen);
	if (!record) return;
	follow(record);
});

// What became of it, node by node, as they say.
const outcome = new Table({
	label: 'Outcome on every node', key: (n) => n.node, sort: 'node',
	columns: [
		{ id: 'node', label: 'Node', data: true, first: true, value: (n) => n.node },
		{ id: 'state', label: 'State', value: (n) => n.state, show: (cell, n) => showState(cell, commanding.stateOf(n)) },
		{ id: 'what', label: 'What it said', wide: true, show: (cell, n) => commanding.progressOf(cell, n, bytes) },
	],
});
put($('outcome-table'), outcome.element);

// follow shows what becomes of a command from here on.
function follow(record) {
	sent = record.id;
	showOutcome(live.newest(record));
}

function showOutcome(record) {
	$('outcome').hidden = false;
	put($('outcome-title'), `${commanding.verbs[record.op]} `, h('span', { class: 'mono' }, commanding.detail(record)));
	attr($('outcome-link'), 'href', `/commands?id=${encodeURIComponent(record.id)}`);
	outcome.set(record.nodes);
}

// A node's folder.
const waiting = new Map(); // id of a command → what to do when it has ended
live.on('command', ({ command }) => {
	if (command.id === sent) showOutcome(command);
	ended(command);
});

function ended(command) {
	const then = waiting.get(command.id);
	const n = command.nodes[0];
	if (!then || ['queued', 'sent', 'accepted'].includes(n?.state)) return;
	waiting.delete(command.id);
	then(command);
}

// told gives one node a command and waits for what it says.
async function told(node, op, args) {
	const record = await commanding.send({ op, nodes: [node], args });
	const done = new Promise((resolve) => waiting.set(record.id, resolve));
	ended(live.newest(record));
	await done;
	const whole = (await api.get(`commands/${encodeURIComponent(record.id)}`)).commands[0].nodes[0];
	if (whole.state !== 'done') throw new api.Refusal(whole.state, whole.reason || `${node} did not do it`);
	return whole.output;
}

$('folder-go').addEventListener('click', async () => {
	const node = $('folder-node').value;
	if (!node) return;
	put($('folder'), h('p', { class: 'nothing' }, `Asking ${node}…`));
	try {
		const list = (await told(node, 'files', {})) ?? [];
		if (list.length === 0) put($('folder'), h('p', { class: 'nothing' }, `The folder of ${node} is empty.`));
		else put($('folder'), folder(node, list));
	} catch (err) {
		put($('folder'), troubleBox(err));
	}
});

function folder(node, list) {
	const files = new Table({
		label: `Files of ${node}`, key: (f) => f.name, sort: 'name',
		columns: [
			{ id: 'name', label: 'File', data: true, first: true, value: (f) => f.name },
			{ id: 'size', label: 'Size', num: true, value: (f) => f.size, show: (cell, f) => text(cell, bytes(f.size)) },
			{ id: 'modified', label: 'Changed', value: (f) => f.modified, show: (cell, f) => text(cell, dateTime(f.modified)) },
			{ id: 'get', label: 'Actions', show: (cell, f) => { if (!cell.firstChild) cell.append(button('Fetch', { name: 'download', 'aria-label': `Fetch ${f.name}`, onclick: (e) => fetchFile(node, f, e.currentTarget) })); } },
		],
	});
	files.set(list);
	return files.element;
}

async function fetchFile(node, f, b) {
	b.disabled = true;
	try {
		const info = await told(node, 'fetch', { name: f.name });
		b.replaceWith(h('a', { class: 'button', href: `/api/v1/files/${encodeURIComponent(info.digest)}?name=${encodeURIComponent(f.name)}`, download: f.name }, 'Save'));
	} catch (err) {
		b.disabled = false;
		$('folder').prepend(troubleBox(err));
	}
}
