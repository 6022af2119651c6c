package shell

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
	"pgregory.net/rapid"

	"github.com/snapdb/snapdb/exec/engine"
)

// sqliteComplete is SQLite's own word on whether text ends a statement.
func sqliteComplete(t interface{ Fatal(...any) }, text string) bool {
	tls := libc.NewTLS()
	defer tls.Close()
	p, err := libc.CString(text)
	if err != nil {
		t.Fatal(err)
	}
	defer libc.Xfree(tls, p)
	return lib.Xsqlite3_complete(tls, p) != 0
}

// chunks reads a text in pieces of the given sizes, again and again.
type chunks struct {
	rest  string
	sizes []int
	next  int
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.rest == "" {
		return 0, io.EOF
	}
	n := len(c.rest)
	if len(c.sizes) > 0 {
		n = min(c.sizes[c.next%len(c.sizes)], n)
		c.next++
	}
	n = copy(p, c.rest[:n])
	c.rest = c.rest[n:]
	return n, nil
}

// split cuts a whole stream. The error is nil at its proper end.
func split(r io.Reader) (all []Statement, err error) {
	s := NewSplitter(r)
	for {
		st, err := s.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, st)
	}
}

// soup is what texts are made of at random: everything that matters to where a
// statement ends.
var soup = []string{
	";", ";", "\n", " ", "\t", "\r\n", "\f", "'", "'a;b'", "''", `"`, `"c;""d"`, "`", "`e;f`", "[", "[g;h]", "]",
	"--", "-- i; j\n", "-", "/", "*", "/*", "*/", "/* k; l */", "/**/", "/*/", "create", "CREATE", "temp", "TEMPORARY", "trigger",
	"Trigger", "begin", "end", "END", "END;", ";END;", "; end ;", "explain create", "EXPLAIN QUERY PLAN CREATE TEMP", "select", "x", "endx", "xend", "_end",
	"1", "$", "é", "\x80", "(", ")", ",", "CREATE TRIGGER t BEGIN SELECT 1; END;", "averyveryverylongname", "triggertriggertrigger",
}

func genSoup(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(soup), 0, 30).Draw(t, "text"), "")
}

func TestCompleteIsWhatSQLiteCallsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := genSoup(t) + "\n" // as typed
		// Blanks alone are complete here, as if a ';' came before: there is nothing
		// to wait for.
		if got, want := Complete(text), sqliteComplete(t, ";"+text); got != want {
			t.Errorf("Complete(%q) = %t, SQLite says %t", text, got, want)
		}
	})
}

// reference cuts a text where SQLite says that a statement is complete: behind
// the first ';' at which the text so far is.
func reference(t *rapid.T, text string) (pieces []string) {
	start := 0
	for i := range len(text) {
		if text[i] == ';' && sqliteComplete(t, text[start:i+1]) {
			if sql := text[start+engine.SkipBlank(text[start:i+1], 0) : i+1]; sql != "" {
				pieces = append(pieces, strings.TrimSpace(sql[:len(sql)-1]))
			}
			start = i + 1
		}
	}
	return pieces
}

func TestSplitterCutsWhereSQLiteDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := genSoup(t)
		sizes := rapid.SliceOfN(rapid.IntRange(1, 7), 0, 5).Draw(t, "sizes")
		want := reference(t, text)
		got, err := split(&chunks{rest: text, sizes: sizes})
		var pieces []string
		for i, st := range got {
			if st.Number != i+1 {
				t.Errorf("statement %d has number %d", i+1, st.Number)
			}
			if st.Ended {
				pieces = append(pieces, st.SQL)
			}
		}
		if !cmp.Equal(pieces, want) {
			t.Errorf("%q in chunks of %v is cut into %q, want %q", text, sizes, pieces, want)
		}
		var open *UnclosedError
		if err != nil && !errors.As(err, &open) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// valid are statements that can follow one another, in this order or another.
var valid = []string{
	"SELECT 1", "SELECT ';', \"a;b\" FROM (SELECT 1 AS \"a;b\")", "select [a;] from (select 2 as [a;]) -- c; d\n", "SELECT `x;y` FROM (SELECT 3 /* ; */ AS `x;y`)",
	"CREATE TABLE IF NOT EXISTS t (a, b)", "INSERT INTO t VALUES ('it''s;', x'3b')", "EXPLAIN SELECT 1", "EXPLAIN QUERY PLAN SELECT * FROM t",
	"CREATE TRIGGER IF NOT EXISTS tr AFTER INSERT ON t BEGIN UPDATE t SET a = 'end;'; DELETE FROM t WHERE b = ';END;' ; END",
	"create trigger if not exists tr2 /* ; */ before delete on t when old.a > 1 begin select case when 1 then ';' end; end",
	"explain create trigger tr3 after insert on t begin select 1; end",
	"CREATE VIEW IF NOT EXISTS \"end\" AS SELECT CASE a WHEN 1 THEN 2 END AS e FROM t", "WITH c AS (SELECT 4) SELECT * FROM c", "SELECT 1 - -1, 4 / 2, 'é;日本'",
	"SELECT\r\n  a -- comment; with '\r\n  , b\r\nFROM\tt", "", "-- nothing here\n", "/* nor ; here */",
}

func TestSplitterCutsValidScriptsAsTheEngineDoes(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom(valid), 1, 12).Draw(t, "statements")
		text := "CREATE TABLE IF NOT EXISTS t (a, b);\n" + strings.Join(parts, rapid.SampledFrom([]string{";", ";\n", " ;\r\n", ";;", "\n;\n-- c\n"}).Draw(t, "separator"))
		c, err := engine.Open(filepath.Join(dir, "x.db"), engine.Options{Trusted: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var want []string
		for off := 0; off < len(text); {
			st, n, err := c.Prepare(text, off, engine.GuardNone)
			if err != nil {
				t.Fatalf("prepare %q at %d: %v", text, off, err)
			}
			if st == nil {
				break
			}
			// What Prepare takes ends with the ';', and blanks and comments behind it.
			want = append(want, st.SQL())
			for {
				row, err := st.Step()
				if err != nil {
					t.Fatalf("execute %q: %v", st.SQL(), err)
				}
				if !row {
					break
				}
			}
			st.Close()
			off += n
		}
		got, err := split(&chunks{rest: text, sizes: rapid.SliceOfN(rapid.IntRange(1, 40), 0, 5).Draw(t, "sizes")})
		if err != nil {
			t.Fatal(err)
		}
		var pieces []string
		for _, st := range got {
			pieces = append(pieces, st.SQL)
		}
		if !cmp.Equal(pieces, want) {
			t.Errorf("cut differs from the engine's (-want +got):\n%s", cmp.Diff(want, pieces))
		}
	})
}

func TestSplitterTellsLinesAndDotCommands(t *testing.T) {
	text := "\ufeff-- head\r\n\r\nSELECT 1;SELECT\n 2;\n  .format json \n\n;;.read x; y\n/* a\nb */ SELECT 3\n  -- end"
	want := []Statement{
		{SQL: "SELECT 1", Line: 3, Number: 1, Ended: true},
		{SQL: "SELECT\n 2", Line: 3, Number: 2, Ended: true},
		{SQL: ".format json", Dot: true, Line: 5, Number: 2, Ended: true},
		{SQL: ".read x; y", Dot: true, Line: 7, Number: 2, Ended: true},
		{SQL: "SELECT 3\n  -- end", Line: 9, Number: 3},
	}
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)), "error late": iotest.DataErrReader(strings.NewReader(text))} {
		got, err := split(r)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(want, got))
		}
	}
}

func TestSplitterSaysWhatIsNotClosed(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1;\nSELECT 'a;\n":           "line 2: the statement that begins here does not end: the quote ' is not closed",
		"SELECT \"a;":                       "line 1: the statement that begins here does not end: the quote \" is not closed",
		"\n\nSELECT [a;":                    "line 3: the statement that begins here does not end: the bracket [ is not closed",
		"SELECT 1;\n/* a\n*/\n\n/* b;\nc\n": "line 5: the statement that begins here does not end: the comment /* is not closed",
		"SELECT 1 /* a;\n\n":                "line 1: the statement that begins here does not end: the comment /* is not closed",
		"SELECT 1 /* a;":                    "line 1: the statement that begins here does not end: the comment /* is not closed",
		"CREATE TRIGGER a AFTER INSERT ON t BEGIN\nSELECT 1;\nEND": "",
		"CREATE TRIGGER a AFTER INSERT ON t BEGIN\nSELECT 1;\n":    "line 1: the statement that begins here does not end: the trigger has no END;",
	} {
		_, err := split(strings.NewReader(text))
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSplitterRefusesStatementsTooLongToSend(t *testing.T) {
	long := "SELECT 1;\n\nSELECT '" + strings.Repeat("x", maxStatement) + "';"
	all, err := split(strings.NewReader(long))
	var tooLong *TooLongError
	if !errors.As(err, &tooLong) || tooLong.Line != 3 || len(all) != 1 {
		t.Errorf("%d statements, then %v", len(all), err)
	}
	broken := errors.New("the disk is gone")
	if all, err := split(io.MultiReader(strings.NewReader("SELECT 1; SELECT"), iotest.ErrReader(broken))); !errors.Is(err, broken) || len(all) != 1 {
		t.Errorf("%d statements, then %v", len(all), err)
	}
}

// A comment or blanks of any length before a statement need no memory.
func TestSplitterForgetsWhatStandsBetweenStatements(t *testing.T) {
	filler := strings.Repeat("-- nothing\n \n", 100)
	readers := []io.Reader{strings.NewReader("SELECT 1;")}
	for range 20_000 {
		readers = append(readers, strings.NewReader(filler))
	}
	readers = append(readers, strings.NewReader("SELECT 2;"))
	s := NewSplitter(io.MultiReader(readers...))
	for i, line := range []int{1, 1 + 20_000*200} {
		st, err := s.Next()
		if err != nil || st.Line != line {
			t.Fatalf("statement %d: line %d, %v; want line %d", i+1, st.Line, err, line)
		}
	}
	if n := cap(s.buf); n > 1<<20 {
		t.Errorf("the splitter has grown to %d bytes", n)
	}
}

// FuzzSplitter cuts any bytes. However they arrive, the pieces are the same, are
// found in the text in order, on the line they say, and nothing but blanks,
// comments and ';' is left out.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte(strings.Join(valid, ";\n")), 3)
	f.Add([]byte(strings.Join(soup, "")), 1)
	f.Add([]byte(strings.Join(soup, " ")), 64)
	f.Add([]byte(".read x\nSELECT 1;\x00;"), 2)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		want, wantErr := split(bytes.NewReader(text))
		got, err := split(&chunks{rest: string(text), sizes: []int{max(1, size%100)}})
		if !cmp.Equal(got, want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("in chunks of %d: %v\n%s", size, err, cmp.Diff(want, got))
		}
		rest := strings.TrimPrefix(string(text), "\ufeff")
		line := 1
		for _, st := range want {
			at := strings.Index(rest, st.SQL)
			if at < 0 {
				t.Fatalf("%q is not in what is left, %q", st.SQL, rest)
			}
			if line += strings.Count(rest[:at], "\n"); !st.Dot && st.Line != line {
				// The first occurrence may be in a comment before it.
				if between := rest[:at]; !strings.Contains(between, "--") && !strings.Contains(between, "/*") {
					t.Fatalf("%q is on line %d, found on %d", st.SQL, st.Line, line)
				}
			}
			line += strings.Count(st.SQL, "\n")
			rest = rest[at+len(st.SQL):]
		}
	})
}
