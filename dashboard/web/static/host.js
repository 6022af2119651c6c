// What a node, or the master, says of the machine that it runs on.

import { h } from './dom.js';
import { bytes, percent, rate, span } from './format.js';

// hostLines are names and values; more goes before the last of them.
export function hostLines({ host: f, os, arch } = {}) {
	return [
		['host', f?.hostname], ['system', f?.platform ? `${f.platform} · ${os}/${arch}` : os && `${os}/${arch}`], ['kernel', f?.kernel],
		['processor', f && `${f.cores} cores · ${percent(f.cpu_percent)} · load ${rate(f.load1)}`], ['memory', f && `${bytes(f.memory_used)} of ${bytes(f.memory_total)}`],
		['disk', f && `${bytes(f.disk_free)} free of ${bytes(f.disk_total)}`], ['up for', f && span(f.uptime_s * 1000)], ['sqlite', f?.sqlite],
	];
}

// listed makes the elements of a list of names and values; those without a value are
// left out.
export function listed(lines) {
	return lines.filter(([, v]) => v).map(([k, v]) => [h('dt', {}, k), h('dd', {}, v)]);
}
