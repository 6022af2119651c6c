// What the user who looks may do. The master decides that; here it is said before it has
// to. In an open cluster everybody may do everything.

import { h, attr, icon } from './dom.js';

const ladder = ['viewer', 'writer', 'operator', 'admin'];
const { user, role, limited } = document.body.dataset;

export const secured = user !== undefined;
export const me = { user, role };

// may says whether the user has at least that role.
export const may = (least) => !secured || ladder.indexOf(role) >= ladder.indexOf(least);

// isLimited says whether the user has only some of the databases.
export const isLimited = limited !== undefined;

let serial = 0;

// held says in words, for people to see, why something cannot be done; null if it can.
export function held(least, what) {
	if (may(least)) return null;
	return h('p', { class: 'held small', id: `held-${++serial}` }, icon('lock'), h('span', {}, `${what} takes the role ${least}; ${user} is ${/^[aeiou]/.test(role) ? 'an' : 'a'} ${role}.`));
}

// hold switches controls off that the user has no right to, and describes them by the
// words of held, which are returned.
export function hold(least, what, ...controls) {
	const words = held(least, what);
	if (words) for (const c of controls.flat()) {
		c.disabled = true;
		attr(c, 'aria-describedby', words.id);
	}
	return words;
}
