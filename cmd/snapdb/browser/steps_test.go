//go:build linux

package browser_test

import (
	"context"
	"fmt"

	"github.com/chromedp/chromedp"
)

// awaitPanel opens the first page, once the panel is there and live.
func awaitPanel(c *cluster, b *tab) {
	b.t.Helper()
	await(b.t, func() string {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		defer cancel()
		if err := chromedp.Do(ctx, chromedp.Navigate(c.url)); err != nil {
			return err.Error()
		}
		return ""
	})
	b.live()
}

// live waits until the page gets live updates.
func (b *tab) live() {
	b.t.Helper()
	await(b.t, func() string {
		if now := eval[string](b, `document.documentElement.dataset.live ?? ""`); now != "up" {
			return "the page is not live: " + now
		}
		return ""
	})
}

// clickTick chooses a node.
func clickTick(node string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(fmt.Sprintf(`input[aria-label="Choose %s"]`, node)))
}
