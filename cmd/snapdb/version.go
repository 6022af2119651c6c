package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
	lib "modernc.org/sqlite/lib"

	"github.com/snapdb/snapdb/exec/engine"
)

// versions is what `version --json` prints.
type versions struct {
	Version string            `json:"version"`
	Commit  string            `json:"commit,omitempty"`
	Go      string            `json:"go"`
	System  string            `json:"system"`
	Engine  string            `json:"engine"` // digest: nodes replicate only among equals
	SQLite  string            `json:"sqlite"` // version and source id
	Modules map[string]string `json:"modules"`
}

// shownModules are the libraries whose version matters to an operator.
var shownModules = []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "modernc.org/sqlite"}

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version of this program and of what is built into it",
		Long: `version prints the version of snapdb, and of Go, SQLite and NATS in it.

The engine digest identifies everything that decides what a statement does: nodes
replicate only with nodes of the same digest.`,
		Example: "  snapdb version\n  snapdb version --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := readVersions()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, v)
			}
			fmt.Fprintf(out, "snapdb %s %s, %s\n  engine digest %s\n  SQLite %s\n", v.Version, v.System, v.Go, v.Engine, v.SQLite)
			for _, m := range shownModules {
				fmt.Fprintf(out, "  %s %s\n", m, v.Modules[m])
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func readVersions() (*versions, error) {
	v := &versions{
		Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		SQLite: lib.SQLITE_VERSION + " " + lib.SQLITE_SOURCE_ID, Modules: map[string]string{},
	}
	var err error
	if v.Engine, err = engine.Digest(); err != nil {
		return nil, err
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return v, nil
	}
	for _, s := range build.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	for _, m := range build.Deps {
		if slices.Contains(shownModules, m.Path) {
			v.Modules[m.Path] = m.Version
		}
	}
	return v, nil
}
