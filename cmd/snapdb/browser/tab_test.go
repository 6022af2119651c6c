//go:build linux

package browser_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// tab is a tab of the browser, and what its console has said.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu   sync.Mutex
	said []string // that should not be said
}

// newTab opens a tab. lost says that connections are going to be lost, or requests
// refused, on purpose, about which the console speaks too.
func newTab(t testing.TB, lost bool, how ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chrome, how...)
	b := &tab{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		for m, err := range messages {
			if err != nil {
				return // the tab is closed
			}
			if lost && m.Source == "network" || lost && strings.Contains(m.Text, "WebSocket") {
				continue
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" {
				b.mu.Lock()
				b.said = append(b.said, fmt.Sprintf("%s: %s (%s:%d)", m.Type, m.Text, m.URL, m.Line+1))
				b.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-listened
		for _, s := range b.said {
			t.Errorf("the console says %s", s)
		}
	})
	return b
}

// open goes to a page.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// look makes the window that large and the system's theme that one.
func (b *tab) look(width, height int64, theme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}}); err != nil {
		b.t.Fatal(err)
	}
}

// text is what people see of what a selector finds first, "" if it finds nothing or
// nothing is to be seen of it.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf(`(() => {
		const found = document.querySelector(%q);
		return found?.checkVisibility() ? found.innerText : "";
	})()`, selector))
}

// sees waits until what a selector finds contains a text.
func (b *tab) sees(selector, text string) {
	b.t.Helper()
	await(b.t, func() string {
		if now := b.text(selector); !strings.Contains(now, text) {
			return fmt.Sprintf("%s shows %q, not %q; the page: %s", selector, now, text, b.text("main"))
		}
		return ""
	})
}

// click clicks, once it is there, on what a selector finds.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeEnabled))
}

// press clicks the button with a text.
func (b *tab) press(label string) {
	b.t.Helper()
	await(b.t, func() string {
		if eval[bool](b, fmt.Sprintf(`(() => {
			const found = [...document.querySelectorAll("dialog[open] button, button")].filter((e) => e.checkVisibility() && !e.disabled && e.innerText.trim().startsWith(%q));
			found[0]?.click();
			return found.length > 0;
		})()`, label)) {
			return ""
		}
		return "there is no button " + label
	})
}

// fill replaces what is in a field, as typing does.
func (b *tab) fill(selector, words string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.value = %q;
		e.dispatchEvent(new Event("input", { bubbles: true }));
		return true;
	})()`, selector, words))
}

// row waits until the row that names a node shows a text.
func (b *tab) row(node, text string) {
	b.t.Helper()
	await(b.t, func() string {
		now := eval[string](b, fmt.Sprintf(`[...document.querySelectorAll("tbody tr")].find((r) => r.querySelector("a")?.innerText === %q)?.innerText ?? ""`, node))
		if !strings.Contains(now, text) {
			return fmt.Sprintf("the row of %s shows %q, not %q", node, now, text)
		}
		return ""
	})
}

// eval evaluates JavaScript in a tab.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("evaluate %.200s: %v", script, err)
	}
	return v
}
