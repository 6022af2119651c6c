// Who may do what: users, API tokens, web sessions, and the nodes that were invited.

import { $, h, put, text, icon, button, copy } from './dom.js';
import { start } from './shell.js';
import { Table } from './table.js';
import { open, toast, troubleBox } from './dialog.js';
import { get, post, remove } from './api.js';
import { age, count, dateTime, moment } from './format.js';
import { held, hold, may, me } from './may.js';
import { invite } from './invite.js';

start();
const admin = may('admin');
const whose = admin ? '?user=*' : '';
const fail = (err) => put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) }));

// A section is a table of what there is, read again after every change.
function section(name, path, field, columns, { none, tally, key = (r) => r.id } = {}) {
	const table = new Table({ label: $(name).querySelector('h2').textContent, key, columns, sort: columns[0].id });
	const empty = h('p', { class: 'nothing', hidden: true }, none);
	put($(`${name}-list`), table.element, empty);
	const load = async () => {
		try {
			const rows = (await get(path))[field];
			table.set(rows);
			table.element.hidden = rows.length === 0;
			empty.hidden = rows.length > 0;
			if (tally) text($('tally'), count(rows.length, tally));
		} catch (err) {
			fail(err);
		}
	};
	load();
	return load;
}

const when = (field) => ({ value: (r) => moment(r[field]), show: (cell, r) => text(cell, moment(r[field]) === null ? 'never' : age(r[field])), tight: true });
const until = { value: (r) => moment(r.expires) ?? Infinity, show: (cell, r) => text(cell, moment(r.expires) === null ? 'never' : dateTime(r.expires)), tight: true };
const databases = { id: 'databases', label: 'Databases', data: true, value: (r) => (r.databases === null ? 'all' : r.databases.join(', ') || 'none') };

// action is a cell with buttons, made once.
const actions = (make) => ({ id: 'actions', label: 'Actions', wide: true, show: (cell, r) => { if (!cell.firstChild) put(cell, h('div', { class: 'cell-actions' }, make(r))); } });

// end asks before something ends that somebody uses.
function end(title, words, label, path, load, type = '') {
	return open({ title, content: h('p', {}, words), action: { label, danger: true, type, run: async () => {
		await remove(path);
		await load();
	} } });
}

// once shows a secret, this once.
function once(title, words, secret) {
	const b = button('Copy', { name: 'copy', onclick: () => copy(secret, b) });
	return open({
		title, cancel: 'Done', wide: secret.length > 40,
		content: [h('p', {}, words), h('div', { class: 'command-line' }, h('code', { tabindex: '0', id: 'secret' }, secret), b),
			h('p', { class: 'note' }, icon('alert'), h('span', {}, 'It is shown this once: nobody can read it again.'))],
	});
}

// Users, for admins.
const roles = { viewer: 'reads', writer: 'and changes data', operator: 'and commands nodes', admin: 'and looks after users, nodes, and drops databases' };

function rightsFields(u) {
	const role = h('select', {}, Object.keys(roles).map((r) => h('option', { value: r, selected: r === u.role }, r)));
	const hint = h('small');
	const dbs = h('input', { class: 'mono', value: u.databases?.join(', ') ?? '', placeholder: 'all', autocomplete: 'off', spellcheck: 'false' });
	const labels = h('input', { class: 'mono', value: u.labels ?? '', placeholder: 'all', autocomplete: 'off', spellcheck: 'false' });
	const limits = h('div', { class: 'row' }, h('label', { class: 'field' }, h('span', {}, 'Databases, with commas'), dbs), h('label', { class: 'field' }, h('span', {}, 'Nodes that may be commanded, by label'), labels));
	const show = () => {
		text(hint, `${role.value}: ${Object.keys(roles).slice(0, Object.keys(roles).indexOf(role.value) + 1).map((r) => roles[r]).join(', ')}`);
		limits.hidden = role.value === 'admin';
	};
	role.addEventListener('change', show);
	show();
	return {
		fields: [h('label', { class: 'field' }, h('span', {}, 'Role'), role, hint), limits],
		rights: () => {
			if (role.value === 'admin') return { role: 'admin' };
			const list = dbs.value.split(/[\s,]+/).filter(Boolean);
			return { role: role.value, databases: list.length > 0 ? list : undefined, labels: labels.value.trim() || undefined };
		},
	};
}

function users() {
	const load = section('users', 'access/users', 'users', [
		{ id: 'user', label: 'User', data: true, first: true, value: (u) => u.user },
		{ id: 'role', label: 'Role', value: (u) => u.role },
		databases,
		{ id: 'labels', label: 'Nodes', data: true, value: (u) => u.labels || 'all' },
		{ id: 'password', label: 'Password', value: (u) => (u.must_change ? 'one-time, not changed yet' : 'own') },
		{ id: 'created', label: 'Added', spare: true, ...when('created') },
		actions((u) => [
			button('Rights…', { kind: 'plain', 'aria-label': `Rights of ${u.user}`, onclick: () => change(u, load) }),
			button('Reset…', { kind: 'plain', 'aria-label': `Reset the password of ${u.user}`, onclick: () => reset(u, load) }),
			u.user === me.user ? h('span', { class: 'small quiet' }, 'Only another admin removes you') : button('Remove…', { kind: 'plain danger', 'aria-label': `Remove ${u.user}`, onclick: () => end(`Remove ${u.user}`, 'All sessions and API tokens of this user end at once.', `Remove ${u.user}`, `access/users/${encodeURIComponent(u.user)}`, load, u.user) }),
		]),
	], { key: (u) => `${u.user} ${u.role} ${u.databases} ${u.labels} ${u.must_change}`, tally: 'user' });
	$('add').addEventListener('click', () => add(load));
}

async function add(load) {
	const name = h('input', { class: 'mono', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: '32' });
	const { fields, rights } = rightsFields({ role: 'viewer' });
	const made = await open({
		title: 'Add a user', focus: name,
		content: [h('label', { class: 'field' }, h('span', {}, 'Name'), name, h('small', {}, 'A letter, then up to 31 of a–z, 0–9, . _ and -')), fields],
		action: { label: 'Add', run: () => post('access/users', { user: name.value.trim(), ...rights() }) },
	});
	if (!made) return;
	load();
	await once(`The one-time password of ${made.id}`, `Give it to ${made.id}, who chooses another at the first login.`, made.secret);
}

function change(u, load) {
	const { fields, rights } = rightsFields(u);
	return open({ title: `Rights of ${u.user}`, content: fields, action: { label: 'Change', run: async () => {
		await post(`access/users/${encodeURIComponent(u.user)}`, rights());
		toast(`${u.user} has other rights from now on.`);
		await load();
	} } });
}

async function reset(u, load) {
	const made = await open({
		title: `Reset the password of ${u.user}`, content: h('p', {}, 'The old password and all web sessions end. API tokens rest until the new password is chosen.'),
		action: { label: 'Reset', danger: true, run: () => post(`access/users/${encodeURIComponent(u.user)}/reset`) },
	});
	if (!made) return;
	load();
	await once(`The one-time password of ${u.user}`, `Give it to ${u.user}, who chooses another at the next login.`, made.secret);
}

// Sessions and tokens: one's own, and for an admin everybody's.
const owner = admin ? [{ id: 'user', label: 'User', data: true, first: true, value: (r) => r.user }] : [];

const sessions = section('sessions', `access/sessions${whose}`, 'sessions', [
	...owner,
	{ id: 'agent', label: 'Browser', wide: true, value: (s) => browser(s.agent), show: (cell, s) => put(cell, browser(s.agent), s.own && h('span', { class: 'quiet' }, ' (this one)')) },
	{ id: 'from', label: 'From', data: true, value: (s) => s.from.replace(/:\d+$/, '') },
	{ id: 'opened', label: 'Opened', ...when('opened') },
	{ id: 'used', label: 'Used', ...when('used') },
	actions((s) => button(s.own ? 'Log out…' : 'End…', { kind: 'plain danger', 'aria-label': `End the session of ${s.user} from ${s.from}`, onclick: () => end('End the session', `${s.user} is logged out there at once.`, 'End it', `access/sessions/${encodeURIComponent(s.id)}`, sessions) })),
], { none: 'There is no web session.' });

// browser is what people call it.
function browser(agent) {
	const name = [['Firefox', /Firefox\/(\d+)/], ['Edge', /Edg\/(\d+)/], ['Opera', /OPR\/(\d+)/], ['Chrome', /Chrome\/(\d+)/], ['Safari', /Version\/(\d+).*Safari/]].map(([n, re]) => [n, agent.match(re)]).find(([, m]) => m);
	const system = ['Android', 'iPhone', 'iPad', 'Windows', 'Mac OS', 'Linux'].find((s) => agent.includes(s));
	return name ? `${name[0]} ${name[1][1]}${system ? `, ${system}` : ''}` : agent.slice(0, 60) || 'unknown';
}

const tokens = section('tokens', `access/tokens${whose}`, 'tokens', [
	...owner,
	{ id: 'label', label: 'For', wide: true, value: (t) => t.label || '–' },
	{ id: 'role', label: 'Role', value: (t) => t.role },
	databases,
	{ id: 'used', label: 'Used', ...when('used') },
	{ id: 'expires', label: 'Good until', ...until },
	actions((t) => button('Revoke…', { kind: 'plain danger', 'aria-label': `Revoke the token ${t.label}`, onclick: () => end('Revoke the token', `The program that holds it is refused from now on: ${t.label || t.id}.`, 'Revoke', `access/tokens/${encodeURIComponent(t.id)}`, tokens) })),
], { none: 'There is no API token. A program shows one instead of logging in.' });

$('make').addEventListener('click', async () => {
	const ladder = Object.keys(roles);
	const label = h('input', { maxlength: '100', placeholder: 'nightly report', autocomplete: 'off' });
	const role = h('select', {}, ladder.slice(0, ladder.indexOf(me.role) + 1).map((r) => h('option', { value: r }, r)));
	const life = h('select', {}, [['30', '30 days'], ['90', '90 days'], ['365', '1 year'], ['', 'for ever']].map(([v, words]) => h('option', { value: v, selected: v === '90' }, words)));
	const made = await open({
		title: 'Make an API token', focus: label,
		content: [h('label', { class: 'field' }, h('span', {}, 'What it is for'), label),
			h('div', { class: 'row' }, h('label', { class: 'field' }, h('span', {}, 'Role, at most'), role), h('label', { class: 'field' }, h('span', {}, 'Good for'), life)),
			h('p', { class: 'small quiet' }, 'It never may more than you may yourself.')],
		action: { label: 'Make', run: () => post('access/tokens', { label: label.value.trim(), role: role.value, expires: life.value ? new Date(Date.now() + life.value * 864e5).toISOString() : undefined }) },
	});
	if (!made) return;
	tokens();
	await once('The new API token', 'A program shows it with every request, in the header Authorization: Bearer, or snapdb takes it from SNAPDB_TOKEN.', made.secret);
});

// Nodes, for admins.
function nodes() {
	const invitations = section('invitations', 'access/invitations', 'invitations', [
		{ id: 'created', label: 'Made', ...when('created') },
		{ id: 'for', label: 'For', data: true, value: (i) => i.node || 'any node' },
		{ id: 'labels', label: 'Labels', data: true, wide: true, value: (i) => pairs(i.labels) },
		{ id: 'used', label: 'Used', num: true, value: (i) => i.used, show: (cell, i) => text(cell, `${i.used} of ${i.uses}`) },
		{ id: 'expires', label: 'Good until', ...until },
		actions((i) => button('Revoke…', { kind: 'plain danger', 'aria-label': `Revoke the invitation ${i.id}`, onclick: () => end('Revoke the invitation', 'No more nodes come in by it. Those that did stay.', 'Revoke', `access/invitations/${encodeURIComponent(i.id)}`, invitations) })),
	], { none: 'There is no open invitation.' });
	const enrolled = section('enrolled', 'access/nodes', 'nodes', [
		{ id: 'id', label: 'Node', data: true, first: true, value: (n) => n.id },
		{ id: 'state', label: 'State', value: (n) => (moment(n.revoked) === null ? 'enrolled' : `revoked ${age(n.revoked)}`) },
		{ id: 'labels', label: 'Labels', data: true, value: (n) => pairs(n.labels) },
		{ id: 'enrolled', label: 'Enrolled', ...when('enrolled') },
		{ id: 'key', label: 'Key', data: true, spare: true, value: (n) => `${n.key.slice(0, 12)}…` },
		actions((n) => moment(n.revoked) === null && button('Revoke…', { kind: 'plain danger', 'aria-label': `Revoke ${n.id}`, onclick: () => end(`Revoke ${n.id}`, 'It is cut off within a second and stays out, also after restarts. To let a machine in its place, invite exactly this node.', `Revoke ${n.id}`, `access/nodes/${encodeURIComponent(n.id)}`, enrolled, n.id) })),
	], { none: 'No node has come by invitation yet.', key: (n) => `${n.id} ${n.revoked}` });
	$('invite').addEventListener('click', async () => {
		if (await invite()) invitations();
	});
}

const pairs = (labels) => Object.entries(labels ?? {}).map(([k, v]) => `${k}=${v}`).sort().join(' ') || 'none';

if (admin) {
	users();
	nodes();
} else {
	put($('users-list'), hold('admin', 'Seeing and changing users', $('add')));
	put($('invitations-list'), hold('admin', 'Inviting nodes', $('invite')));
	put($('enrolled-list'), held('admin', 'Seeing and revoking nodes'));
}
