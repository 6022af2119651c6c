//go:build linux

package browser_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/subjects"
)

// evil runs a script if it gets into a page as anything but text.
const evil = `<img src=x onerror=document.title='taken'>`

// unharmed fails the test if a page has taken evil for HTML. That it was tried and
// the policy prevented it is said by the console, which [newTab] listens to.
func (b *tab) unharmed(where string) {
	b.t.Helper()
	if eval[bool](b, `document.title === "taken" || document.querySelector("img[src=x]") !== null`) {
		b.t.Errorf("%s: a text became HTML", where)
	}
}

// What comes from the cluster gets into every page as text, whatever it is. (The id of
// a node cannot hold more than letters, digits and two signs.)
func TestTextsOfTheClusterAreNotExecuted(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	c.startSlave("snap1", "--label", "room="+evil)
	b := newTab(t, false)
	quoted := strings.ReplaceAll(evil, "'", "''")
	c.sql("CREATE DATABASE Evil")
	c.sql(fmt.Sprintf(`CREATE TABLE "%[1]s" ("%[1]s" TEXT DEFAULT '%[2]s', n INTEGER DEFAULT 1); CREATE INDEX "i%[1]s" ON "%[1]s" (n); INSERT INTO "%[1]s" DEFAULT VALUES`, evil, quoted), "--db", "Evil")
	awaitPanel(c, b)
	b.row("snap1", evil)
	b.unharmed("the list of nodes")

	b.open(c.url + "/nodes/snap1")
	b.sees("main", evil)
	b.unharmed("the page of a node")

	b.open(c.url + "/databases?db=Evil")
	b.sees("#tables", evil)
	b.sees(".gridbox td.text", evil)
	b.press("Columns")
	b.sees("#shown", evil)
	b.unharmed("the page of databases")

	b.evilResult(c)
	newTab(t, true).evilRefusal(c)
	b.evilFile(c)
	b.evilLog(c)
}

// evilResult has SQL return evil.
func (b *tab) evilResult(c *cluster) {
	b.t.Helper()
	b.open(c.url + "/sql?db=Evil")
	b.live()
	b.awaitDatabase("Evil")
	b.write(`SELECT * FROM "` + evil + `"`)
	b.click("#run")
	b.sees(".gridbox thead", evil)
	b.sees(".gridbox td.text", evil)
	b.press("Chart")
	b.do(chromedp.WaitVisible(chromedp.CSS(".chart svg")))
	b.unharmed("the page of SQL")
}

// evilRefusal has SQL refused with evil in the reason.
func (b *tab) evilRefusal(c *cluster) {
	b.t.Helper()
	b.open(c.url + "/sql?db=Evil")
	b.live()
	b.awaitDatabase("Evil")
	b.write(`SELECT * FROM "no` + evil + `"`)
	b.click("#run")
	b.sees("main", "no such table: no"+evil)
	b.unharmed("the page of SQL")
}

// evilFile pushes a file whose name is evil.
func (b *tab) evilFile(c *cluster) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), evil+".txt")
	if err := os.WriteFile(file, []byte(evil), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.open(c.url + "/files?do=push&nodes=snap1")
	b.live()
	b.do(chromedp.SetUploadFiles(chromedp.ID("file"), []string{file}, chromedp.NodeReady))
	b.sees("#words", evil)
	b.press("Push to 1 node")
	b.sees("main", evil)
	await(b.t, func() string {
		if b.text("#outcome-table") == "" && b.text("#trouble") == "" {
			return "nothing says what became of the file"
		}
		return ""
	})
	b.unharmed("the page of files")
	b.open(c.url)
	b.live()
	b.do(clickTick("snap1"))
	b.press("Labels…")
	b.do(chromedp.SendKeys(chromedp.CSS("dialog input.mono"), "door="+evil))
	b.press("Change labels")
	b.open(c.url + "/commands")
	b.sees("main", "door="+evil)
	b.unharmed("the page of commands")
}

// evilLog has a node say evil.
func (b *tab) evilLog(c *cluster) {
	b.t.Helper()
	b.open(c.url + "/logs")
	b.live()
	nc, err := nats.Connect("nats://" + c.nats)
	if err != nil {
		b.t.Fatal(err)
	}
	defer nc.Close()
	line, err := json.Marshal(map[string]string{"level": "WARN", "msg": evil, evil: evil})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := nc.Publish(subjects.NodeLog("snap1"), line); err != nil {
		b.t.Fatal(err)
	}
	b.sees(".loglist .scroller", evil)
	b.unharmed("the page of logs")
}
