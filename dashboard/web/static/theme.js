// Sets the chosen theme before the first paint; a classic script, because modules
// wait. What is not chosen follows the system.
(() => {
	let theme = null;
	try {
		theme = localStorage.getItem('theme');
	} catch {
		// A browser that keeps nothing follows the system.
	}
	if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
	document.documentElement.dataset.live = 'wait';
})();
