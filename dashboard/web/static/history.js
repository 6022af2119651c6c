// The last quarter of an hour in samples of a second: first what the master kept,
// then what comes.

import { get } from './api.js';

const KEPT = 15 * 60e3;

export class History {
	#samples = [];
	#node;
	#show;

	// show(samples, [from, to]) is called with every new sample.
	constructor(live, { node, show }) {
		this.#node = node;
		this.#show = show;
		live.on('sample', ({ sample }) => this.#add(sample));
		live.on('up', () => this.load().catch(() => {})); // what was missed is fetched; if not, it shows as a gap
	}

	// load fetches what the master has.
	async load() {
		const answer = await get(`history?node=${encodeURIComponent(this.#node ?? '*')}`);
		const last = answer.samples?.at(-1)?.t ?? 0;
		this.#samples = [...(answer.samples ?? []), ...this.#samples.filter((s) => s.t > last)];
		this.#draw();
	}

	#add(sample) {
		if (this.#samples.length > 0 && sample.t <= this.#samples.at(-1).t) return;
		this.#samples.push(sample);
		this.#draw();
	}

	#draw() {
		const to = this.#samples.at(-1)?.t ?? Date.now();
		while (this.#samples.length > 0 && this.#samples[0].t < to - KEPT) this.#samples.shift();
		if (!document.hidden) this.#show(this.#samples, [to - KEPT, to]);
	}
}
