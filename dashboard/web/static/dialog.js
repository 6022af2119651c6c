// Dialogs, what is said in passing, and trouble that stays.

import { h, put, text, icon, button, copy } from './dom.js';

let serial = 0;

// open shows a dialog and returns a promise of what it was closed with: null when it
// was cancelled. Focus goes to Cancel, so that Enter never does harm by itself.
//
//   title, content: what it says; wide
//   action: { label, danger, type, run }
//     label, type: texts, or functions of them for what depends on fields in content
//     type: what must be typed before the action can be taken; '': nothing
//     run:  called when it is taken; the dialog stays open, with the trouble, if it throws
//   focus: an element that gets the focus instead of Cancel, in dialogs that do no harm
export function open({ title, content = [], wide = false, action, cancel = 'Cancel', focus }) {
	return new Promise((resolve) => {
		const name = `dialog-${++serial}`;
		const of = (v) => (typeof v === 'function' ? v() : v);
		const trouble = h('div', { 'aria-live': 'polite' });
		const close = button(cancel, { onclick: () => finish(null) });
		const typed = h('input', { class: 'mono', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' });
		const word = h('code');
		const confirm = h('label', { class: 'field', hidden: true }, h('span', {}, 'Type ', word, ' to confirm'), typed);
		const go = action ? h('button', { type: 'submit', class: `main-action${action.danger ? ' danger' : ''}` }) : null;
		const form = h('form', { method: 'dialog', oninput: () => ready(), onchange: () => ready() },
			h('header', {}, h('h2', { id: name }, title)),
			h('div', { class: 'content' }, content, confirm, trouble),
			h('footer', {}, close, go));
		const dialog = h('dialog', { class: wide ? 'wide' : null, 'aria-labelledby': name }, form);
		const back = document.activeElement;
		let value = null;
		let busy = false;

		function ready() {
			if (!go) return;
			const must = of(action.type) ?? '';
			text(word, must);
			confirm.hidden = must === '';
			text(go, of(action.label));
			go.disabled = busy || (must !== '' && typed.value.trim() !== must);
		}
		function finish(result) {
			value = result;
			dialog.close();
		}
		form.addEventListener('submit', async (e) => {
			e.preventDefault();
			if (!go || go.disabled) return;
			busy = true;
			ready();
			put(trouble);
			try {
				finish((await action.run?.()) ?? true);
			} catch (err) {
				put(trouble, troubleBox(err));
			}
			busy = false;
			ready();
		});
		dialog.addEventListener('close', () => {
			dialog.remove();
			if (back?.isConnected) back.focus();
			resolve(value);
		});
		ready();
		document.body.append(dialog);
		dialog.showModal();
		(focus ?? close).focus();
	});
}

// troubleBox shows an error until it is dismissed; its text can be copied whole.
export function troubleBox(err, { dismiss } = {}) {
	const what = err?.message ?? String(err);
	const words = [err?.code ? `${err.code}: ` : '', what, err?.statement ? ` (statement ${err.statement})` : ''].join('');
	const copyButton = button('Copy', { name: 'copy', onclick: () => copy(words, copyButton) });
	return h('div', { class: 'trouble', role: 'alert' }, icon('alert'),
		h('div', { class: 'what' }, err?.code && h('code', {}, err.code), err?.code && '  ', what, err?.statement ? h('span', { class: 'quiet' }, `  in statement ${err.statement}`) : null),
		copyButton, dismiss && button('Dismiss', { onclick: dismiss }));
}

// toast says a result in passing. It takes no focus, and is read out.
export function toast(words, { name = 'check', href, more } = {}) {
	let list = document.getElementById('toasts');
	if (!list) return;
	const item = h('div', { class: 'toast' }, icon(name), h('span', {}, words, href && ' ', href && h('a', { href }, more)));
	list.append(item);
	setTimeout(() => item.remove(), 8000);
}
