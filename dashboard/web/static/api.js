// The JSON API, /api/v1.

import { toLogin } from './session.js';

// Refusal is an answer that says why not.
export class Refusal extends Error {
	constructor(code, message, { statement = 0, offset = -1, position = null } = {}) {
		super(message);
		this.code = code;
		this.statement = statement;
		this.offset = offset;
		this.position = position;
	}
}

export const get = (path) => call('GET', path);
export const post = (path, body) => call('POST', path, body ?? {});
export const remove = (path) => call('DELETE', path);

// run posts SQL, and reads the values in its results exactly.
export const run = (path, body, signal) => call('POST', path, body, signal, exactly);

async function call(method, path, body, signal, parse) {
	const request = { method, signal, headers: { Accept: 'application/json' } };
	if (body !== undefined) {
		request.headers['Content-Type'] = 'application/json';
		request.body = JSON.stringify(body);
	}
	let answer;
	try {
		answer = await fetch(`/api/v1/${path}`, request);
	} catch (err) {
		if (err.name === 'AbortError') throw err;
		throw new Refusal('unreachable', 'The master does not answer. It is stopped, or on its way back.');
	}
	return read(answer.status, await answer.text(), parse);
}

// read makes a value of an answer, or throws the refusal in it.
function read(status, body, parse = JSON.parse) {
	let value;
	try {
		value = parse(body);
	} catch {
		throw new Refusal('internal', `The answer (HTTP ${status}) is not JSON: ${body.slice(0, 200)}`);
	}
	if (value?.error?.code === 'unauthenticated') toLogin();
	if (value?.error) throw new Refusal(value.error.code, value.error.message, { ...value.error, position: value.position ?? null });
	if (status >= 400) throw new Refusal('internal', `HTTP ${status}`);
	return value;
}

// exactly reads JSON and keeps what a double cannot: integers beyond 2^53 become BigInt,
// and a real that would look like an integer stays as it was written, { real: '30.0' }.
function exactly(body) {
	if (!/\d{16}|\d\.0|\de\+/.test(body)) return JSON.parse(body);
	return JSON.parse(body, (_, value, context) => {
		if (typeof value !== 'number' || !Number.isInteger(value) || !context?.source) return value;
		if (/[.eE]/.test(context.source)) return { real: context.source };
		return Number.isSafeInteger(value) ? value : BigInt(context.source);
	});
}

// upload brings a file to the master, with progress, and answers what it is.
export function upload(file, progress, signal) {
	return new Promise((resolve, reject) => {
		const request = new XMLHttpRequest();
		request.open('POST', `/api/v1/files?name=${encodeURIComponent(file.name)}`);
		request.setRequestHeader('Content-Type', 'application/octet-stream');
		request.upload.onprogress = (e) => progress?.(e.loaded, e.total);
		request.onload = () => {
			try {
				resolve(read(request.status, request.responseText));
			} catch (err) {
				reject(err);
			}
		};
		request.onerror = () => reject(new Refusal('unreachable', 'The file did not arrive: the connection to the master was lost. Try again; what is there already is kept.'));
		request.onabort = () => reject(new DOMException('given up', 'AbortError'));
		signal?.addEventListener('abort', () => request.abort());
		request.send(file);
	});
}

// id makes an id for a request, so that sending it twice does it once.
export function id() {
	const raw = crypto.getRandomValues(new Uint8Array(12));
	return [...raw].map((b) => b.toString(16).padStart(2, '0')).join('');
}
