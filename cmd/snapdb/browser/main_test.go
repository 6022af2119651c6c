//go:build linux

package browser_test

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/snapdb/snapdb/cmd/snapdb/processtest"
)

var (
	built  *processtest.Program // the binary under test, built once for the run
	chrome context.Context      // the one browser
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	path, err := chromium()
	if err != nil {
		if os.Getenv("SNAPDB_REQUIRE_BROWSER") == "1" {
			fmt.Fprintln(os.Stderr, "the tests of the panel need a Chromium:", err)
			return 1
		}
		fmt.Println("the tests of the panel are left out: there is no Chromium on this machine")
		return 0
	}
	dir, err := os.MkdirTemp("", "snapdb-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the program:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if built, err = processtest.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	defer stop()
	ctx, end := chromedp.NewContext(ctx)
	defer end()
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		fmt.Fprintln(os.Stderr, "start Chromium:", err)
		return 1
	}
	chrome = ctx
	return m.Run()
}

// chromium is where the browser is.
func chromium() (path string, err error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err = osexec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", err
}
