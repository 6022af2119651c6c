package dashboard

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/snapdb/snapdb/subjects"
)

// database is one of the cluster's databases, as the master has it.
type database struct {
	Name string `json:"name"`
	subjects.Head
	Stopped string `json:"stopped,omitempty"` // why it takes no writes
}

// getDatabases lists the databases.
func (s *Server) getDatabases(w http.ResponseWriter, r *http.Request) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	var info subjects.ClusterInfoResponse
	if err := s.ask(r.Context(), subjects.ClusterInfo, struct{}{}, &info); err != nil {
		return err
	}
	list := []database{}
	for name, head := range info.Heads {
		if name != subjects.Catalog {
			list = append(list, database{name, head, info.Stopped[name]})
		}
	}
	slices.SortFunc(list, func(a, b database) int { return strings.Compare(a.Name, b.Name) })
	return replyJSON(w, http.StatusOK, map[string]any{"databases": list, "position": info.Cursor})
}

// postDatabases makes a database.
func (s *Server) postDatabases(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r)
	if p.err != nil {
		return p.err
	}
	var wanted struct {
		Name        string `json:"name"`
		IfNotExists bool   `json:"if_not_exists"`
	}
	if err := readJSON(w, r, &wanted); err != nil {
		return err
	}
	verb := "CREATE DATABASE "
	if wanted.IfNotExists {
		verb += "IF NOT EXISTS "
	}
	return s.changeDatabases(w, r, verb, wanted.Name, http.StatusCreated)
}

// deleteDatabase drops a database.
func (s *Server) deleteDatabase(w http.ResponseWriter, r *http.Request) error {
	if p := readParameters(r); p.err != nil {
		return p.err
	}
	return s.changeDatabases(w, r, "DROP DATABASE ", r.PathValue("name"), http.StatusOK)
}

// changeDatabases executes SQL that ends in the name of a database.
func (s *Server) changeDatabases(w http.ResponseWriter, r *http.Request, verb, name string, success int) error {
	if err := subjects.CheckDatabase(name); err != nil {
		return subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	body := subjects.AppendRequest(nil, &subjects.Request{SQL: verb + name})
	return s.passSQL(w, r, subjects.Exec, body, 0, success)
}

// table is a table or view of a database, with what belongs to it.
type table struct {
	Name        string       `json:"name"`
	Type        string       `json:"type"` // table, view, virtual or shadow
	SQL         string       `json:"sql"`
	Columns     []column     `json:"columns"`
	Indexes     []index      `json:"indexes"`
	ForeignKeys []foreignKey `json:"foreign_keys"`
	Triggers    []trigger    `json:"triggers"`
}

type column struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	NotNull bool    `json:"not_null"`
	Default *string `json:"default"`     // SQL
	Key     int64   `json:"primary_key"` // place in it, 0: not part of it
	Hidden  bool    `json:"hidden"`      // or generated
}

type index struct {
	Name    string   `json:"name"`
	Unique  bool     `json:"unique"`
	Origin  string   `json:"origin"` // c: CREATE INDEX, u: UNIQUE, pk: PRIMARY KEY
	Partial bool     `json:"partial"`
	Columns []string `json:"columns"` // "" for an expression
}

type foreignKey struct {
	From     string `json:"from"`
	Table    string `json:"table"`
	To       string `json:"to"`
	OnUpdate string `json:"on_update"`
	OnDelete string `json:"on_delete"`
}

type trigger struct {
	Name string `json:"name"`
	SQL  string `json:"sql"`
}

// schemaSQL are the questions whose answers make a schema. The first is asked alone
// again if the others fail, as they do when a view refers to what is not there.
const (
	tablesSQL = `SELECT l.name, l.type, coalesce(s.sql, '') FROM pragma_table_list l JOIN sqlite_schema s ON s.name = l.name
		WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND l.name NOT LIKE '\_snapdb%' ESCAPE '\' ORDER BY 1`
	triggersSQL = `SELECT tbl_name, name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY 1, 2`
	columnsSQL  = `SELECT s.name, c.name, c.type, c."notnull", c.dflt_value, c.pk, c.hidden
		FROM sqlite_schema s JOIN pragma_table_xinfo(s.name) c WHERE s.type IN ('table', 'view') ORDER BY s.name, c.cid`
	indexesSQL = `SELECT s.name, i.name, i."unique", i.origin, i.partial, coalesce(c.name, '')
		FROM sqlite_schema s JOIN pragma_index_list(s.name) i JOIN pragma_index_info(i.name) c WHERE s.type = 'table' ORDER BY s.name, i.seq, c.seqno`
	foreignSQL = `SELECT s.name, f."from", f."table", coalesce(f."to", ''), f.on_update, f.on_delete
		FROM sqlite_schema s JOIN pragma_foreign_key_list(s.name) f WHERE s.type = 'table' ORDER BY s.name, f.id, f.seq`
)

// getSchema shows what is in a database.
func (s *Server) getSchema(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r, "node")
	node := p.node("node")
	if p.err != nil {
		return p.err
	}
	door, err := queryDoor(visitorOf(r.Context()), node)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	resp, err := s.readSchema(r.Context(), door, name, tablesSQL, triggersSQL, columnsSQL, indexesSQL, foreignSQL)
	var refused *subjects.Error
	if errors.As(err, &refused) && (refused.Code == subjects.CodeSyntax || refused.Code == subjects.CodeInternal) {
		resp, err = s.readSchema(r.Context(), door, name, tablesSQL, triggersSQL)
	}
	if err != nil {
		return err
	}
	return replyJSON(w, http.StatusOK, map[string]any{"database": name, "position": resp.Position, "tables": tablesOf(resp.Results)})
}

func (s *Server) readSchema(ctx context.Context, door, name string, questions ...string) (*subjects.Response, error) {
	req := subjects.Request{DB: name}
	for _, q := range questions {
		req.Stmts = append(req.Stmts, subjects.Stmt{SQL: q})
	}
	answer, _, err := s.askSQL(ctx, door, subjects.AppendRequest(nil, &req), 0)
	if err != nil {
		return nil, err
	}
	resp := new(subjects.Response)
	if err := subjects.DecodeResponse(answer, resp); err != nil {
		return nil, subjects.Errorf(subjects.CodeInternal, "read the schema: %v", err)
	}
	if resp.Error != nil {
		return nil, resp.Error
	}
	return resp, nil
}

// tablesOf puts the answers to the questions together.
func tablesOf(results []subjects.Result) []*table {
	list, byName := []*table{}, map[string]*table{}
	text := func(v subjects.Value) string { return string(v.Bytes()) }
	for i, res := range results {
		for _, row := range res.Rows {
			name := text(row[0])
			if i == 0 {
				t := &table{name, text(row[1]), text(row[2]), []column{}, []index{}, []foreignKey{}, []trigger{}}
				list, byName[name] = append(list, t), t
				continue
			}
			t := byName[name]
			if t == nil {
				continue
			}
			switch i {
			case 1:
				t.Triggers = append(t.Triggers, trigger{text(row[1]), text(row[2])})
			case 2:
				c := column{Name: text(row[1]), Type: text(row[2]), NotNull: row[3].Int() != 0, Key: row[5].Int(), Hidden: row[6].Int() != 0}
				if row[4].Kind() != subjects.Null {
					c.Default = new(text(row[4]))
				}
				t.Columns = append(t.Columns, c)
			case 3:
				if n := len(t.Indexes); n == 0 || t.Indexes[n-1].Name != text(row[1]) {
					t.Indexes = append(t.Indexes, index{text(row[1]), row[2].Int() != 0, text(row[3]), row[4].Int() != 0, nil})
				}
				last := &t.Indexes[len(t.Indexes)-1]
				last.Columns = append(last.Columns, text(row[5]))
			case 4:
				t.ForeignKeys = append(t.ForeignKeys, foreignKey{text(row[1]), text(row[2]), text(row[3]), text(row[4]), text(row[5])})
			}
		}
	}
	return list
}
