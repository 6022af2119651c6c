// The record of who did what, the newest first.

import { $, h, put, text } from './dom.js';
import { start, state } from './shell.js';
import { Table } from './table.js';
import { troubleBox } from './dialog.js';
import { get, post } from './api.js';
import { count, dateTime, moment, number } from './format.js';

const PAGE = 100;
start();
let entries = [];
let turn = 0; // of the question whose answer is shown

const table = new Table({
	label: 'Entries', key: (e) => e.n, sort: 'n', down: true,
	columns: [
		{ id: 'n', label: 'No.', num: true, value: (e) => e.n, show: (cell, e) => text(cell, number(e.n)) },
		{ id: 'time', label: 'When', tight: true, value: (e) => moment(e.time), show: (cell, e) => text(cell, dateTime(e.time)) },
		{ id: 'who', label: 'Who', data: true, value: (e) => e.who || null },
		{ id: 'from', label: 'From', data: true, spare: true, value: (e) => e.from || null },
		{ id: 'action', label: 'Action', data: true, value: (e) => e.action },
		{ id: 'target', label: 'Target', data: true, wide: true, value: (e) => e.target || null },
		{ id: 'outcome', label: 'Outcome', value: (e) => e.outcome, show: showOutcome },
	],
});
const none = h('p', { class: 'nothing', hidden: true }, 'There is no such entry.');
put($('list'), table.element, none);

const signs = { ok: 'done', denied: 'failed', failed: 'timed_out' };

function showOutcome(cell, e) {
	if (cell.firstChild) return;
	const words = [e.code !== e.outcome && e.code, e.detail].filter(Boolean).join(': ');
	put(cell, state(signs[e.outcome] ?? 'unknown', e.outcome), words && h('div', { class: 'reason small quiet' }, words));
}

const fail = (err) => put($('trouble'), troubleBox(err, { dismiss: () => put($('trouble')) }));

// load reads a page: the newest, or those before what is shown.
async function load(before) {
	const asked = ++turn;
	const query = new URLSearchParams({ limit: PAGE });
	if (before) query.set('before', before);
	if ($('outcome').value) query.set('outcome', $('outcome').value);
	if ($('who').value.trim()) query.set('who', $('who').value.trim());
	try {
		const more = (await get(`access/audit?${query}`)).entries;
		if (asked !== turn) return;
		entries = before ? entries.concat(more) : more;
		table.set(entries);
		table.element.hidden = entries.length === 0;
		none.hidden = entries.length > 0;
		$('older').hidden = more.length < PAGE;
		text($('tally'), entries.length > 0 ? `the newest ${count(entries.length, 'entry', 'entries')}` : '');
	} catch (err) {
		fail(err);
	}
}

$('outcome').addEventListener('change', () => load());
$('who').addEventListener('change', () => load());
$('older').addEventListener('click', () => load(entries.at(-1).n));
$('verify').addEventListener('click', async () => {
	$('verify').disabled = true;
	put($('trouble'));
	try {
		const r = await post('access/audit/verify');
		if (r.bad) fail({ code: 'changed', message: r.bad });
		put($('proof'), !r.bad && h('p', { class: 'small' }, state('done', `${count(r.entries, 'entry', 'entries')}, all as written`), '. The last is number ', number(r.last), ', its hash ', h('code', {}, r.hash.slice(0, 16)), '…'));
	} catch (err) {
		fail(err);
	}
	$('verify').disabled = false;
});
load();
