package shell

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// dotCommand is a command to the shell itself.
type dotCommand struct {
	name  string
	usage string
	help  string
	run   func(s *Shell, ctx context.Context, arg string) error
}

// dotCommands are all of them, in the order of .help.
func dotCommands() []dotCommand {
	return []dotCommand{
		{"ack", "log|insync|all|N|default", "when a write is answered: logged, applied by the slaves in sync, by all, by N", (*Shell).dotAck},
		{"databases", "", "list the databases", sends("SHOW DATABASES")},
		{"db", "NAME", "use database NAME", (*Shell).dotUse},
		{"format", strings.Join(format.Kinds(), "|"), "how results look", (*Shell).dotFormat},
		{"help", "", "this list", (*Shell).dotHelp},
		{"history", "", "what was typed before", (*Shell).dotHistory},
		{"node", "ID|master", "ask the copy of node ID, or the master again", (*Shell).dotNode},
		{"nodes", "", "list the slaves; SHOW SLAVES tells more of them", (*Shell).dotNodes},
		{"quit", "", "leave", func(*Shell, context.Context, string) error { return ErrQuit }},
		{"read", "FILE", "execute a script", (*Shell).dotRead},
		{"schema", "[TABLE]", "the SQL that made the tables", (*Shell).dotSchema},
		{"tables", "", "list the tables", sends("SHOW TABLES")},
		{"timeout", "DURATION", "time limit of a statement, 0 for the server's", (*Shell).dotTimeout},
		{"timing", "on|off", "whether to say what each statement did and how long it took", (*Shell).dotTiming},
	}
}

var dotAliases = map[string]string{"use": "db", "exit": "quit", "mode": "format", "timer": "timing"}

// Dot executes a dot command.
func (s *Shell) Dot(ctx context.Context, line string) error {
	name, arg, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "."), " ")
	arg = strings.TrimSuffix(strings.TrimSpace(arg), ";")
	name = strings.ToLower(strings.TrimSuffix(name, ";"))
	if alias, ok := dotAliases[name]; ok {
		name = alias
	}
	for _, c := range dotCommands() {
		if c.name != name {
			continue
		}
		if c.usage == "" && arg != "" {
			return fmt.Errorf(".%s takes no argument", name)
		}
		if c.usage != "" && c.usage[0] != '[' && arg == "" {
			return fmt.Errorf("usage: .%s %s", name, c.usage)
		}
		return c.run(s, ctx, unquote(arg))
	}
	return fmt.Errorf("unknown command %q: .help lists them", format.Safe("."+name))
}

func unquote(s string) string {
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		return s[1 : n-1]
	}
	return s
}

func sends(sql string) func(*Shell, context.Context, string) error {
	return func(s *Shell, ctx context.Context, _ string) error { return s.execute(ctx, sql) }
}

func (s *Shell) dotAck(_ context.Context, arg string) error {
	if arg == "default" {
		s.Ack = subjects.Ack{}
		return nil
	}
	ack, err := subjects.ParseAck(arg)
	if err != nil {
		return err
	}
	s.Ack = ack
	return nil
}

func (s *Shell) dotUse(ctx context.Context, arg string) error {
	if s.Node != "" {
		s.Session.Use(arg)
		return nil
	}
	return s.execute(ctx, "USE "+exec.QuoteName(arg))
}

func (s *Shell) dotFormat(_ context.Context, arg string) error {
	k, err := format.ParseKind(arg)
	if err != nil {
		return err
	}
	s.Format = k
	return nil
}

func (s *Shell) dotHelp(context.Context, string) error {
	var b strings.Builder
	for _, c := range dotCommands() {
		fmt.Fprintf(&b, "  .%-36s %s\n", strings.TrimSpace(c.name+" "+c.usage), c.help)
	}
	b.WriteString("Anything else is SQL and ends with a ';'. Also: USE, SHOW DATABASES, SHOW TABLES,\nSHOW SLAVES, SHOW MASTER STATUS, SHOW CREATE TABLE t, DESCRIBE t.\n")
	fmt.Fprint(s.Stderr, b.String())
	return nil
}

func (s *Shell) dotHistory(context.Context, string) error {
	if s.history == nil {
		return nil
	}
	for _, line := range s.history() {
		fmt.Fprintln(s.Stdout, format.Safe(line))
	}
	return nil
}

func (s *Shell) dotNode(_ context.Context, arg string) error {
	if arg == "master" {
		arg = ""
	}
	if err := s.Session.SetNode(arg); err != nil {
		return err
	}
	s.Node = arg
	return nil
}

// dotNodes shows of the slaves what fits a terminal of 80 columns: why one is not
// well only if there is such a one.
func (s *Shell) dotNodes(ctx context.Context, _ string) error {
	resp, err := s.send(ctx, &subjects.Request{SQL: "SHOW SLAVES"})
	if err != nil {
		return err
	}
	for i := range resp.Results {
		r := &resp.Results[i]
		var keep []int
		for at, name := range r.Columns {
			told := func(row []subjects.Value) bool { return len(row[at].Bytes()) > 0 }
			switch name {
			case "slave", "state", "last_seen", "lag_ms":
				keep = append(keep, at)
			case "reason":
				if slices.ContainsFunc(r.Rows, told) {
					keep = append(keep, at)
				}
			}
		}
		r.Columns = pick(r.Columns, keep)
		for at, row := range r.Rows {
			r.Rows[at] = pick(row, keep)
		}
	}
	_, err = s.show(ctx, resp)
	return err
}

// pick returns the elements of row at the given places.
func pick[T any](row []T, at []int) []T {
	picked := make([]T, len(at))
	for i, n := range at {
		picked[i] = row[n]
	}
	return picked
}

// dotSchema prints SQL that could be executed again.
func (s *Shell) dotSchema(ctx context.Context, arg string) error {
	req := &subjects.Request{SQL: `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE '\_snapdb%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`}
	if arg != "" {
		req.SQL += " AND tbl_name = ? COLLATE NOCASE"
		req.Args = []subjects.Value{subjects.TextValue(arg)}
	}
	req.SQL += " ORDER BY rowid"
	resp, err := s.send(ctx, req)
	if err != nil {
		return err
	}
	for i := range resp.Results {
		err := s.Session.Pages(ctx, s.Timeout.Milliseconds(), &resp.Results[i], func(page *subjects.Result) error {
			for _, row := range page.Rows {
				if _, err := fmt.Fprintf(s.Stdout, "%s;\n", row[0].Bytes()); err != nil {
					return fmt.Errorf("write schema: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Shell) dotTimeout(_ context.Context, arg string) error {
	d, err := time.ParseDuration(arg)
	if arg == "0" {
		d, err = 0, nil
	}
	if err != nil || d < 0 {
		return fmt.Errorf("invalid time limit %q: must be a duration like 500ms, 10s or 2m, or 0", arg)
	}
	s.Timeout = d
	return nil
}

func (s *Shell) dotTiming(_ context.Context, arg string) error {
	switch strings.ToLower(arg) {
	case "on":
		s.Timing = true
	case "off":
		s.Timing = false
	default:
		return fmt.Errorf("invalid .timing %q: must be on or off", arg)
	}
	return nil
}
