package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/cmd/snapdb/panel"
	"github.com/snapdb/snapdb/dashboard"
	"github.com/snapdb/snapdb/subjects"
)

// demoScript is what everybody does first with a database.
var demoScript = []string{
	"CREATE DATABASE SnapDB",
	"USE SnapDB",
	"CREATE TABLE Users (id INTEGER, name TEXT)",
	"INSERT INTO Users VALUES (1, 'Alice')",
	"SELECT * FROM Users",
	"UPDATE Users SET name = 'Bob' WHERE id = 1",
	"DELETE FROM Users WHERE id = 1",
	"DROP DATABASE SnapDB",
}

// demoSample stays, to look around in.
var demoSample = []string{
	"CREATE DATABASE Shop",
	"USE Shop",
	"CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, added TEXT DEFAULT CURRENT_TIMESTAMP)",
	"CREATE TABLE orders (id INTEGER PRIMARY KEY, item INTEGER REFERENCES items, quantity INTEGER, code INTEGER DEFAULT (abs(random() % 100000)))",
	"INSERT INTO items (name, price) VALUES ('Lamp', 19.9), ('Chair', 49.5), ('Desk', 129.0), ('Shelf', 75.25), ('Rug', 33.0)",
	"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200) INSERT INTO orders (item, quantity) SELECT 1 + abs(random() % 5), 1 + abs(random() % 9) FROM n",
}

const demoSlaves = 3

func demoCommand() *cobra.Command {
	var listen, http string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run a master and three slaves in one process, with sample data",
		Long: `demo runs a whole cluster in this process, with real files in a temporary
directory: it executes a first script, makes a database to look around in, shows
that every node holds the same, and stays until Ctrl-C.`,
		Example: "  snapdb demo\n  snapdb demo --for 10s --nats 127.0.0.1:0",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkDemo(listen); err != nil {
				return flagError(cmd, "nats", err)
			}
			if err := checkPanel(http); err != nil {
				return flagError(cmd, "http", err)
			}
			if cmd.Flags().Changed("for") && lasts <= 0 {
				return flagError(cmd, "for", fmt.Errorf("must be positive, not %v", lasts))
			}
			return demo(cmd.Context(), cmd.OutOrStdout(), listen, http, lasts)
		},
	}
	cmd.Flags().StringVar(&listen, "nats", agent.DefaultListen, "`HOST:PORT` of this machine where the master listens")
	cmd.Flags().StringVar(&http, "http", dashboard.DefaultListen, "`HOST:PORT` of this machine where the panel is; off: none")
	cmd.Flags().DurationVar(&lasts, "for", 0, "end by itself after this `DURATION`, e.g. 10s, but not before the script is done (default: run until Ctrl-C)")
	return cmd
}

// demo runs the whole system in a temporary directory until ctx ends or, if it is
// positive, the time that it lasts.
func demo(ctx context.Context, out io.Writer, listen, http string, lasts time.Duration) (err error) {
	over := ctx
	if lasts > 0 {
		var cancel context.CancelFunc
		over, cancel = context.WithTimeout(ctx, lasts)
		defer cancel()
	}
	hurried, end := tidy()
	defer end()
	dir, err := os.MkdirTemp("", "snapdb-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

	m, err := agent.StartMaster(ctx, agent.MasterOptions{Dir: filepath.Join(dir, "master"), Listen: listen, Version: version, Logger: quiet})
	if err != nil {
		return explainStart(err)
	}
	var slaves []*agent.Slave
	var p *panel.Panel
	defer func() {
		stop, cancel := context.WithTimeout(hurried, stopPatience)
		defer cancel()
		err = errors.Join(err, stopPanel(stop, p))
		for _, s := range slaves {
			err = errors.Join(err, s.Stop(stop))
		}
		// Nobody may write any more when the directory is removed, hurry or not.
		last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancelLast()
		err = errors.Join(err, m.Stop(last))
	}()
	if p, err = startPanel(ctx, m, http, false, filepath.Join(dir, "uploads"), quiet); err != nil {
		return err
	}
	if p != nil {
		fmt.Fprintf(out, "panel at %s\n", p.URL())
	}
	for i := range demoSlaves {
		id := fmt.Sprintf("snap%d", i+1)
		s, err := agent.StartSlave(context.WithoutCancel(ctx), agent.SlaveOptions{URL: m.URL(), ID: id, Dir: filepath.Join(dir, id), Version: version, Logger: quiet})
		if err != nil {
			return err
		}
		slaves = append(slaves, s)
	}
	fmt.Fprintf(out, "master at %s, data in %s\n\n", m.URL(), dir)
	if err := demoRun(ctx, out, m.URL()); err != nil {
		if ctx.Err() != nil {
			return nil // ended by Ctrl-C in the middle
		}
		return err
	}
	demoNext(out, m.URL(), dir)
	<-over.Done()
	fmt.Fprintln(out, "stopping")
	return nil
}

// demoRun executes the script and shows what every node holds afterwards.
func demoRun(ctx context.Context, out io.Writer, url string) error {
	c, err := client.Connect(ctx, url, client.Options{Name: "snapdb demo"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := demoWait(ctx, c); err != nil {
		return err
	}
	session := c.NewSession("")
	for _, sql := range append(append([]string{}, demoScript...), demoSample...) {
		start := time.Now()
		resp, err := session.Do(ctx, &subjects.Request{SQL: sql})
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		fmt.Fprintf(out, "%s;\n", sql)
		for _, r := range resp.Results {
			for _, row := range r.Rows {
				fmt.Fprintf(out, "   %s\n", demoRow(row))
			}
		}
		if resp.Applied != nil {
			fmt.Fprintf(out, "   position %d · applied by %s · %.1f ms\n", resp.Position, strings.Join(resp.Applied, " "), float64(time.Since(start).Microseconds())/1000)
		}
	}
	return demoTable(ctx, out, c)
}

// demoWait waits until all slaves are in.
func demoWait(ctx context.Context, c *client.Client) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := c.Info(ctx)
		if err != nil {
			return err
		}
		if info.Online() == demoSlaves {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func demoRow(row []subjects.Value) string {
	cells := make([]string, len(row))
	for i, v := range row {
		cells[i] = string(subjects.AppendValue(nil, v))
	}
	return strings.Join(cells, "  ")
}

// demoTable shows where each node is and that all hold the same.
func demoTable(ctx context.Context, out io.Writer, c *client.Client) error {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tPOSITION\tROWS\tCHECKSUM")
	for _, node := range []string{"master", "snap1", "snap2", "snap3"} {
		req := &subjects.Request{DB: "Shop", SQL: "SHOW CHECKSUM"}
		var resp *subjects.Response
		var err error
		if node == "master" {
			resp, err = c.Query(ctx, req)
		} else {
			resp, err = c.QueryNode(ctx, node, req)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", node, err)
		}
		rows := resp.Results[0].Rows
		whole := rows[len(rows)-1]
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", node, resp.Position, whole[1].Int(), whole[2].Bytes())
	}
	return w.Flush()
}

func demoNext(out io.Writer, url, dir string) {
	fmt.Fprintf(out, `
Try next, in another terminal:
  snapdb sql --server %[1]s --db Shop                     the shell
  snapdb node ls --server %[1]s                           the nodes
  nats sub db.replicate --server %[1]s                    every change, as it is made
  nats req db.query '{"db":"Shop","sql":"SELECT * FROM items"}' --server %[1]s
  nats req node.snap1.ctl '{"op":"ping"}' --server %[1]s
  sqlite3 -readonly %[2]s/snap1/Shop.db 'SELECT count(*) FROM orders'

Ctrl-C ends the demo and removes its data.
`, url, dir)
}
