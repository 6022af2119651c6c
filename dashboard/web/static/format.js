// How figures are written, everywhere the same.

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

export function number(n) {
	return n === undefined || n === null ? '–' : grouped.format(n);
}

// rate writes a figure that is measured: three digits are enough.
export function rate(n) {
	if (n === undefined || n === null || !Number.isFinite(n)) return '–';
	if (n >= 100) return grouped.format(Math.round(n));
	return grouped.format(Number(n.toPrecision(3)));
}

const units = ['B', 'KB', 'MB', 'GB', 'TB', 'PB', 'EB'];

export function bytes(n) {
	if (n === undefined || n === null) return '–';
	let unit = 0;
	while (n >= 999.5 && unit < units.length - 1) { // or it would be written as 1000
		n /= 1000;
		unit++;
	}
	return `${unit === 0 || n >= 99.95 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

// span writes a length of time in its two largest units at most.
export function span(ms) {
	if (ms === undefined || ms === null) return '–';
	if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
	const s = ms / 1000;
	if (s < 10) return `${s.toFixed(1)} s`;
	if (s < 60) return `${Math.floor(s)} s`;
	if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
	if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
	return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// age writes how long ago a moment was, coarse enough not to flicker.
export function age(when, now = Date.now()) {
	const at = moment(when);
	if (at === null) return 'never';
	const s = Math.max(0, Math.floor((now - at) / 1000));
	if (s < 3) return 'now';
	if (s < 60) return `${s} s ago`;
	if (s < 3600) return `${Math.floor(s / 60)} min ago`;
	if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
	return `${Math.floor(s / 86400)} d ago`;
}

// moment is a time as milliseconds, null for the zero time of Go.
export function moment(when) {
	if (!when) return null;
	const at = typeof when === 'number' ? when : Date.parse(when);
	return Number.isNaN(at) || at < 0 ? null : at;
}

export function time(when) {
	const at = moment(when);
	return at === null ? '–' : clock.format(at);
}

// dateTime leaves the day out when it is today.
export function dateTime(when) {
	const at = moment(when);
	if (at === null) return '–';
	const d = new Date(at);
	return d.toDateString() === new Date().toDateString() ? clock.format(d) : `${day.format(d)} ${clock.format(d)}`;
}

export function full(when) {
	const at = moment(when);
	return at === null ? '' : new Date(at).toISOString().replace('T', ' ').replace('Z', ' UTC');
}

export function percent(part) {
	return part === undefined || part === null || !Number.isFinite(part) ? '–' : `${Math.round(part)} %`;
}

// count writes "1 node", "3 nodes".
export function count(n, one, many = `${one}s`) {
	return `${grouped.format(n)} ${n === 1 ? one : many}`;
}

// names lists a few of them.
export function names(list, most = 4) {
	if (list.length <= most) return list.join(', ');
	return `${list.slice(0, most).join(', ')} and ${list.length - most} more`;
}

const rules = { log: 'in the log', insync: 'applied in sync', all: 'applied by all' };

// rule says when a write is acknowledged.
export function rule(name) {
	return rules[name] ?? `applied by ${name}`;
}
