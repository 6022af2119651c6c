package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/cmd/snapdb/format"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// imported is what `db import --json` prints.
type imported struct {
	Database string   `json:"database"`
	Position uint64   `json:"position"`
	Bytes    int64    `json:"bytes"`
	Packed   int64    `json:"packed"`
	Applied  []string `json:"applied"`
	Pending  []string `json:"pending"`
	MS       int64    `json:"ms"`
}

func dbImportCommand() *cobra.Command {
	var at way
	var as string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "make an existing SQLite file a replicated database",
		Long: `import makes the content of a SQLite file a database of the cluster, the same on every
node. The database is named after the file, or by --as, and must not exist yet. Each
node has all of it or nothing; if the import fails or is interrupted, nothing is left.

The file is only read. Other programs may go on using it: what is committed when the
import begins is imported, from its -wal file too. (SQLite itself may put an empty -wal
and a -shm file beside one in WAL mode, as for every reader.) A file whose last writer
crashed in the middle of a transaction is refused, because reading it would change it:
open it once with its own program or the sqlite3 shell.

The copy made for this needs as much room as the file, and again up to as much packed,
in the folder for temporary files ($TMPDIR). Not imported are files whose texts are
UTF-16, that hold virtual tables of modules which snapdb does not have, names beginning
with _snapdb, or anything else a client of the cluster could not have made.`,
		Example: "  snapdb db import shop.db\n  snapdb db import /var/lib/app/data.sqlite --as Shop",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := as
			if name == "" {
				base := filepath.Base(args[0])
				name = strings.TrimSuffix(base, filepath.Ext(base))
			}
			if err := subjects.CheckDatabase(name); err != nil {
				return fmt.Errorf("%w: name the database with --as", err)
			}
			result, err := importFile(cmd, &at, args[0], name)
			if result == nil || err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), result)
			}
			line := fmt.Sprintf("%s · position %d · %s, packed %s · %v\n", result.Database, result.Position,
				format.Bytes(uint64(result.Bytes)), format.Bytes(uint64(result.Packed)), time.Duration(result.MS)*time.Millisecond)
			if len(result.Pending) > 0 {
				line += "not yet on " + format.Safe(strings.Join(result.Pending, ", ")) + "\n"
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), line)
			return err
		},
	}
	at.flags(cmd.Flags())
	cmd.Flags().StringVar(&as, "as", "", "`NAME` of the database (default: that of the file)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// importFile makes a private copy of the file, checks it, packs it, brings it to the
// master and waits until it is a database.
func importFile(cmd *cobra.Command, at *way, file, name string) (result *imported, err error) {
	ctx, begun := cmd.Context(), time.Now()
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	c, err := at.connect(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.CheckImport(ctx, name, info.Size()); err != nil { // before all the work
		return nil, err
	}
	dir, err := os.MkdirTemp("", "snapdb-import-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	packed, size, err := packImage(ctx, cmd, file, dir)
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	info, err = packed.Stat()
	if err != nil {
		return nil, err
	}
	resp, err := c.Import(ctx, name, packed, info.Size(), size, progress(cmd, "to the master", info.Size()), func(s subjects.ImportStage) {
		doing(cmd, map[subjects.ImportStage]string{
			subjects.ImportChecking: "the master checks it",
			subjects.ImportStoring:  "the master stores it",
			subjects.ImportWaiting:  "the slaves store it",
		}[s])
	})
	doing(cmd, "")
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", name, err)
	}
	return &imported{Database: resp.DB, Position: resp.Position, Bytes: size, Packed: info.Size(),
		Applied: append([]string{}, resp.Applied...), Pending: append([]string{}, resp.Pending...), MS: time.Since(begun).Milliseconds()}, nil
}

// packImage makes the packed image of a file in a folder and returns it with the size
// of what is packed.
func packImage(ctx context.Context, cmd *cobra.Command, file, dir string) (packed *os.File, size int64, err error) {
	image := filepath.Join(dir, "image")
	var shown func(done, total int64)
	if isTerminal(cmd.ErrOrStderr()) {
		var show func(int64)
		shown = func(done, total int64) {
			if show == nil {
				show = progress(cmd, "reading", total)
			}
			show(done)
		}
	}
	if err := exec.Image(ctx, file, image, shown); err != nil {
		return nil, 0, err
	}
	doing(cmd, "checking")
	if err := exec.CheckImage(ctx, image); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", file, err)
	}
	doing(cmd, "packing")
	defer doing(cmd, "")
	packed, err = os.Create(filepath.Join(dir, "packed"))
	if err != nil {
		return nil, 0, err
	}
	size, err = snapshot.Pack(ctx, packed, image)
	if err == nil {
		err = os.Remove(image)
	}
	if err != nil {
		return nil, 0, errors.Join(err, packed.Close())
	}
	return packed, size, nil
}

// doing shows at a terminal what is being done; "" is nothing any more.
func doing(cmd *cobra.Command, what string) {
	out := cmd.ErrOrStderr()
	if !isTerminal(out) {
		return
	}
	fmt.Fprint(out, "\r\x1b[K")
	if what != "" {
		fmt.Fprint(out, what, " …")
	}
}
