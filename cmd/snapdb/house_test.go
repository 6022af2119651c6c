package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	osexec "os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rules of the house are tests, not wishes: which room may use which, that
// every package says what it is for, and every exported name what it means.

const module = "github.com/snapdb/snapdb"

// rooms are the top-level folders, and what each may import of the others and of
// other modules. A package inside of a room has the rights of its room.
var rooms = map[string]struct{ rooms, modules []string }{
	"subjects":  {nil, nil},
	"exec":      {[]string{"subjects", "exec"}, []string{"modernc.org/sqlite", "modernc.org/libc", "golang.org/x/sys"}},
	"broker":    {[]string{"subjects", "broker"}, []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/nats-io/nkeys"}},
	"agent":     {[]string{"subjects", "exec", "broker", "agent"}, []string{"github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/shirou/gopsutil/v4", "github.com/klauspost/compress", "golang.org/x/crypto", "golang.org/x/image", "golang.org/x/sys"}},
	"dashboard": {[]string{"subjects", "exec", "dashboard"}, []string{"github.com/coder/websocket", "github.com/prometheus/client_golang"}},
	"cmd":       {[]string{"subjects", "exec", "broker", "agent", "dashboard", "cmd"}, []string{"*"}},
}

// tools may be used by tests of any room.
var tools = []string{"pgregory.net/rapid", "github.com/google/go-cmp", "github.com/nats-io/nats.go", "modernc.org/sqlite"}

// maxLines is the length of a file that is read in one sitting.
const maxLines = 700

func TestHouse(t *testing.T) {
	root := filepath.Join("..", "..")
	documented := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			if dir := filepath.Dir(rel); dir == "." && rel != "." && !slices.Contains([]string{"subjects", "exec", "broker", "agent", "dashboard", "cmd"}, rel) {
				t.Errorf("%s is not a room of this house", rel)
			}
			return nil
		}
		if strings.HasSuffix(rel, ".go") {
			checkFile(t, file, filepath.ToSlash(rel), documented)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

func checkFile(t *testing.T, file, rel string, documented map[string]bool) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(src), "\n"); n > maxLines {
		t.Errorf("%s has %d lines: split it", rel, n)
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	dir, isTest := path.Dir(rel), strings.HasSuffix(rel, "_test.go")
	if f.Name.Name != "main" || !isTest {
		if !strings.HasSuffix(f.Name.Name, "_test") {
			documented[dir] = documented[dir] || f.Doc != nil
		}
	}
	checkImports(t, rel, f, isTest)
	if !isTest {
		checkDocs(t, rel, f)
	}
}

func checkImports(t *testing.T, rel string, f *ast.File, isTest bool) {
	t.Helper()
	room, _, _ := strings.Cut(rel, "/")
	may := rooms[room]
	for _, imp := range f.Imports {
		name := strings.Trim(imp.Path.Value, `"`)
		if name == "os/exec" && (imp.Name == nil || imp.Name.Name != "osexec") {
			t.Errorf("%s: import os/exec as osexec; exec is ours", rel)
		}
		if own, ok := strings.CutPrefix(name, module+"/"); ok {
			target, _, _ := strings.Cut(own, "/")
			if !slices.Contains(may.rooms, target) && !(isTest && target == room) {
				t.Errorf("%s: room %s may not use %s", rel, room, own)
			}
			continue
		}
		if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
			continue // standard library
		}
		allowed := may.modules
		if isTest {
			allowed = append(slices.Clone(allowed), tools...)
		}
		if !slices.ContainsFunc(allowed, func(m string) bool { return m == "*" || name == m || strings.HasPrefix(name, m+"/") }) {
			t.Errorf("%s: room %s may not use %s", rel, room, name)
		}
	}
}

// checkDocs demands a comment on every exported name.
func checkDocs(t *testing.T, rel string, f *ast.File) {
	t.Helper()
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
				t.Errorf("%s: %s has no comment", rel, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						t.Errorf("%s: %s has no comment", rel, s.Name.Name)
					}
				case *ast.ValueSpec:
					if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						t.Errorf("%s: %s has no comment", rel, s.Names[0].Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// modernc.org/sqlite works only with exactly the libc it was made with.
func TestLibcIsTheOneSQLiteNeeds(t *testing.T) {
	out, err := osexec.Command("go", "list", "-m", "-json", "modernc.org/sqlite", "modernc.org/libc").Output()
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	var goMod string
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var m struct{ Path, Version, GoMod string }
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, m.Version)
		if m.Path == "modernc.org/sqlite" {
			goMod = m.GoMod
		}
	}
	needs, err := os.ReadFile(goMod)
	if err != nil {
		t.Fatal(err)
	}
	if want := "modernc.org/libc " + versions[1] + "\n"; !strings.Contains(string(needs), want) {
		t.Errorf("go.mod pins libc %s, which is not what modernc.org/sqlite %s requires", versions[1], versions[0])
	}
}

// What the README promises to be the two commands must stay in it.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"go run ./cmd/snapdb demo", "go test ./..."} {
		if !strings.Contains(string(readme), command) {
			t.Errorf("README.md does not show %q", command)
		}
	}
}
