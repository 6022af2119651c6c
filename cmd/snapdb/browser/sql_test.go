//go:build linux

package browser_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// write puts SQL into the editor, as typing does.
func (b *tab) write(sql string) {
	b.t.Helper()
	b.fill("#sql", sql)
}

// awaitDatabase waits until the page of SQL has chosen a database.
func (b *tab) awaitDatabase(name string) {
	b.t.Helper()
	await(b.t, func() string {
		if eval[string](b, `document.querySelector("#db").value`) != name {
			return "the database cannot be chosen yet"
		}
		return ""
	})
}

func TestSQLTypedIsOnSlavesAndInTheChart(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	b := newTab(t, false)
	c.sql("CREATE DATABASE Shop")
	awaitPanel(c, b)
	b.row("snap1", "online")
	b.row("snap2", "online")
	b.open(c.url + "/databases")
	b.row("Shop", "snap1, snap2") // are in sync: an answer waits for both
	b.open(c.url + "/sql?db=Shop")
	b.live()
	b.awaitDatabase("Shop")
	const sql = "CREATE TABLE sales (region TEXT, amount REAL); INSERT INTO sales VALUES ('north', 12.5), ('south', 30), ('east', 7)"
	b.do(chromedp.SendKeys(chromedp.ID("sql"), sql))
	b.click("#run")
	b.sees("#outcome", "3 rows changed")
	b.sees("#outcome", "applied by snap1, snap2")
	for _, id := range []string{"snap1", "snap2"} {
		if got := rows(t, c.sql("SELECT count(*) AS n FROM sales", "--db", "Shop", "--node", id)); got[0]["n"] != 3.0 {
			t.Errorf("%s has %v", id, got)
		}
	}

	b.write("SELECT region, amount + 1 AS n FROM sales ORDER BY amount DESC") // beside a name n is a figure, not the number of a row
	b.click("#run")
	b.sees("#result-head h2", "3 rows")
	b.press("Chart")
	b.chartSays("south 31")
	b.write("SELECT region, amount FROM sales ORDER BY amount DESC")
	b.click("#run")
	await(t, func() string {
		if n := eval[int](b, `document.querySelectorAll(".chart .bar").length`); n != 3 {
			return fmt.Sprintf("the chart has %d bars", n)
		}
		return ""
	})
	b.chartSays("south 30")
	b.savesWhatIsShown(t.TempDir())
	b.monthsFollowOneAnother()
	b.press("History")
	b.focused("Search the history")
	b.press("Close")
	b.longResultsStayFast()

	// What would empty a table asks first, and Escape is a no.
	b.write("DELETE FROM sales")
	b.click("#run")
	b.sees("dialog", "it has no WHERE")
	b.press("Cancel")
	if got := rows(t, c.sql("SELECT count(*) AS n FROM sales", "--db", "Shop")); got[0]["n"] != 3.0 {
		t.Errorf("after Cancel there are %v", got)
	}
}

// chartSays waits until a chart says that of itself.
func (b *tab) chartSays(words string) {
	b.t.Helper()
	await(b.t, func() string {
		if label := eval[string](b, `document.querySelector(".chart svg")?.getAttribute("aria-label") ?? ""`); !strings.Contains(label, words) {
			return fmt.Sprintf("the chart says of itself %q, not %q", label, words)
		}
		return ""
	})
}

// monthsFollowOneAnother draws years of months, on whose axis no two words are the same.
func (b *tab) monthsFollowOneAnother() {
	b.t.Helper()
	b.write("WITH RECURSIVE m (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM m WHERE i < 119) SELECT date('2016-02-01', i || ' months') AS day, i * 10000 AS sold FROM m")
	b.click("#run")
	b.sees("#result-head h2", "120 rows")
	b.press("Chart")
	await(b.t, func() string {
		words := eval[[]string](b, `[...document.querySelectorAll(".chart svg text")].map((e) => e.textContent).filter((s) => /^\d{4}(-\d\d)?$/.test(s))`)
		if len(words) < 3 || !slices.IsSorted(words) || len(slices.Compact(slices.Clone(words))) < len(words) {
			return fmt.Sprintf("the axis has %q", words)
		}
		return ""
	})
	b.press("Rows")
}

// savesWhatIsShown saves a result, in the order that was chosen in the grid, as files
// whose every byte is known.
func (b *tab) savesWhatIsShown(dir string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir}); err != nil {
		b.t.Fatal(err)
	}
	b.press("Rows")
	b.write(`SELECT 2 AS n, 'a "quoted", word' AS "te,xt", NULL AS missing, '' AS empty, 9223372036854775807 AS large, x'00ff' AS bytes, 30.0 AS amount
		UNION ALL SELECT 1, 'two' || char(10) || 'lines', 'ä', ' ', -9007199254740993, NULL, 1e999
		UNION ALL SELECT 3, '', '-', '-', 9007199254740993.0, 30, -0.5e300`)
	b.click("#run")
	b.sees(".gridbox thead", "te,xt")
	b.click(".gridbox thead th:nth-child(2) button")
	b.sees(".gridbox tbody tr[data-row='0']", "lines")
	for name, want := range map[string]string{
		"result.csv": "n,\"te,xt\",missing,empty,large,bytes,amount\r\n" +
			"1,\"two\nlines\",ä,\" \",-9007199254740993,,Inf\r\n" +
			"2,\"a \"\"quoted\"\", word\",,\"\",9223372036854775807,x'00ff',30.0\r\n" +
			"3,\"\",-,-,9007199254740992.0,30,-5e+299\r\n",
		"result.json": "[\n" +
			`{"n":1,"te,xt":"two\nlines","missing":"ä","empty":" ","large":-9007199254740993,"bytes":null,"amount":{"real":"+Inf"}},` + "\n" +
			`{"n":2,"te,xt":"a \"quoted\", word","missing":null,"empty":"","large":9223372036854775807,"bytes":{"blob":"AP8="},"amount":30.0},` + "\n" +
			`{"n":3,"te,xt":"","missing":"-","empty":"-","large":9007199254740992.0,"bytes":30,"amount":-5e+299}` + "\n]\n",
	} {
		b.press(strings.ToUpper(strings.TrimPrefix(filepath.Ext(name), ".")))
		await(b.t, func() string {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				return err.Error()
			}
			return ""
		})
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			b.t.Fatal(err)
		}
		if string(got) != want {
			b.t.Errorf("%s is\n%q, not\n%q", name, got, want)
		}
	}
}

// longResultsStayFast: ten thousand rows do not become ten thousand elements, and the
// last one can be reached by the keyboard.
func (b *tab) longResultsStayFast() {
	b.t.Helper()
	b.write("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT i, 'row ' || i AS words, 9007199254740993 AS large FROM n")
	b.click("#run")
	b.sees("#result-head h2", "10,000 rows")
	if n := eval[int](b, `document.querySelectorAll(".gridbox tbody tr").length`); n > 200 {
		b.t.Errorf("%d rows are in the page", n)
	}
	b.sees(".gridbox tbody", "9007199254740993")
	eval[bool](b, `(() => {
		const box = document.querySelector(".gridbox");
		box.focus();
		for (const key of ["ArrowDown", "End"]) box.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
		return true;
	})()`)
	b.sees(".gridbox td.active", "10000")
}
