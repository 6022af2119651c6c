// What the nodes found when they last compared what they hold of a database.

import { age, full, names, number } from './format.js';

// verification says it in a few words, and all of it in a title; bad is whether a copy
// differs.
export function verification(v) {
	if (!v) return { text: 'not yet', title: null, bad: false };
	const of = (state) => Object.entries(v.nodes).filter(([, n]) => n.state === state).map(([id]) => id).sort();
	const different = of('different');
	const silent = of('unknown');
	const title = [`at position ${number(v.position)}, ${full(v.at)}`, ...Object.entries(v.nodes).map(([id, n]) => `${id}: ${copy(n)}`)].join('\n');
	const when = age(v.at);
	if (different.length > 0) return { text: `${names(different, 2)} differed, ${when}`, title, bad: true };
	if (silent.includes('master')) return { text: `not compared, ${when}`, title, bad: false };
	if (silent.length > 0) return { text: `equal but for ${names(silent, 2)}, ${when}`, title, bad: false };
	return { text: `all equal, ${when}`, title, bad: false };
}

// copy says it of one node.
export function copy(n) {
	return [n.state + (n.tables?.length > 0 ? ` (${n.tables.join(', ')})` : ''), n.reason].filter(Boolean).join(': ');
}
