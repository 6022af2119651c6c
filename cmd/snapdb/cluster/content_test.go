//go:build linux

package cluster_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // another SQLite in another process

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/subjects"
)

// tablesSQL lists what clients have made.
const tablesSQL = `SELECT name, type, sql FROM sqlite_schema WHERE name NOT LIKE '\_snapdb%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY type, name`

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// checksum is what a node answers when asked for the checksum of a database; ""
// is the master.
func (c *cluster) checksum(cl *client.Client, id, db string) string {
	c.t.Helper()
	var b []byte
	for _, row := range c.do(cl, door(id), &subjects.Request{DB: db, SQL: "SHOW CHECKSUM"}).Results[0].Rows {
		for _, v := range row {
			b = append(subjects.AppendValue(b, v), ' ')
		}
	}
	return string(b)
}

// content is what a database file holds, in short.
type content struct {
	incarnation, position uint64
	chain                 string
	tables, rows          int
	sum                   string
}

// openReadOnly opens a database file as any program would that only reads.
func openReadOnly(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// readFile reads a whole database file and checks that it is sound.
func readFile(t testing.TB, path string) content {
	t.Helper()
	db := openReadOnly(t, path)
	var c content
	var check string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Errorf("%s: integrity check: %s %v", path, check, err)
	}
	if err := db.QueryRow("SELECT incarnation, position, chain FROM _snapdb_applied").Scan(&c.incarnation, &c.position, &c.chain); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	sum := sha256.New()
	tables := hashRows(t, db, sum, tablesSQL, &c.tables)
	if strings.HasSuffix(path, subjects.Catalog+".db") {
		tables = []string{"_snapdb_databases"} // the others are this node's own
	}
	for _, table := range tables {
		hashRows(t, db, sum, "SELECT rowid, * FROM "+quote(table)+" ORDER BY rowid", &c.rows)
	}
	c.sum = hex.EncodeToString(sum.Sum(nil))
	return c
}

// hashRows adds the rows of a query to sum and their number to count. It returns
// the first columns of those that describe a table.
func hashRows(t testing.TB, db *sql.DB, sum hash.Hash, query string, count *int) (tables []string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		*count++
		for _, v := range values {
			fmt.Fprintf(sum, "%T %v\n", v, v)
		}
		if len(values) > 1 && values[1] == "table" {
			tables = append(tables, fmt.Sprint(values[0]))
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return tables
}
