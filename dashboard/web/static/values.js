// SQLite values as the API writes them: null, numbers, BigInt, text, and objects for
// what JSON has no form for: { blob }, { text } that is not valid UTF-8, { real } that is
// infinite; and a { real } that JavaScript would take for an integer.

// shown is a value as people read it.
export function shown(v) {
	if (v === null || v === undefined) return 'NULL';
	if (typeof v === 'object') {
		if (v.blob !== undefined) return `blob · ${size(v.blob)} bytes`;
		if (v.text !== undefined) return raw(v.text);
		if (v.real !== undefined) return v.real === '+Inf' ? 'Inf' : v.real;
	}
	return String(v);
}

// whole is a value without anything left out.
export function whole(v) {
	return v !== null && typeof v === 'object' && v.blob !== undefined ? `x'${hex(v.blob)}'` : shown(v);
}

// figure is the number that a value is, as near as a double comes to it.
export function figure(v) {
	return Number(v?.real?.replace('Inf', 'Infinity') ?? v);
}

const size = (base64) => Math.floor((base64.length * 3) / 4) - (base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0);
const raw = (base64) => new TextDecoder().decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
const hex = (base64) => [...atob(base64)].map((c) => c.charCodeAt(0).toString(16).padStart(2, '0')).join('');

// kindOf names the class of a value, for its look.
export function kindOf(v) {
	if (v === null || v === undefined) return 'null';
	if (typeof v === 'number' || typeof v === 'bigint') return 'number';
	if (typeof v === 'object') return v.blob !== undefined ? 'blob' : v.real !== undefined ? 'number' : 'text';
	return 'text';
}

// csv writes a result as RFC 4180 has it; NULL is nothing, unlike "".
export function csv({ columns, rows }) {
	const cell = (v) => {
		if (v === null) return '';
		const text = whole(v);
		return text === '' || /[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
	};
	return [columns, ...rows].map((r) => r.map(cell)).map((cells) => `${cells.join(',')}\r\n`).join('');
}

// json writes a result as a list of objects, or with the columns apart when two have
// one name. Integers stay exact, and reals have a point or an exponent.
export function json({ columns, rows }) {
	const one = (v) => {
		if (typeof v === 'bigint') return String(v);
		return v?.real !== undefined && Number.isFinite(figure(v)) ? v.real : JSON.stringify(v);
	};
	if (new Set(columns).size < columns.length) {
		return `{"columns":${JSON.stringify(columns)},"rows":[\n${rows.map((r) => `[${r.map(one).join(',')}]`).join(',\n')}\n]}\n`;
	}
	return `[\n${rows.map((r) => `{${r.map((v, i) => `${JSON.stringify(columns[i])}:${one(v)}`).join(',')}}`).join(',\n')}\n]\n`;
}

// save hands a text to the browser as a file.
export function save(name, type, body) {
	const url = URL.createObjectURL(new Blob([body], { type }));
	const a = document.createElement('a');
	a.href = url;
	a.download = name;
	a.click();
	setTimeout(() => URL.revokeObjectURL(url), 10000);
}
