package exec

import (
	"strings"

	"github.com/snapdb/snapdb/exec/engine"
	"github.com/snapdb/snapdb/subjects"
)

// Verb is what a command does.
type Verb uint8

// The commands that SQLite does not have, and those by which a session begins and
// ends its transactions, which are the cluster's before they are SQLite's.
const (
	NoCommand Verb = iota
	CreateDatabase
	DropDatabase
	Use
	ShowDatabases
	ShowTables
	ShowSlaves
	ShowMasterStatus
	ShowChecksum
	ShowCreateTable
	Describe
	Begin          // BEGIN [DEFERRED] [TRANSACTION]
	BeginImmediate // BEGIN IMMEDIATE or EXCLUSIVE
	Commit         // COMMIT or END
	Rollback       // ROLLBACK without TO
)

// Command is one of snapdb's own statements.
type Command struct {
	Verb Verb
	Name string // of the database or table
	If   bool   // IF NOT EXISTS, IF EXISTS
}

// ParseCommand looks whether sql begins with one of snapdb's own commands. n is
// how much of sql it takes, its ';' included. A Verb of NoCommand means that sql
// is SQLite's business. The error is for a text that can only be meant as a
// command but is not a correct one.
func ParseCommand(sql string) (cmd Command, n int, err error) {
	p := words{sql: sql, at: engine.SkipBlank(sql, 0)}
	p.advance()
	switch {
	case p.take("create"):
		if !p.take("database") && !p.take("schema") {
			return Command{}, 0, nil
		}
		cmd.Verb = CreateDatabase
		cmd.If = p.take("if")
		if cmd.If && !(p.take("not") && p.take("exists")) {
			return Command{}, 0, p.wrong("CREATE DATABASE [IF NOT EXISTS] name")
		}
		cmd.Name, err = p.name("CREATE DATABASE [IF NOT EXISTS] name")
	case p.take("drop"):
		if !p.take("database") && !p.take("schema") {
			return Command{}, 0, nil
		}
		cmd.Verb = DropDatabase
		cmd.If = p.take("if")
		if cmd.If && !p.take("exists") {
			return Command{}, 0, p.wrong("DROP DATABASE [IF EXISTS] name")
		}
		cmd.Name, err = p.name("DROP DATABASE [IF EXISTS] name")
	case p.take("use"):
		cmd.Verb = Use
		cmd.Name, err = p.name("USE name")
	case p.take("describe"), p.take("desc"):
		cmd.Verb = Describe
		cmd.Name, err = p.name("DESCRIBE table")
	case p.take("show"):
		cmd, err = p.show()
	case p.take("begin"):
		cmd.Verb = Begin
		if p.take("immediate") || p.take("exclusive") {
			cmd.Verb = BeginImmediate
		} else {
			p.take("deferred")
		}
		p.take("transaction")
	case p.take("commit"), p.take("end"):
		cmd.Verb = Commit
		p.take("transaction")
	case p.take("rollback"):
		p.take("transaction")
		if strings.EqualFold(p.word, "to") {
			return Command{}, 0, nil
		}
		cmd.Verb = Rollback
	default:
		return Command{}, 0, nil
	}
	if err != nil {
		return Command{}, 0, err
	}
	if p.quoted || p.word != ";" && p.word != "" {
		return Command{}, 0, p.wrong("end of the command")
	}
	return cmd, p.at, nil
}

func (p *words) show() (cmd Command, err error) {
	const known = "SHOW DATABASES, TABLES, CHECKSUM, SLAVES, REPLICAS, MASTER STATUS or CREATE TABLE name"
	switch {
	case p.take("databases"), p.take("schemas"):
		cmd.Verb = ShowDatabases
	case p.take("tables"):
		cmd.Verb = ShowTables
	case p.take("checksum"):
		cmd.Verb = ShowChecksum
	case p.take("slaves"), p.take("replicas"):
		cmd.Verb = ShowSlaves
	case p.take("master"):
		cmd.Verb = ShowMasterStatus
		if !p.take("status") {
			err = p.wrong(known)
		}
	case p.take("create"):
		cmd.Verb = ShowCreateTable
		if !p.take("table") {
			return cmd, p.wrong(known)
		}
		cmd.Name, err = p.name(known)
	default:
		err = p.wrong(known)
	}
	return cmd, err
}

// Blank says whether nothing but spaces, comments and empty statements is left of
// sql.
func Blank(sql string) bool { return engine.SkipBlank(sql, 0) == len(sql) }

// LooksLikeWrite guesses from its first word that sql writes, so that it need not
// be tried on a reader first. A wrong guess costs time, nothing else.
func LooksLikeWrite(sql string) bool {
	p := words{sql: sql, at: engine.SkipBlank(sql, 0)}
	p.advance()
	switch strings.ToLower(p.word) {
	case "insert", "update", "delete", "replace", "create", "drop", "alter":
		return true
	}
	return false
}

// ChangesSchema says whether a statement of sql makes, changes or removes a database, a
// table or another part of a schema, by the words that statements begin with: a trigger's
// body counts as statements too.
func ChangesSchema(sql string) bool {
	p := words{sql: sql}
	for first := true; p.at < len(p.sql); {
		p.advance()
		if first && !p.quoted {
			switch strings.ToLower(p.word) {
			case "create", "drop", "alter":
				return true
			}
		}
		first = !p.quoted && p.word == ";"
	}
	return false
}

// words reads a command word by word, by SQLite's rules for spaces, comments and
// quoted names.
type words struct {
	sql    string
	start  int    // of word
	at     int    // behind word
	word   string // the current one, "" at the end
	quoted bool
	bad    bool // an unterminated quote
}

// take goes to the next word if the current one is the given keyword.
func (p *words) take(keyword string) bool {
	if p.quoted || !strings.EqualFold(p.word, keyword) {
		return false
	}
	p.advance()
	return true
}

func (p *words) name(usage string) (string, error) {
	if p.bad || !p.quoted && !isName(p.word) {
		return "", p.wrong(usage)
	}
	name := p.word
	p.advance()
	return name, nil
}

func (p *words) wrong(usage string) *subjects.Error {
	near := p.word
	if near == "" && !p.quoted {
		near = "end of input"
	}
	e := subjects.Errorf(subjects.CodeSyntax, "near %q: syntax error, expected %s", clip(near), usage)
	e.Offset = p.start
	return e
}

func (p *words) advance() {
	p.skip()
	p.start, p.quoted = p.at, false
	if p.at >= len(p.sql) {
		p.word = ""
		return
	}
	switch c := p.sql[p.at]; {
	case c == '"' || c == '`' || c == '\'':
		p.quote(c)
	case c == '[':
		p.quote(']')
	case isNameByte(c):
		for p.at < len(p.sql) && isNameByte(p.sql[p.at]) {
			p.at++
		}
		p.word = p.sql[p.start:p.at]
	default:
		p.at++
		p.word = p.sql[p.start:p.at]
	}
}

// quote reads a quoted name; a doubled closing quote stands for itself.
func (p *words) quote(end byte) {
	p.quoted = true
	var b strings.Builder
	for p.at++; p.at < len(p.sql); p.at++ {
		if p.sql[p.at] != end {
			b.WriteByte(p.sql[p.at])
			continue
		}
		if end != ']' && p.at+1 < len(p.sql) && p.sql[p.at+1] == end {
			b.WriteByte(end)
			p.at++
			continue
		}
		p.at++
		p.word = b.String()
		return
	}
	p.word, p.bad = b.String(), true
}

// skip passes over spaces and comments.
func (p *words) skip() {
	for p.at < len(p.sql) {
		rest := p.sql[p.at:]
		switch {
		case strings.IndexByte(" \t\r\n\f", rest[0]) >= 0:
			p.at++
		case strings.HasPrefix(rest, "--"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				p.at += i + 1
			} else {
				p.at = len(p.sql)
			}
		case strings.HasPrefix(rest, "/*"):
			if i := strings.Index(rest[2:], "*/"); i >= 0 {
				p.at += i + 4
			} else {
				p.at = len(p.sql)
			}
		default:
			return
		}
	}
}

func isName(s string) bool { return s != "" && isNameByte(s[0]) }

func isNameByte(c byte) bool {
	return c == '_' || c >= 0x80 || 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '$'
}

// QuoteName quotes an identifier the way SQLite reads it everywhere.
func QuoteName(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
