// Which chart suits a result, by what is in its columns; and the chart's data.

import { figure, kindOf, shown } from './values.js';
import { COLOURS } from './chart.js';

const MOST_BARS = 40;
const MOST_SLICES = COLOURS - 1; // and the others

// study says of every column what it holds: time, number, text, or nothing to draw.
export function study({ columns, types = [], rows }) {
	return columns.map((name, i) => {
		const values = rows.map((r) => r[i]).filter((v) => v !== null);
		const numbers = values.filter((v) => kindOf(v) === 'number').length;
		const c = { i, name, type: types[i], kind: 'none', distinct: new Set(values.map((v) => shown(v))).size, count: values.length };
		if (values.length === 0 || values.every((v) => kindOf(v) === 'blob')) return c;
		if (numbers === values.length) c.kind = looksLikeEpoch(name, values) ? 'time' : 'number';
		else c.kind = values.every((v) => typeof v === 'string' && instant(v) !== null) ? 'time' : 'text';
		c.whole = c.kind === 'number' && values.every((v) => Number.isInteger(figure(v)));
		c.id = c.whole && c.distinct === rows.length && /(^|_)(id|rowid|key|nr|no)$|Id$/i.test(name);
		c.ordinal = c.kind === 'number' && /^(year|month|week|day|hour|minute|quarter|jahr|n|i|x|step|bucket)$/i.test(name);
		return c;
	});
}

const iso = /^\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?$/;

function instant(v) {
	if (!iso.test(v)) return null;
	const at = Date.parse(/[T ]/.test(v) ? v.replace(' ', 'T') + (/Z|[+-]\d\d:?\d\d$/.test(v) ? '' : 'Z') : v);
	return Number.isNaN(at) ? null : at;
}

function looksLikeEpoch(name, values) {
	return /(^|_)(at|time|timestamp|ts|date|now)$|Date$|Time$/i.test(name) && values.every((v) => figure(v) > 9e8 && figure(v) < 4e12);
}

// choose proposes { kind, x, y: [columns] }, or null when there is nothing to draw.
export function choose(result) {
	if (result.rows.length === 0) return null;
	const cols = study(result);
	const texts = cols.filter((c) => c.kind === 'text');
	let measures = cols.filter((c) => c.kind === 'number' && !c.id && !c.ordinal);
	if (measures.length === 0 && texts.length > 0) measures = cols.filter((c) => c.ordinal); // "count(*) AS n" beside names
	const time = cols.find((c) => c.kind === 'time');
	const ordinal = cols.find((c) => c.ordinal && !measures.includes(c));
	if (time && measures.length > 0) return { kind: 'line', x: time.i, y: few(measures) };
	if (ordinal && measures.length > 0 && result.rows.length > 2) return { kind: result.rows.length > 12 ? 'line' : 'bar', x: ordinal.i, y: few(measures) };
	if (texts.length > 0 && measures.length > 0) {
		const best = texts.reduce((a, b) => (b.distinct > a.distinct && a.distinct < result.rows.length ? b : a));
		if (measures.length === 1 && isShare(measures[0].name) && result.rows.length <= 8) return { kind: 'pie', x: best.i, y: [measures[0].i] };
		if (result.rows.length > 200 && best.distinct > MOST_BARS && measures.length >= 2) return { kind: 'scatter', x: measures[0].i, y: [measures[1].i] };
		return { kind: 'bar', x: best.i, y: similar(measures, result) };
	}
	// A few rows with a number of their own each, as GROUP BY makes them.
	const first = measures.find((c) => c.i === 0 && c.whole && c.distinct === result.rows.length);
	if (first && measures.length >= 2 && result.rows.length <= 30) return { kind: 'bar', x: 0, y: similar(measures.filter((c) => c !== first), result) };
	if (measures.length >= 2) return { kind: 'scatter', x: measures[0].i, y: [measures[1].i] };
	if (measures.length === 1) {
		const id = cols.find((c) => c.id || c.ordinal);
		return { kind: result.rows.length > 24 ? 'line' : 'bar', x: id ? id.i : -1, y: [measures[0].i] };
	}
	if (texts.length > 0) return { kind: 'bar', x: texts[0].i, y: [] };
	return null;
}

const few = (list) => list.slice(0, 4).map((c) => c.i);
const isShare = (name) => /share|percent|pct|ratio|part|%/i.test(name);

// similar keeps the measures that fit one axis with the first.
function similar(measures, { rows }) {
	const top = (c) => Math.max(...rows.map((r) => Math.abs(figure(r[c.i]))).filter(Number.isFinite), 0);
	const first = top(measures[0]);
	return measures.filter((c) => top(c) <= first * 20 && top(c) >= first / 20).slice(0, 3).map((c) => c.i);
}

const value = (v) => (v === null || kindOf(v) !== 'number' ? null : figure(v));

// spec makes what Chart.show takes of a result and a choice, and notes what was left out.
export function spec(result, { kind, x, y }) {
	const cols = study(result);
	const notes = [];
	if (kind === 'line' || kind === 'scatter') {
		const time = cols[x]?.kind === 'time';
		const at = (r, i) => (x < 0 ? i + 1 : time ? timeOf(r[x]) : value(r[x]));
		const series = y.slice(0, COLOURS).map((i) => {
			const points = result.rows.map((r, n) => [at(r, n), value(r[i])]).filter(([px]) => px !== null && Number.isFinite(px));
			if (kind === 'line') points.sort((a, b) => a[0] - b[0]);
			return { name: result.columns[i], points };
		});
		if (kind === 'scatter' && result.rows.length > 5000) notes.push('The first 5,000 rows are drawn.');
		return { spec: { kind, series, x: time ? 'time' : 'number', nameX: x < 0 ? 'row' : result.columns[x], zero: kind === 'line' && nearZero(series), empty: 'These columns hold no numbers' }, notes };
	}
	const groups = grouped(result, x, y, notes);
	const most = kind === 'pie' ? MOST_SLICES : MOST_BARS;
	if (kind === 'pie') groups.sort((a, b) => b.values[0] - a.values[0]);
	if (groups.length > most) {
		notes.push(kind === 'pie' ? `The largest ${most} of ${groups.length.toLocaleString('en')} have a slice of their own.` : `The first ${most} of ${groups.length.toLocaleString('en')} are drawn.`);
		const rest = groups.splice(most);
		if (kind === 'pie') groups.push({ label: 'others', values: [rest.reduce((a, g) => a + Math.max(0, g.values[0]), 0)] });
	}
	const names = y.length > 0 ? y.map((i) => result.columns[i]) : ['rows'];
	const labels = groups.map((g) => g.label);
	if (kind === 'pie') {
		if (groups.some((g) => g.values[0] < 0)) notes.push('Negative values have no slice.');
		return { spec: { kind, labels, values: groups.map((g) => Math.max(0, g.values[0] ?? 0)), empty: 'There is no positive value' }, notes };
	}
	return { spec: { kind, labels, series: names.slice(0, COLOURS).map((name, j) => ({ name, values: groups.map((g) => g.values[j]) })) }, notes };
}

const timeOf = (v) => (v === null ? null : typeof v === 'string' ? instant(v) : figure(v) > 1e11 ? figure(v) : figure(v) * 1000);

// nearZero says whether an axis from zero would not flatten the lines.
function nearZero(series) {
	const all = series.flatMap((s) => s.points.map((p) => p[1])).filter((v) => v !== null);
	const [low, high] = [Math.min(...all), Math.max(...all)];
	return low < 0 || low < high * 0.6;
}

// grouped adds up rows of the same label, or counts them when there is no measure.
function grouped(result, x, y, notes) {
	const groups = new Map();
	result.rows.forEach((r, n) => {
		const label = x < 0 ? String(n + 1) : shown(r[x]);
		const values = y.length > 0 ? y.map((i) => value(r[i])) : [1];
		const g = groups.get(label);
		if (!g) groups.set(label, { label, values, rows: 1 });
		else {
			g.rows++;
			g.values = g.values.map((v, j) => (v === null ? values[j] : v + (values[j] ?? 0)));
		}
	});
	const list = [...groups.values()];
	if (y.length === 0) list.sort((a, b) => b.values[0] - a.values[0]);
	else if (list.some((g) => g.rows > 1)) notes.push(`Rows of the same ${result.columns[x]} are added up.`);
	return list;
}
