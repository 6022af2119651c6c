//go:build linux

package browser_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// answerLate lets the page have the answer to its commands only when they have ended
// and that was told.
const answerLate = `(() => {
	const soon = window.fetch;
	window.fetch = async (...request) => {
		const answer = await soon(...request);
		if (request[0] !== '/api/v1/commands') return answer;
		const id = (await answer.clone().json()).commands[0].id;
		for (let open = true; open;) {
			const { commands: [c] } = await (await soon('/api/v1/commands/' + id)).json();
			open = c.nodes.some((n) => ['queued', 'sent', 'accepted'].includes(n.state));
			await new Promise((next) => setTimeout(next, 50));
		}
		await new Promise((told) => setTimeout(told, 500)); // the live connection is at most 50 ms late
		return answer;
	};
	return true;
})()`

func TestFilePushedFromThePageIsInTheFoldersOfNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	b := newTab(t, false)
	file := filepath.Join(t.TempDir(), "notice.txt")
	if err := os.WriteFile(file, []byte("closed on Monday\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.open(c.url + "/files?do=push&nodes=snap1,snap2")
	b.live()
	b.do(chromedp.SetUploadFiles(chromedp.ID("file"), []string{file}, chromedp.NodeReady))
	b.sees("#words", "notice.txt")
	eval[bool](b, answerLate)
	b.press("Push to 2 nodes")
	await(t, func() string {
		now := eval[int](b, `document.querySelectorAll("#outcome-table .state-done").length`)
		if now != 2 {
			return fmt.Sprintf("%d of 2 nodes say done: %s %s", now, b.text("#outcome"), b.text("#trouble"))
		}
		return ""
	})
	b.press("List files")
	b.sees("#folder", "notice.txt")
}
