(() => {
	const faults = [];
	const seen = (el) => el.checkVisibility({ visibilityProperty: true }) && !el.closest('[aria-hidden="true"]');
	const what = (el) => `<${el.localName}${el.id ? ` id=${el.id}` : ''}${el.className && typeof el.className === 'string' ? ` class="${el.className}"` : ''}> ${el.textContent.trim().slice(0, 40)}`;

	// Names.
	const named = (el) => el.getAttribute('aria-label') || el.getAttribute('title') || el.textContent.trim() || [...(el.labels ?? [])].some((l) => l.textContent.trim()) || (el.getAttribute('aria-labelledby') && document.getElementById(el.getAttribute('aria-labelledby'))) || el.querySelector('img[alt]:not([alt=""])');
	for (const el of document.querySelectorAll('button, a[href], [role="button"]')) if (seen(el) && !named(el)) faults.push(`no name: ${what(el)}`);
	for (const el of document.querySelectorAll('input, select, textarea')) {
		if (seen(el) && !el.getAttribute('aria-label') && !el.getAttribute('aria-labelledby') && ![...(el.labels ?? [])].some((l) => l.textContent.trim())) faults.push(`no label: ${what(el)}`);
	}
	for (const el of document.querySelectorAll('img:not([alt])')) faults.push(`no alt: ${what(el)}`);
	for (const el of document.querySelectorAll('svg[role="img"]')) if (seen(el) && !el.getAttribute('aria-label')) faults.push(`no name: ${what(el)}`);

	// Structure.
	if (!document.documentElement.lang) faults.push('the page has no language');
	if (document.querySelectorAll('h1').length !== 1) faults.push('there is not exactly one h1');
	for (const mark of ['main', 'nav[aria-label]']) if (!document.querySelector(mark)) faults.push(`there is no ${mark}`);
	const ids = [...document.querySelectorAll('[id]')].map((el) => el.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`two elements have the id ${id}`);
	for (const el of document.querySelectorAll('[aria-controls]')) if (!document.getElementById(el.getAttribute('aria-controls'))) faults.push(`controls what is not there: ${what(el)}`);
	for (const el of document.querySelectorAll('[tabindex]')) if (el.tabIndex > 0) faults.push(`jumps the queue of Tab: ${what(el)}`);
	for (const el of document.querySelectorAll('th')) if (!el.getAttribute('scope')) faults.push(`a th without scope: ${what(el)}`);

	// Contrast, as WCAG 2 has it.
	const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
	const known = new Map();
	const colour = (css) => {
		if (!known.has(css)) {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = css;
			canvas.fillRect(0, 0, 1, 1);
			const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
			known.set(css, [r, g, b, a / 255]);
		}
		return known.get(css);
	};
	const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
	const behind = (el) => {
		if (!el) return [255, 255, 255, 1];
		const c = colour(getComputedStyle(el).backgroundColor);
		return c[3] >= 0.999 ? c : over(c, behind(el.parentElement));
	};
	const light = (c) => {
		const [r, g, b] = c.slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const told = new Set();
	for (let node = walk.nextNode(); node; node = walk.nextNode()) {
		const el = node.parentElement;
		if (!node.data.trim() || !el.checkVisibility({ visibilityProperty: true }) || el.closest('.visually-hidden, .skip, script, noscript, option, textarea, :disabled')) continue;
		const style = getComputedStyle(el);
		const back = behind(el);
		const ink = over(colour(el instanceof SVGElement ? style.fill : style.color), back);
		const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		const size = parseFloat(style.fontSize);
		const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
		const fault = `contrast ${ratio.toFixed(2)}: ${what(el)}`;
		if (ratio < (large ? 3 : 4.5) && !told.has(fault)) {
			told.add(fault);
			faults.push(fault);
		}
	}

	const wide = document.scrollingElement.scrollWidth - innerWidth;
	if (wide > 0) faults.push(`the page is ${wide} px wider than the screen`);
	for (const el of document.querySelectorAll('.scroll')) {
		if (el.scrollWidth > el.clientWidth && innerWidth >= 1024) faults.push(`a table is ${el.scrollWidth - el.clientWidth} px wider than its place: ${what(el)}`);
	}
	return faults;
})()
