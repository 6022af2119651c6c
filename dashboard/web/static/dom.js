// Elements. Whatever text comes from the cluster gets into a page through here, as
// text: nothing in this panel writes HTML.

const SVG = 'http://www.w3.org/2000/svg';

// $ is the element with an id that the template has for sure.
export function $(id) {
	const el = document.getElementById(id);
	if (!el) throw new Error(`the page has no element #${id}`);
	return el;
}

// h makes an element: h('td', { class: 'num', onclick: f }, 'text', child). Falsy
// children and attributes are left out.
export function h(tag, attrs = {}, ...children) {
	return fill(document.createElement(tag), attrs, children);
}

// s makes an element of SVG.
export function s(tag, attrs = {}, ...children) {
	return fill(document.createElementNS(SVG, tag), attrs, children);
}

function fill(el, attrs, children) {
	for (const [name, value] of Object.entries(attrs)) {
		if (value === undefined || value === null || value === false) continue;
		if (name.startsWith('on')) el.addEventListener(name.slice(2), value);
		else if (name === 'value' && 'value' in el) el.value = value;
		else el.setAttribute(name, value === true ? '' : String(value));
	}
	put(el, ...children);
	return el;
}

// put replaces what is in an element.
export function put(el, ...children) {
	el.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== '').map((c) => (c instanceof Node ? c : String(c))));
	return el;
}

// text changes the text of an element only if it is another one, so that what did
// not change is neither painted nor read out again.
export function text(el, value) {
	const now = value === undefined || value === null ? '' : String(value);
	if (el.textContent !== now) el.textContent = now;
	return el;
}

// attr does the same with an attribute; null takes it away.
export function attr(el, name, value) {
	if (value === null || value === undefined || value === false) {
		if (el.hasAttribute(name)) el.removeAttribute(name);
	} else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, String(value));
	return el;
}

// icon is a sign of those in the page, which need no master to be shown. It says nothing by itself: a word goes with it.
export function icon(name) {
	return s('svg', { class: 'icon', 'aria-hidden': 'true' }, s('use', { href: `#i-${name}` }));
}

// swap makes an icon show another sign.
export function swap(svg, name) {
	attr(svg.firstElementChild, 'href', `#i-${name}`);
}

// button makes one; label is its text, name its sign.
export function button(label, { name, kind = '', square = false, ...attrs } = {}) {
	return h('button', { type: 'button', class: `${kind}${square ? ' square' : ''}`.trim(), 'aria-label': square ? label : null, title: square ? label : null, ...attrs }, name && icon(name), square ? null : label);
}

// fact is a name over a value, which is not known yet.
export function fact(name) {
	const value = h('dd', {}, '–');
	return { element: h('div', {}, h('dt', {}, name), value), value };
}

// commandLine shows what to type elsewhere, with a button that copies it.
export function commandLine(line) {
	const b = button('Copy', { name: 'copy', onclick: () => copy(line, b) });
	return h('div', { class: 'command-line' }, h('code', { tabindex: '0' }, line), b);
}

// copy puts text into the clipboard and says so on the button for a moment.
export async function copy(value, btn) {
	const label = [...btn.childNodes].find((n) => n.nodeType === Node.TEXT_NODE);
	const before = label?.data;
	let said = 'Copied';
	try {
		await navigator.clipboard.writeText(value);
	} catch {
		said = 'Not allowed';
	}
	if (!label || label.data !== before) return;
	label.data = said;
	setTimeout(() => { label.data = before; }, 1600);
}
