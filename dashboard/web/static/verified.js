// What the nodes found when they last compared what they hold of a database.

import { age, names } from './format.js';

// verification says it in a few words; bad is whether a copy differs.
export function verification(v) {
	if (!v) return { text: 'not yet', bad: false };
	const of = (state) => Object.entries(v.nodes).filter(([, n]) => n.state === state).map(([id]) => id).sort();
	const different = of('different');
	const silent = of('unknown');
	const when = age(v.at);
	if (different.length > 0) return { text: `${names(different, 2)} differed, ${when}`, bad: true };
	if (silent.includes('master')) return { text: `not compared, ${when}`, bad: false };
	if (silent.length > 0) return { text: `equal but for ${names(silent, 2)}, ${when}`, bad: false };
	return { text: `all equal, ${when}`, bad: false };
}

// why says in which tables a copy differs, or why it was not compared.
export function why(n) {
	return [n.tables?.join(', '), n.reason].filter(Boolean).join(': ');
}
