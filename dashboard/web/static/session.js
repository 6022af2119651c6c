// What a page does when the session of its user is over.

// toLogin asks who is there, and comes back to this page then.
export function toLogin() {
	location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

// signedIn goes to the login unless the session still is one: why a WebSocket does not come
// about, a page is not told.
export async function signedIn() {
	if (document.body.dataset.user === undefined) return;
	try {
		const answer = await fetch('/api/v1/access/me');
		if (answer.status === 401) toLogin();
	} catch {
		// The master does not answer: it is asked again.
	}
}
