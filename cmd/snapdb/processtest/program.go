//go:build linux

package processtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Program is the binary under test.
type Program struct {
	file string
	look func() error // at what it was built of
}

// Build builds the program into a directory, with flags of the go command.
func Build(dir string, flags ...string) (*Program, error) {
	file := filepath.Join(dir, "snapdb")
	args := append([]string{"build", "-o", file}, flags...)
	if out, err := osexec.Command("go", append(args, "github.com/snapdb/snapdb/cmd/snapdb")...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return &Program{file, sync.OnceValue(lookAtSources)}, nil
}

// Path is where the binary is.
//
// It is no dependency of a test that the go command could see: without a look at
// the folders of the module, which the go command notes, it would answer with the
// cached result of a test of another program.
func (p *Program) Path(t testing.TB) string {
	t.Helper()
	if err := p.look(); err != nil {
		t.Fatal(err)
	}
	return p.file
}

// lookAtSources walks the module, as seen from a package of tests beside this one.
func lookAtSources() error {
	return filepath.WalkDir("../../..", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		return err
	})
}

// Run runs the program to its end and returns exit code and output.
func (p *Program) Run(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	cmd := osexec.CommandContext(ctx, p.Path(t), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *osexec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("snapdb %s did not end within %v\n%s%s", strings.Join(args, " "), Patience, out.String(), errOut.String())
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		t.Fatalf("run snapdb %s: %v", strings.Join(args, " "), err)
	}
	return code, out.String(), errOut.String()
}
