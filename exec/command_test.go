package exec_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

func TestParseCommand(t *testing.T) {
	create := func(name string, only bool) exec.Command {
		return exec.Command{Verb: exec.CreateDatabase, Name: name, If: only}
	}
	verb := func(v exec.Verb) exec.Command { return exec.Command{Verb: v} }
	for sql, want := range map[string]exec.Command{
		"CREATE DATABASE SnapDB":                            create("SnapDB", false),
		"create database snapdb;":                           create("snapdb", false),
		"CREATE DATABASE \"My DB\";":                        create("My DB", false),
		"CREATE DATABASE 'a''b'":                            create("a'b", false),
		"CREATE DATABASE `a``b`;":                           create("a`b", false),
		"CREATE DATABASE [a b]":                             create("a b", false),
		"CREATE DATABASE \"a\"\"b\"":                        create(`a"b`, false),
		"CREATE DATABASE \"if\"":                            create("if", false),
		"CREATE DATABASE ''":                                create("", false),
		"CREATE SCHEMA s":                                   create("s", false),
		"CREATE DATABASE IF NOT EXISTS d;":                  create("d", true),
		"CREATE/**/DATABASE--x\n/* y */IF NOT\tEXISTS\r\nd": create("d", true),
		"-- first\nCREATE DATABASE d -- last":               create("d", false),
		"\xef\xbb\xbf;; CREATE DATABASE d":                  create("d", false),
		"CREATE DATABASE été":                               create("été", false),
		"DROP DATABASE d":                                   {Verb: exec.DropDatabase, Name: "d"},
		"drop schema if exists [d];":                        {Verb: exec.DropDatabase, Name: "d", If: true},
		"USE d":                                             {Verb: exec.Use, Name: "d"},
		"use `d`;":                                          {Verb: exec.Use, Name: "d"},
		"SHOW DATABASES":                                    verb(exec.ShowDatabases),
		"show schemas;":                                     verb(exec.ShowDatabases),
		"SHOW TABLES":                                       verb(exec.ShowTables),
		"SHOW CHECKSUM":                                     verb(exec.ShowChecksum),
		"SHOW SLAVES":                                       verb(exec.ShowSlaves),
		"SHOW REPLICAS":                                     verb(exec.ShowSlaves),
		"SHOW MASTER STATUS;":                               verb(exec.ShowMasterStatus),
		"SHOW CREATE TABLE 't'":                             {Verb: exec.ShowCreateTable, Name: "t"},
		"DESCRIBE t":                                        {Verb: exec.Describe, Name: "t"},
		"desc \"select\"":                                   {Verb: exec.Describe, Name: "select"},
		"BEGIN":                                             verb(exec.Begin),
		"BEGIN TRANSACTION;":                                verb(exec.Begin),
		"begin deferred transaction":                        verb(exec.Begin),
		"BEGIN IMMEDIATE":                                   verb(exec.BeginImmediate),
		"BEGIN EXCLUSIVE TRANSACTION":                       verb(exec.BeginImmediate),
		"COMMIT":                                            verb(exec.Commit),
		"END TRANSACTION":                                   verb(exec.Commit),
		"ROLLBACK;":                                         verb(exec.Rollback),
		"ROLLBACK TRANSACTION":                              verb(exec.Rollback),
		"":                                                  {},
		";":                                                 {},
		"-- CREATE DATABASE d":                              {},
		"/* unterminated CREATE DATABASE d":                 {},
		"SELECT 1":                                          {},
		"CREATE TABLE database (x)":                         {},
		"CREATE \"DATABASE\" d":                             {},
		"\"CREATE\" DATABASE d":                             {},
		"DROP TABLE d":                                      {},
		"ROLLBACK TO s":                                     {},
		"rollback transaction to savepoint s":               {},
		"SAVEPOINT s":                                       {},
		"EXPLAIN SELECT 1":                                  {},
		"INSERT INTO t VALUES ('USE d')":                    {},
		"used":                                              {},
		"BEGINNING":                                         {},
		"WITH use AS (SELECT 1) SELECT * FROM use":          {},
		"\x00":               {},
		"\xff\xfe":           {},
		"\"unterminated":     {},
		"CREATE DATABASES d": {},
		"CREATE TRIGGER t AFTER INSERT ON u BEGIN SELECT 1; END": {},
	} {
		got, n, err := exec.ParseCommand(sql)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", sql, got, err, want)
		}
		if want.Verb != exec.NoCommand && n != len(sql) {
			t.Errorf("%q: takes %d bytes of it", sql, n)
		}
	}
}

func TestCommandSyntaxErrors(t *testing.T) {
	for sql, offset := range map[string]int{
		"CREATE DATABASE":                    15,
		"CREATE DATABASE ;":                  16,
		"CREATE DATABASE IF EXISTS d":        19,
		"CREATE DATABASE IF NOT d":           23,
		"CREATE DATABASE a b":                18,
		"CREATE DATABASE a.b":                17,
		"CREATE DATABASE ../x":               16,
		"CREATE DATABASE \"unterminated":     16,
		"CREATE DATABASE \"a\" \"b\"":        20,
		"CREATE DATABASE a \"\"":             18,
		"CREATE DATABASE a \";\"":            18,
		"DROP DATABASE":                      13,
		"DROP DATABASE IF NOT EXISTS d":      17,
		"USE":                                3,
		"USE ;":                              4,
		"USE a, b":                           5,
		"SHOW":                               4,
		"SHOW ME":                            5,
		"SHOW MASTER":                        11,
		"SHOW MASTER TABLES":                 12,
		"SHOW MASTER CREATE TABLE t":         12,
		"SHOW CREATE VIEW v":                 12,
		"SHOW CREATE TABLE":                  17,
		"SHOW TABLES FROM d":                 12,
		"SHOW CHECKSUM t":                    14,
		"DESCRIBE":                           8,
		"DESC t x":                           7,
		"BEGIN CONCURRENT":                   6,
		"COMMIT WORK":                        7,
		"ROLLBACK WORK":                      9,
		"/* é */ USE":                        12,
		"BEGIN; x":                           -1, // the rest is not looked at
		"CREATE DATABASE d; CREATE DATABASE": -1,
	} {
		_, n, err := exec.ParseCommand(sql)
		if offset < 0 {
			if err != nil || n == 0 {
				t.Errorf("%q: %d, %v", sql, n, err)
			}
			continue
		}
		var we *subjects.Error
		if !errors.As(err, &we) || we.Code != subjects.CodeSyntax || we.Offset != offset || n != 0 {
			t.Errorf("%q: %+v, want a syntax error at %d", sql, err, offset)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, sql := range []string{
		"CREATE DATABASE IF NOT EXISTS \"a\"\"b\";", "DROP SCHEMA [x] -- y", "use `a``", "SHOW CREATE TABLE 'a''b' ; SELECT 1", "SHOW MASTER STATUS",
		"BEGIN IMMEDIATE TRANSACTION", "ROLLBACK TO x", "\xef\xbb\xbf/*", "DESC \x00", "END;;;", "SELECT 1",
	} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		cmd, n, err := exec.ParseCommand(sql)
		if err != nil {
			var we *subjects.Error
			if !errors.As(err, &we) || we.Code != subjects.CodeSyntax || we.Offset < 0 || we.Offset > len(sql) || cmd != (exec.Command{}) || n != 0 {
				t.Errorf("%+v, %d, %+v", cmd, n, err)
			}
			return
		}
		if cmd.Verb == exec.NoCommand {
			if n != 0 || cmd != (exec.Command{}) {
				t.Errorf("%+v, %d", cmd, n)
			}
			return
		}
		if n <= 0 || n > len(sql) || n < len(sql) && sql[n-1] != ';' {
			t.Fatalf("%+v takes %d of %d bytes", cmd, n, len(sql))
		}
		if again, m, err := exec.ParseCommand(sql[:n]); again != cmd || m != n || err != nil {
			t.Errorf("what it takes is %+v, %d, %v by itself, not %+v", again, m, err, cmd)
		}
		if exec.LooksLikeWrite(sql) && cmd.Verb != exec.CreateDatabase && cmd.Verb != exec.DropDatabase {
			t.Errorf("%+v looks like a write", cmd)
		}
		// Whatever name was meant, quoting it means it again.
		if cmd.Name != "" {
			again, _, err := exec.ParseCommand("USE " + exec.QuoteName(cmd.Name) + ";")
			if diff := cmp.Diff(exec.Command{Verb: exec.Use, Name: cmd.Name}, again); err != nil || diff != "" {
				t.Errorf("quoted: %v %s", err, diff)
			}
		}
	})
}

func TestBlank(t *testing.T) {
	for sql, want := range map[string]bool{
		"": true, " \t\r\n\f": true, "-- x": true, "-- x\n/* y */ ;;": true, "/* open": true, "\xef\xbb\xbf": true,
		"x": false, "--\nx": false, "/**/x": false, "\x00": false, "-": false, "/": false,
	} {
		if got := exec.Blank(sql); got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
}

func TestLooksLikeWrite(t *testing.T) {
	for sql, want := range map[string]bool{
		"INSERT INTO t": true, "-- x\n update t": true, ";delete": true, "REPLACE": true, "create table": true, "Alter": true, "drop": true,
		"SELECT 1": false, "WITH x AS (SELECT 1) INSERT": false, "": false, "inserted": false,
	} {
		if got := exec.LooksLikeWrite(sql); got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
}
