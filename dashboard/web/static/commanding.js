// Commands to nodes, from whatever page they are given. A dialog names whom it is for;
// the master makes a record; what became of it is shown only as the nodes say.

import { h, put, text, icon } from './dom.js';
import { post, id } from './api.js';
import { open, toast } from './dialog.js';
import { count, moment, names, number } from './format.js';
import { state } from './shell.js';

export const verbs = {
	ping: 'Ping', info: 'Ask for facts', shutdown: 'Shut down', reboot: 'Reboot', wallpaper: 'Set wallpaper', push: 'Push a file', fetch: 'Fetch a file',
	files: 'List files', logs: 'Fetch logs', label: 'Label', resync: 'Resync', abort: 'Abort',
};

// away says whether a command would not reach a node now.
export const away = (node) => node.state === 'offline' || node.state === 'stopped';

const idsOf = (nodes) => nodes.map((n) => n.id);

// send asks for a command and answers its record. The id makes it one command, however
// often the request is repeated.
export async function send(request) {
	const answer = await post('commands', { id: id(), by: 'panel', ...request });
	const record = answer.commands[0];
	toast(`${verbs[record.op] ?? record.op}: recorded for ${count(record.nodes.length, 'node')}.`, { name: 'commands', href: `/commands?id=${encodeURIComponent(record.id)}`, more: 'Follow' });
	return record;
}

// whom names the nodes of a dialog, and says who is away.
export function whom(nodes) {
	const gone = nodes.filter(away);
	return [
		h('div', { class: 'names', 'aria-label': 'For these nodes' }, nodes.map((n) => h('span', { class: 'inline' }, h('code', {}, n.id), state(n.state)))),
		gone.length > 0 && h('p', { class: 'note' }, icon('alert'), h('span', {}, `${names(idsOf(gone))} ${gone.length === 1 ? 'is' : 'are'} away. Below you choose what becomes of the command for ${gone.length === 1 ? 'it' : 'them'}.`)),
	];
}

// Plan is the part of every dialog that says what becomes of nodes that are away, and
// when and how many at a time.
export class Plan {
	#away;
	#hours = h('input', { type: 'number', min: '1', max: '2160', value: '24' });
	#at = h('input', { type: 'datetime-local' });
	#batch = h('input', { type: 'number', min: '0', placeholder: 'all' });
	#pause = h('input', { type: 'number', min: '0', value: '0' });

	constructor(nodes = [], policy = 'skip') {
		this.#away = h('select', {}, [['skip', 'skip it'], ['wait', 'wait a little'], ['queue', 'queue it until it returns']].map(([v, words]) => h('option', { value: v, selected: v === policy }, words)));
		const hours = h('label', { class: 'field' }, h('span', {}, 'Expires after, hours'), this.#hours);
		const show = () => { hours.hidden = this.#away.value !== 'queue'; };
		this.#away.addEventListener('change', show);
		show();
		this.element = h('details', { open: nodes.some(away) }, h('summary', {}, 'Nodes that are away, time and batches'),
			h('div', { class: 'row' },
				h('label', { class: 'field' }, h('span', {}, 'If a node is away'), this.#away), hours,
				h('label', { class: 'field' }, h('span', {}, 'Not before'), this.#at),
				h('label', { class: 'field' }, h('span', {}, 'Nodes at a time'), this.#batch),
				h('label', { class: 'field' }, h('span', {}, 'Pause between, seconds'), this.#pause)));
	}

	// request is its part of a CommandRequest.
	request() {
		const at = this.#at.value ? new Date(this.#at.value) : null;
		const from = at ?? new Date();
		return {
			away: this.#away.value,
			expires: this.#away.value === 'queue' ? new Date(from.getTime() + Number(this.#hours.value) * 3600e3).toISOString() : undefined,
			at: at?.toISOString(),
			batch: Number(this.#batch.value) || undefined,
			pause_ms: Number(this.#pause.value) * 1000 || undefined,
		};
	}
}

// title names one node, or counts several.
export const title = (verb, nodes) => `${verb} ${nodes.length === 1 ? nodes[0].id : count(nodes.length, 'node')}`;

// mustType is what has to be typed for what cannot be undone by a click: the name of
// the one node, or how many they are.
const mustType = (nodes) => (nodes.length === 1 ? nodes[0].id : `${number(nodes.length)} nodes`);

function option(name, value, label, hint, checked) {
	return h('label', { class: 'option' }, h('input', { type: 'radio', name, value, checked }), h('span', {}, label), h('small', {}, hint));
}

// shutdown asks which way, and sends it.
export function shutdown(nodes) {
	const plan = new Plan(nodes);
	const mode = h('fieldset', { class: 'options' }, h('legend', { class: 'visually-hidden' }, 'What is shut down'),
		option('mode', 'agent', 'The agent: snapdb on that node', 'It finishes what it applies, acknowledges it and ends. The machine stays on. Nobody can start it from here again.', true),
		option('mode', 'host', 'The host: the whole machine', 'It is powered off after the grace time.'));
	const power = powerFields(nodes);
	const host = () => mode.querySelector(':checked').value === 'host';
	const show = () => { power.element.hidden = !host(); };
	mode.addEventListener('change', show);
	show();
	return open({
		title: title('Shut down', nodes),
		content: [whom(nodes), mode, power.element, plan.element],
		action: {
			danger: true,
			label: () => (host() ? `Power off ${count(nodes.length, 'host')}` : `Stop ${count(nodes.length, 'agent')}`),
			type: () => (host() || nodes.length > 1 ? mustType(nodes) : ''),
			run: () => send({ op: 'shutdown', nodes: idsOf(nodes), args: host() ? { mode: 'host', ...power.args() } : { mode: 'agent' }, ...plan.request() }),
		},
	});
}

// reboot restarts machines.
export function reboot(nodes) {
	const plan = new Plan(nodes);
	const power = powerFields(nodes);
	return open({
		title: title('Reboot the host of', nodes),
		content: [whom(nodes), power.element, plan.element],
		action: {
			danger: true, label: `Reboot ${count(nodes.length, 'host')}`, type: mustType(nodes),
			run: () => send({ op: 'reboot', nodes: idsOf(nodes), args: power.args(), ...plan.request() }),
		},
	});
}

function powerFields(nodes) {
	const grace = h('input', { type: 'number', min: '0', max: '86400', value: '60' });
	const message = h('input', { maxlength: '200', placeholder: 'shown to who is logged in' });
	const refuse = nodes.filter((n) => n.status && !n.status.power);
	const element = h('div', { class: 'field' },
		h('div', { class: 'row' }, h('label', { class: 'field' }, h('span', {}, 'Grace, seconds'), grace), h('label', { class: 'field' }, h('span', {}, 'Message'), message)),
		refuse.length > 0 && h('p', { class: 'note' }, icon('alert'), h('span', {}, `${names(idsOf(refuse))} will refuse: started without `, h('code', {}, '--allow-power'), '.')));
	return { element, args: () => ({ grace_ms: Number(grace.value) * 1000, message: message.value || undefined }) };
}

// label sets and removes labels.
export function label(nodes) {
	const plan = new Plan(nodes, 'queue');
	const has = [...new Set(nodes.flatMap((n) => Object.keys(n.status?.labels ?? {})))].sort();
	const set = h('input', { class: 'mono', placeholder: 'room=lab1, floor=2', autocomplete: 'off', spellcheck: 'false' });
	const drop = h('fieldset', { class: 'field' }, h('legend', {}, 'Remove'), h('div', { class: 'spaced' }, has.map((key) => h('label', { class: 'inline' }, h('input', { type: 'checkbox', value: key }), h('code', {}, key)))));
	return open({
		title: title('Labels of', nodes), focus: set,
		content: [whom(nodes), h('label', { class: 'field' }, h('span', {}, 'Set, as key=value, separated by commas'), set), has.length > 0 && drop, plan.element],
		action: {
			label: 'Change labels',
			run: () => send({ op: 'label', nodes: idsOf(nodes), args: { set: pairs(set.value), remove: [...drop.querySelectorAll(':checked')].map((c) => c.value) }, ...plan.request() }),
		},
	});
}

function pairs(words) {
	const set = {};
	for (const part of words.split(',').map((p) => p.trim()).filter(Boolean)) {
		const at = part.indexOf('=');
		if (at < 1) throw new Error(`"${part}" is not key=value.`);
		set[part.slice(0, at).trim()] = part.slice(at + 1).trim();
	}
	return set;
}

// resync has copies made anew.
export function resync(nodes) {
	const plan = new Plan(nodes);
	return open({
		title: title('Resync', nodes),
		content: [h('p', {}, 'The copies of all databases are made anew from the master. Until they are there, these nodes answer from what they have, or not at all.'), whom(nodes), plan.element],
		action: { danger: true, label: `Resync ${count(nodes.length, 'node')}`, type: nodes.length > 1 ? mustType(nodes) : '', run: () => send({ op: 'resync', nodes: idsOf(nodes), args: {}, ...plan.request() }) },
	});
}

// ping needs no dialog: it changes nothing.
export function ping(nodes) {
	return send({ op: 'ping', nodes: idsOf(nodes), args: {} });
}

// restore brings the wallpaper back that was there before.
export function restore(nodes) {
	const plan = new Plan(nodes, 'queue');
	return open({
		title: title('Restore the wallpaper of', nodes),
		content: [h('p', {}, 'Every node shows again what it showed before the first wallpaper was set from here.'), whom(nodes), plan.element],
		action: { label: 'Restore', run: () => send({ op: 'wallpaper', nodes: idsOf(nodes), args: { restore: true }, ...plan.request() }) },
	});
}

// outcome says in a few words how a command stands over all its nodes.
export function outcome(record) {
	const tally = {};
	for (const n of record.nodes) tally[stateOf(n)] = (tally[stateOf(n)] ?? 0) + 1;
	return Object.entries(tally).sort(([a], [b]) => stages.indexOf(a) - stages.indexOf(b));
}

// stateOf is how a command stands on a node, as people read it: what failed because the
// node was away, and was never sent, was skipped.
export const stateOf = (n) => (n.state === 'failed' && moment(n.sent) === null ? 'skipped' : n.state);

export const stages = ['failed', 'skipped', 'timed_out', 'expired', 'cancelled', 'queued', 'sent', 'accepted', 'done'];

// showOutcome writes that into a cell.
export function showOutcome(cell, record) {
	const now = outcome(record);
	const key = now.map(([name, n]) => `${name} ${n}`).join(' ');
	if (cell.dataset.outcome === key) return;
	cell.dataset.outcome = key;
	const one = record.nodes.length === 1;
	put(cell, h('span', { class: 'spaced' }, now.map(([name, n]) => state(name, one ? name.replace('_', ' ') : `${n} ${name.replace('_', ' ')}`))));
}

// detail says what a command carries, for people.
export function detail(record) {
	const a = record.args ?? {};
	switch (record.op) {
	case 'shutdown':
		return a.mode ?? 'agent';
	case 'wallpaper':
		return a.restore ? 'restore' : (a.name ?? '');
	case 'push':
	case 'fetch':
		return a.name ?? '';
	case 'label':
		return [...Object.entries(a.set ?? {}).map(([k, v]) => `${k}=${v}`), ...(a.remove ?? []).map((k) => `−${k}`)].join(' ');
	case 'abort':
		return a.id ?? '';
	default:
		return '';
	}
}

// progressOf writes how far a node is with a file.
export function progressOf(cell, n, format) {
	text(cell, n.total > 0 && n.state === 'accepted' ? `${format(n.progress ?? 0)} of ${format(n.total)}` : (n.reason ?? ''));
}
