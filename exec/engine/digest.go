package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// What the digest covers besides results. The versions are those in go.mod.
const (
	sqliteModule = "modernc.org/sqlite v1.61.1"
	libcModule   = "modernc.org/libc v1.79.0"
	// rules counts the changes of this package that make a statement do something
	// else: a limit, a setting, a guard, the sequence behind random().
	rules = 1
)

// battery is SQL whose results depend on how SQLite and its C library were built.
var battery = []string{
	`SELECT exp(1.1), pow(1.1, 7.3), sin(1e6), cos(0.7), tan(1.3), asin(0.3), acos(0.3), atan2(1.7, -2.3), ln(7.7), log10(3.3), log2(5.5), sinh(1.2), cosh(1.2), tanh(0.4), asinh(0.9), acosh(1.9), atanh(0.3), sqrt(2.0), degrees(1.0), radians(77.0), pi(), mod(7.5, 2.2), ceil(-1.5), trunc(-1.5)`,
	`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) SELECT group_concat(exp(i/7.0)||','||sin(i*1.7)||','||pow(i, 0.37)||','||ln(i+0.1), ';') FROM n`,
	`SELECT printf('%g %f %.17g %e %.3f %10.2f', 0.1, 1e15, 1.0/3, 123456.789, 2.5, -7.125), printf('%.20g|%!.20g|%d|%,d', 1e300, 0.1, 1<<40, 1234567)`,
	`SELECT CAST(0.1 AS TEXT), CAST(1e21 AS TEXT), CAST(1.0/3 AS TEXT), CAST(5e-324 AS TEXT), CAST(1.7976931348623157e308 AS TEXT), 9e999, -9e999, CAST('1e-400' AS REAL), CAST('0.30000000000000004' AS REAL), CAST(9007199254740993 AS REAL)`,
	`SELECT round(2.5), round(-0.5), round(1.005, 2), round(1e17, 1), sum(x), avg(x), total(x) FROM (SELECT 0.1 AS x UNION ALL SELECT 0.2 UNION ALL SELECT 1e16 UNION ALL SELECT -1e16)`,
	`SELECT datetime(1700000000, 'unixepoch', 'localtime'), datetime(1710000000, 'unixepoch', 'utc'), julianday('2024-02-29 12:34:56.789'), strftime('%Y-%m-%d %H:%M:%f %j %W %w %s', 1e9, 'unixepoch'), date('2024-01-31', '+1 month'), timediff('2024-03-01', '2023-02-28'), unixepoch('2038-01-19 03:14:08')`,
	`SELECT upper('aä'), lower('AÄ'), 'a'<'B', 'a'='A' COLLATE NOCASE, 'ä' LIKE 'Ä', 'a' LIKE 'A', 'abc' GLOB 'a[b-d]*', soundex('Robert'), unicode('€'), hex(char(8364)), instr('naïve','v'), substr('naïve',3,1)`,
	`SELECT json('{"a":[1,2.50,"x"]}'), json_extract('[1.10,1e5]','$[1]'), json_quote(0.1), hex(jsonb('[1,"a"]')), json_group_array(1.0)`,
	`SELECT typeof(9223372036854775807+1), 9223372036854775807+1, -9223372036854775808/-1, 7%-3, -7/2, 1<<63, ~5, '12abc'+1, x'3132'+1, CAST('0x1F' AS INTEGER), 1e0=1`,
	`SELECT random(), hex(randomblob(9)), random()`,
}

// Digest identifies everything that decides what a statement does: SQLite, how it
// was built, and this package. Nodes with different digests may get different
// content from the same statements. It has 16 hexadecimal digits.
func Digest() (string, error) {
	c, err := Open(":memory:", Options{})
	if err != nil {
		return "", fmt.Errorf("engine digest: %w", err)
	}
	defer c.Close()
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\nrules %d\n", libc.GoString(lib.Xsqlite3_sourceid(c.tls)), sqliteModule, libcModule, rules)
	c.Seed(1, 1)
	for _, sql := range battery {
		out, err := c.render(sql)
		if err != nil {
			return "", fmt.Errorf("engine digest: %w", err)
		}
		fmt.Fprintln(h, out)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// render is the first row of a query with the exact bits of every value.
func (c *Conn) render(sql string) (string, error) {
	st, _, err := c.Prepare(sql, 0, GuardRead)
	if err != nil {
		return "", err
	}
	defer st.Close()
	if _, err := st.Step(); err != nil {
		return "", err
	}
	var out strings.Builder
	for i := range st.ColumnCount() {
		v := st.Column(i)
		fmt.Fprintf(&out, "%s %d %b %q\n", v.Kind(), v.Int(), v.Float(), v.Bytes())
	}
	return out.String(), nil
}

// Version is SQLite's own, such as 3.50.1.
func Version() string { return lib.SQLITE_VERSION }
