package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// dumping is a dump as it was asked for.
type dumping struct {
	way
	node, format, output string
	yes                  bool
}

func dbDumpCommand() *cobra.Command {
	var d dumping
	cmd := &cobra.Command{
		Use:   "dump NAME",
		Short: "write a database out, as SQL or as a SQLite file",
		Long: `dump writes a database as it is at one position, on the master or on --node, while
writes go on: as SQL that sqlite3 and snapdb sql read, every value and rowid exactly, or
with --format db as a SQLite file without snapdb's own tables. The position is told on
stderr. A file that is there already is only replaced with --yes.

The node makes a copy on its disk, which is fetched piece by piece and removed then. It
also takes the room of the database in the folder of --output, or in that for temporary
files ($TMPDIR).

Virtual tables (FTS5, R-Tree) are written like sqlite3's .dump does, by what is in their
shadow tables: only sqlite3 reads that back. Take such a database to another cluster by
--format db and snapdb db import. Planner statistics are gathered anew.`,
		Example:           "  snapdb db dump Shop > shop.sql\n  snapdb db dump Shop --node snap1 --format db --output shop.db",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: live(databaseNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch d.format {
			case "sql":
			case "db":
				if d.output == "" {
					return flagError(cmd, "format", errors.New("db needs --output FILE"))
				}
			default:
				return flagError(cmd, "format", fmt.Errorf("must be sql or db, not %q", d.format))
			}
			return d.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	d.way.flags(f)
	f.StringVar(&d.node, "node", masterID, "the node, by its `ID`, whose copy to write")
	f.StringVar(&d.format, "format", "sql", "sql or db")
	f.StringVarP(&d.output, "output", "o", "", "`FILE` to write to (default: stdout)")
	yesFlag(f, &d.yes)
	return cmd
}

func (d *dumping) run(cmd *cobra.Command, name string) (err error) {
	if d.output != "" {
		if err := mayWrite(d.output, d.yes); err != nil {
			return err
		}
	}
	ctx := cmd.Context()
	c, err := d.connect(ctx, cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	node, err := d.whose(cmd, c)
	if err != nil {
		return err
	}
	folder := "" // the one for temporary files
	if d.output != "" {
		folder = filepath.Dir(d.output)
	}
	dir, err := os.MkdirTemp(folder, ".snapdb-dump-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "copy.db")
	is, err := fetchCopy(cmd, c, node, name, file)
	if err != nil {
		return fmt.Errorf("dump %s: %w", name, err)
	}
	if is.Doubt != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: this copy may not be what the log says: %s\n", is.Doubt)
	}
	if err := exec.Strip(file); err != nil {
		return err
	}
	if d.format == "sql" {
		if file, err = d.writeSQL(cmd, file); err != nil {
			return err
		}
	}
	if d.output != "" {
		if err := settleFile(file, d.output); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s at position %d on %s, %s\n", is.DB, is.Head.Position, d.node, format.Bytes(uint64(is.Size)))
	return err
}

// whose checks that the node is there, and is its id on the wire: "" for the master.
func (d *dumping) whose(cmd *cobra.Command, c *client.Client) (string, error) {
	if strings.EqualFold(d.node, masterID) {
		return "", nil
	}
	info, err := c.Info(cmd.Context())
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(info.Nodes, func(n subjects.NodeInfo) bool { return n.ID == d.node })
	switch {
	case i < 0:
		return "", fmt.Errorf("no node %q has joined: snapdb node ls lists those that have", d.node)
	case info.Nodes[i].State == subjects.StateOffline || info.Nodes[i].State == subjects.StateStopped:
		return "", fmt.Errorf("node %s is %s", d.node, info.Nodes[i].State)
	}
	return d.node, nil
}

// fetchCopy brings a copy of a database into a new file.
func fetchCopy(cmd *cobra.Command, c *client.Client, node, name, file string) (*subjects.CopyResponse, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) // as any program's output; its folder is private
	if err != nil {
		return nil, err
	}
	var show func(int64)
	is, err := c.FetchCopy(cmd.Context(), node, name, f, func(done, total int64) {
		if show == nil {
			if show = progress(cmd, "from the node", total); show == nil {
				show = func(int64) {} // no terminal
			}
		}
		show(done)
	})
	return is, errors.Join(err, f.Close())
}

// writeSQL writes a file as SQL: to stdout, or to the file beside it that it returns.
func (d *dumping) writeSQL(cmd *cobra.Command, file string) (script string, err error) {
	to := cmd.OutOrStdout()
	if d.output != "" {
		script = file + ".sql"
		f, oerr := os.OpenFile(script, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if oerr != nil {
			return "", oerr
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	doing(cmd, "writing SQL")
	virtual, err := exec.Dump(cmd.Context(), file, to)
	doing(cmd, "")
	if virtual && err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "note: it has virtual tables, which only sqlite3 reads back from SQL; --format db and snapdb db import keep them")
	}
	return script, err
}

// settleFile gives a file that is whole its place.
func settleFile(from, to string) error {
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(from, to)
}
