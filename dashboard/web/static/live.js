// The one WebSocket of a page. It comes back by itself, goes on with the log after
// the last line it has seen, and tells the page when what it shows is old.

import { signedIn, toLogin } from './session.js';

// Codes with which the master ends it: the session is over, or has other rights.
const OVER = 4401;
const OTHER_RIGHTS = 4403;

const SILENCE = 6000; // there is a sample every second
const FIRST_WAIT = 300;
const LONGEST_WAIT = 5000;
const KEPT_RECORDS = 100;

export class Live extends EventTarget {
	#socket = null;
	#watch;
	#wait = FIRST_WAIT;
	#retry = 0;
	#boot = null;
	#after = 0;
	#heard = 0;
	#up = false;
	#failed = 0; // connections that did not come about, in a row
	#records = new Map(); // the last heard of every command, by id, the newest last

	// topics beside those that every page needs; node bounds logs and samples to one.
	constructor({ topics = [], node } = {}) {
		super();
		this.#watch = { type: 'watch', topics: [...new Set(['cluster', 'samples', ...topics])], node };
		setInterval(() => this.#check(), 1000);
		addEventListener('online', () => this.now());
		document.addEventListener('visibilitychange', () => {
			if (!document.hidden && !this.#up) this.now();
		});
		this.#connect();
	}

	// on calls fn with every message of a type: hello, cluster, command, logs, sample;
	// "down" and "up" are about the connection itself.
	on(type, fn) {
		this.addEventListener(type, (e) => fn(e.detail));
		return this;
	}

	// heard is when the last message came.
	get heard() {
		return this.#heard;
	}

	// newest is the record of a command that was just asked for, as it was last heard of:
	// it can have ended before the answer with its record is read.
	newest(record) {
		return this.#records.get(record.id) ?? record;
	}

	// now tries to connect at once.
	now() {
		if (this.#socket) return;
		clearTimeout(this.#retry);
		this.#connect();
	}

	#connect() {
		if (this.#failed > 1) signedIn();
		const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/api/v1/live`);
		this.#socket = socket;
		socket.onopen = () => {
			this.#failed = 0;
			this.#heard = Date.now();
			this.#ask();
		};
		socket.onmessage = (e) => this.#take(JSON.parse(e.data));
		socket.onclose = (e) => {
			if (e.code === OVER) toLogin();
			else if (e.code === OTHER_RIGHTS) location.reload();
			else this.#lost(socket);
		};
	}

	#ask() {
		this.#socket.send(JSON.stringify({ ...this.#watch, after: this.#after || undefined }));
	}

	#take(message) {
		this.#heard = Date.now();
		this.#wait = FIRST_WAIT;
		if (message.type === 'hello') this.#greet(message);
		if (message.type === 'logs') {
			// A line that was sent twice, around a reconnect, is shown once.
			message.lines = (message.lines ?? []).filter((line) => line.seq > this.#after);
			if (message.lines.length > 0) this.#after = message.lines.at(-1).seq;
		}
		if (message.type === 'command') this.#keep(message.command);
		this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
	}

	#keep(record) {
		this.#records.delete(record.id);
		this.#records.set(record.id, record);
		if (this.#records.size > KEPT_RECORDS) this.#records.delete(this.#records.keys().next().value);
	}

	#greet(hello) {
		// Somebody else has logged in meanwhile, in another tab.
		if (hello.user !== document.body.dataset.user) location.reload();
		// Another master process numbers its log lines anew.
		if (this.#boot !== null && this.#boot !== hello.boot && this.#after > 0) {
			this.#after = 0;
			this.#ask();
		}
		this.#boot = hello.boot;
		this.#up = true;
		this.dispatchEvent(new CustomEvent('up', { detail: hello }));
	}

	#check() {
		if (this.#socket?.readyState === WebSocket.OPEN && Date.now() - this.#heard > SILENCE) this.#socket.close();
		if (this.#socket && this.#socket.readyState > WebSocket.OPEN && Date.now() - this.#heard > SILENCE) this.#lost(this.#socket);
	}

	#lost(socket) {
		if (this.#socket !== socket) return;
		this.#socket = null;
		this.#up = false;
		this.#failed++;
		const wait = this.#wait * (0.75 + Math.random() / 2);
		this.#wait = Math.min(this.#wait * 1.8, LONGEST_WAIT);
		this.#retry = setTimeout(() => this.#connect(), wait);
		this.dispatchEvent(new CustomEvent('down', { detail: { wait } }));
	}
}
