// The invitation of nodes to a secured cluster: one line, shown once, to be pasted where
// the node is to live.

import { h, put, icon, commandLine } from './dom.js';
import { post } from './api.js';
import { open } from './dialog.js';
import { dateTime } from './format.js';

// invite asks for whom, and shows the line. It returns a promise of whether there is an
// invitation.
export async function invite() {
	const labels = h('input', { class: 'mono', placeholder: 'room=lab1, floor=2', autocomplete: 'off', spellcheck: 'false' });
	const uses = h('input', { type: 'number', min: '1', max: '10000', value: '1' });
	const life = h('select', {}, [['1', '1 hour'], ['24', '1 day'], ['168', '1 week']].map(([v, words]) => h('option', { value: v }, words)));
	const node = h('input', { class: 'mono', placeholder: 'any', autocomplete: 'off', spellcheck: 'false' });
	const made = await open({
		title: 'Invite a node', focus: labels,
		content: [h('div', { class: 'row' },
			h('label', { class: 'field' }, h('span', {}, 'Nodes that may come with it'), uses),
			h('label', { class: 'field' }, h('span', {}, 'Good for'), life)),
		h('label', { class: 'field' }, h('span', {}, 'Labels they get, as key=value'), labels),
		h('label', { class: 'field' }, h('span', {}, 'Only as this node'), node, h('small', {}, 'Of a node that is enrolled already, it lets a machine in its place.'))],
		action: { label: 'Invite', run: () => post('access/invitations', {
			labels: pairs(labels.value), uses: Number(uses.value) || 1, node: node.value.trim() || undefined,
			expires: new Date(Date.now() + Number(life.value) * 3600e3).toISOString(),
		}) },
	});
	if (!made) return false;
	await open({
		title: 'Start the node with this', cancel: 'Done', wide: true,
		content: [h('p', {}, 'Paste this line on the machine where the node is to live.'), commandLine(line(made.secret, node.value.trim())),
			h('p', { class: 'note' }, icon('alert'), h('span', {}, `It is shown this once, and good until ${dateTime(made.expires)}. Whoever has it can let a node in.`))],
	});
	return true;
}

function pairs(words) {
	const all = words.split(',').map((p) => p.trim()).filter(Boolean).map((p) => {
		const at = p.indexOf('=');
		if (at < 1) throw new Error(`"${p}" is not key=value.`);
		return [p.slice(0, at).trim(), p.slice(at + 1).trim()];
	});
	return all.length > 0 ? Object.fromEntries(all) : undefined;
}

// line names the master as other machines reach it: if it listens everywhere, as this page
// was reached.
function line(token, node) {
	const at = new URL(document.body.dataset.nats.replace(/^\w+:/, 'http:'));
	const host = ['0.0.0.0', '[::]'].includes(at.hostname) ? location.hostname : at.hostname;
	return `snapdb slave --nats tls://${host}:${at.port || 4222}${node ? ` --id ${node}` : ''} --token ${token}`;
}
