package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent"
	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/client"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// A secured cluster does all that an open one does.
func TestSecuredClusterReplicates(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true}, "s1", "s2")
	s := c.c.NewSession("")
	for _, sql := range []string{
		"CREATE DATABASE SnapDB", "USE SnapDB", "CREATE TABLE Users (id INTEGER, name TEXT)", "INSERT INTO Users VALUES (1, 'Alice')",
		"UPDATE Users SET name = 'Bob' WHERE id = 1", "BEGIN", "INSERT INTO Users VALUES (2, 'Carol')", "COMMIT",
	} {
		resp, err := s.Do(testContext(t), &subjects.Request{SQL: sql})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if resp.Applied != nil && strings.Join(resp.Applied, " ") != "s1 s2" {
			t.Errorf("%s: applied by %v", sql, resp.Applied)
		}
	}
	c.same()
	sent, err := c.c.Send(testContext(t), &subjects.CommandRequest{Op: subjects.OpInfo, All: true, By: "somebody"})
	if err != nil || sent.By != admin {
		t.Fatalf("%+v, %v", sent, err)
	}
	until(t, "the command is done", func() bool {
		r, err := c.c.Command(testContext(t), sent.ID)
		return err == nil && r.Nodes[0].State == subjects.CommandDone && r.Nodes[1].State == subjects.CommandDone
	})
	if _, err := c.c.Verify(testContext(t), "SnapDB", false); err != nil {
		t.Error(err)
	}

	// Master and nodes know each other again after restarts; there is no way back.
	c.stopSlave("s1")
	c.stopMaster()
	open := c.opts
	open.Secure = false
	if m, err := agent.StartMaster(testContext(t), open); !errors.Is(err, agent.ErrSecured) {
		if err == nil {
			_ = m.Stop(testContext(t))
		}
		t.Fatalf("opened: %v", err)
	}
	c.startMaster()
	c.startSlave("s1")
	c.untilInSync("s1", "s2")
	c.do("SnapDB", "INSERT INTO Users VALUES (3, 'Dave')")
}

// denied fails unless an error says that the user has no right.
func denied(t *testing.T, what string, err error) {
	t.Helper()
	var refused *subjects.Error
	if errors.Is(err, client.ErrDenied) {
		return
	}
	if !errors.As(err, &refused) || refused.Code != subjects.CodeForbidden {
		t.Errorf("%s: %v", what, err)
	}
}

func (c *cluster) addUser(u subjects.UserRequest) *client.Client {
	c.t.Helper()
	u.Password = "a password of " + u.User
	if _, err := c.c.AddUser(testContext(c.t), u); err != nil {
		c.t.Fatal(err)
	}
	return c.connectAs(u.User, u.Password)
}

func TestRolesAreKeptAtTheDoors(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true}, "s1")
	c.do("", "CREATE DATABASE a")
	c.do("", "CREATE DATABASE b")
	c.do("a", "CREATE TABLE t (x)")
	users := map[string]*client.Client{admin: c.c}
	for _, role := range []string{"viewer", "writer", "operator"} {
		users[role] = c.addUser(subjects.UserRequest{User: role, Role: role})
	}
	ladder := []string{"viewer", "writer", "operator", admin}
	exec := func(cl *client.Client, sql string) error {
		_, err := cl.Exec(testContext(t), &subjects.Request{DB: "a", SQL: sql})
		return err
	}
	n := 0
	for _, step := range []struct {
		what  string
		least string // role
		do    func(ctx context.Context, cl *client.Client) error
	}{
		{"read", "viewer", func(_ context.Context, cl *client.Client) error { return exec(cl, "SELECT * FROM t") }},
		{"read on a node", "viewer", func(ctx context.Context, cl *client.Client) error {
			_, err := cl.QueryNode(ctx, "s1", &subjects.Request{DB: "a", SQL: "SELECT 1"})
			return err
		}},
		{"info", "viewer", func(ctx context.Context, cl *client.Client) error { _, err := cl.Info(ctx); return err }},
		{"insert", "writer", func(_ context.Context, cl *client.Client) error { return exec(cl, "INSERT INTO t VALUES (1)") }},
		{"insert after a comment", "writer", func(_ context.Context, cl *client.Client) error {
			return exec(cl, "/* */ ; INSERT INTO t VALUES (1)")
		}},
		{"write with a read", "writer", func(_ context.Context, cl *client.Client) error {
			return exec(cl, "SELECT 1; DELETE FROM t WHERE x = 7")
		}},
		{"write by WITH", "writer", func(_ context.Context, cl *client.Client) error {
			return exec(cl, "WITH c(x) AS (SELECT 1) INSERT INTO t SELECT x FROM c")
		}},
		{"pragma", "writer", func(_ context.Context, cl *client.Client) error { return exec(cl, "PRAGMA user_version = 3") }},
		{"write in a transaction", "writer", func(ctx context.Context, cl *client.Client) error {
			s := cl.NewSession("")
			for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (2)", "COMMIT"} {
				if _, err := s.Do(ctx, &subjects.Request{DB: "a", SQL: sql}); err != nil {
					return err
				}
			}
			return nil
		}},
		{"BEGIN IMMEDIATE", "writer", func(ctx context.Context, cl *client.Client) error {
			s := cl.NewSession("")
			_, err := s.Do(ctx, &subjects.Request{DB: "a", SQL: "BEGIN IMMEDIATE"})
			if err == nil {
				_, err = s.Do(ctx, &subjects.Request{SQL: "ROLLBACK"})
			}
			return err
		}},
		{"create database", "writer", func(_ context.Context, cl *client.Client) error {
			n++
			return exec(cl, fmt.Sprintf("CREATE DATABASE c%d", n))
		}},
		{"command", "operator", func(ctx context.Context, cl *client.Client) error {
			_, err := cl.Send(ctx, &subjects.CommandRequest{Op: subjects.OpInfo, All: true})
			return err
		}},
		{"snapshot", "operator", func(ctx context.Context, cl *client.Client) error { _, err := cl.Snapshot(ctx, "a"); return err }},
		{"verify", "operator", func(ctx context.Context, cl *client.Client) error { _, err := cl.Verify(ctx, "a", false); return err }},
		{"drop database", admin, func(_ context.Context, cl *client.Client) error { return exec(cl, "DROP DATABASE b") }},
		{"users", admin, func(ctx context.Context, cl *client.Client) error { _, err := cl.Users(ctx); return err }},
		{"invite", admin, func(ctx context.Context, cl *client.Client) error {
			_, err := cl.Invite(ctx, subjects.InvitationRequest{})
			return err
		}},
		{"another's token", admin, func(ctx context.Context, cl *client.Client) error {
			_, err := cl.MakeToken(ctx, subjects.TokenRequest{User: "viewer", Role: "viewer", Label: "x"})
			if cl == users["viewer"] {
				_, err = cl.MakeToken(ctx, subjects.TokenRequest{Role: "writer", Label: "x"})
			}
			return err
		}},
	} {
		may := false
		for _, role := range ladder {
			may = may || role == step.least
			err := step.do(testContext(t), users[role])
			if may && err != nil {
				t.Errorf("%s as %s: %v", step.what, role, err)
			}
			if !may {
				denied(t, step.what+" as "+role, err)
			}
		}
	}
}

func TestUserOfOneDatabaseKnowsNoOther(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true}, "s1")
	for _, db := range []string{"mine", "other"} {
		c.do("", "CREATE DATABASE "+db)
		c.do(db, "CREATE TABLE t (x)")
	}
	u := c.addUser(subjects.UserRequest{User: "u", Role: "operator", Databases: []string{"mine"}})
	if resp, err := u.Exec(testContext(t), &subjects.Request{SQL: "SHOW DATABASES"}); err != nil || show(resp.Results) != `"mine"` {
		t.Errorf("%v, %v", resp, err)
	}
	if _, err := u.Exec(testContext(t), &subjects.Request{DB: "MINE", SQL: "INSERT INTO t VALUES (1)"}); err != nil {
		t.Error(err)
	}
	info, err := u.Info(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v %+v", info, info.Nodes[0].Status); strings.Contains(text, "other") {
		t.Errorf("the cluster's state tells of the other: %s", text)
	}
	ask := func(door string, req subjects.Request) error {
		_, err := u.Do(testContext(t), door, &req)
		return err
	}
	s := u.NewSession("")
	for what, err := range map[string]error{
		"read":      ask(subjects.Query, subjects.Request{DB: "other", SQL: "SELECT * FROM t"}),
		"write":     ask(subjects.Exec, subjects.Request{DB: "other", SQL: "INSERT INTO t VALUES (1)"}),
		"none such": ask(subjects.Query, subjects.Request{DB: "nothing", SQL: "SELECT 1"}),
		"USE": func() error {
			_, err := s.Do(testContext(t), &subjects.Request{SQL: "USE other"})
			return err
		}(),
		"USE, then read": ask(subjects.Exec, subjects.Request{DB: "mine", SQL: "USE other; SELECT * FROM t"}),
		"create":         ask(subjects.Exec, subjects.Request{SQL: "CREATE DATABASE third"}),
		"on a node":      ask(subjects.NodeQuery("s1"), subjects.Request{DB: "other", SQL: "SELECT * FROM t"}),
		"snapshot":       func() error { _, err := u.Snapshot(testContext(t), "other"); return err }(),
		"verify":         func() error { _, err := u.Verify(testContext(t), "other", false); return err }(),
		"copy": func() error {
			_, err := u.DoRaw(testContext(t), subjects.Copy, []byte(`{"id":"x","db":"other"}`))
			return err
		}(),
	} {
		if what != "copy" {
			denied(t, what, err)
		}
	}
	data, err := u.DoRaw(testContext(t), subjects.Copy, []byte(`{"id":"x","db":"other"}`))
	if refused := subjects.DecodeRefusal(data); err != nil || refused == nil || refused.Code != subjects.CodeForbidden {
		t.Errorf("copy: %s, %v", data, err)
	}
	nc := c.natsAs("u", "a password of u")
	for _, subject := range []string{subjects.Replicate, "node.*.status"} {
		sub, err := nc.SubscribeSync(subject)
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		c.do("other", "INSERT INTO t VALUES (2)")
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if n, _, err := sub.Pending(); err == nil && n > 0 {
			t.Errorf("%s is heard", subject)
		}
	}
}

func (c *cluster) natsAs(user, secret string) *nats.Conn {
	c.t.Helper()
	nc, err := nats.Connect(c.m.URL(), nats.Secure(c.tls()), nats.UserInfo(user, secret), nats.CustomInboxPrefix(subjects.UserInbox(subjects.CredentialName(user, secret))), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

func TestSessionsOfOthersCannotBeUsed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true})
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	u := c.addUser(subjects.UserRequest{User: "u", Role: "writer"})
	s := c.c.NewSession("")
	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1)"} {
		if _, err := s.Do(testContext(t), &subjects.Request{DB: "a", SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	// It is another session of the same name.
	resp, err := u.Query(testContext(t), &subjects.Request{DB: "a", Session: s.ID(), SQL: "SELECT count(*) FROM t"})
	if err != nil || show(resp.Results) != "0" || resp.Session.Tx {
		t.Errorf("%+v, %v", resp, err)
	}
	if _, err := s.Do(testContext(t), &subjects.Request{SQL: "COMMIT"}); err != nil {
		t.Error(err)
	}
}

// Rights count inside a transaction as they are now, and for the database that it is in.
func TestRightsAreLookedAtInsideATransaction(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true})
	for _, db := range []string{"a", "b"} {
		c.do("", "CREATE DATABASE "+db)
		c.do(db, "CREATE TABLE t (x)")
	}
	u := c.addUser(subjects.UserRequest{User: "u", Role: "writer"})
	s := u.NewSession("a")
	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1)"} {
		if _, err := s.Do(testContext(t), &subjects.Request{SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.c.ChangeUser(testContext(t), subjects.UserRequest{User: "u", Role: "viewer", Databases: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	u = c.connectAs("u", "a password of u")
	_, err := u.Exec(testContext(t), &subjects.Request{DB: "b", Session: s.ID(), Tx: true, SQL: "COMMIT"})
	denied(t, "commit", err)
	if got := c.rows("a", "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows were written by a viewer", got)
	}
}

// A weak token does not hear what is answered to a strong one of the same user.
func TestTokensHaveInboxesOfTheirOwn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true})
	weak, err := c.c.MakeToken(testContext(t), subjects.TokenRequest{Label: "weak", Role: "viewer"})
	if err != nil {
		t.Fatal(err)
	}
	nc := c.natsAs(admin, weak.Secret)
	for _, inbox := range []string{subjects.UserInbox(admin) + ".>", "_INBOX_*.>", "_INBOX_DEPUTY.>", ">"} {
		sub, err := nc.SubscribeSync(inbox)
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.c.Users(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if n, _, err := sub.Pending(); err == nil && n > 0 {
			t.Errorf("%s is heard", inbox)
		}
	}
}

func TestNodesThatWereNotInvitedStayOut(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true}, "s1")
	start := func(id, token string) *agent.Slave {
		s, err := agent.StartSlave(context.Background(), agent.SlaveOptions{URL: c.m.URL(), ID: id, Dir: filepath.Join(t.TempDir(), id), Token: token, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Stop(testContext(t)) }) // its error is that it was refused
		return s
	}
	used := c.tokens["s1"]
	revoked, err := c.c.Invite(testContext(t), subjects.InvitationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.c.RevokeInvitation(testContext(t), revoked.ID); err != nil {
		t.Fatal(err)
	}
	for id, token := range map[string]string{"none": "", "used": used, "revoked": revoked.Secret, "s1": revoked.Secret} {
		s := start(id, token)
		var refused *agent.RefusedError
		if err := s.Wait(); !errors.As(err, &refused) {
			t.Errorf("%s: %v", id, err)
		}
	}
	nodes, err := c.c.NodeKeys(testContext(t))
	if err != nil || len(nodes) != 1 || nodes[0].ID != "s1" {
		t.Errorf("%+v, %v", nodes, err)
	}
}

func TestRevokedNodeIsCutOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	began := time.Now()
	if err := c.c.RevokeNode(testContext(t), "s2"); err != nil {
		t.Fatal(err)
	}
	until(t, "s2 is cut off", func() bool { return c.node("s2").State == subjects.StateOffline })
	t.Logf("cut off after %v", time.Since(began))
	c.do("a", "CREATE TABLE t (x)")
	c.stopMaster()
	c.startMaster()
	c.untilInSync("s1")
	resp := c.do("a", "INSERT INTO t VALUES (1)")
	if strings.Join(resp.Applied, " ") != "s1" {
		t.Errorf("applied by %v", resp.Applied)
	}
	// A new invitation for exactly this node lets the machine in again, or another in its place.
	c.stopSlave("s2")
	made, err := c.c.Invite(testContext(t), subjects.InvitationRequest{Node: "s2", Labels: map[string]string{"room": "lab1"}})
	if err != nil {
		t.Fatal(err)
	}
	c.tokens["s2"] = made.Secret
	c.startSlave("s2")
	c.untilInSync("s1", "s2")

	// It has the labels of its invitation, by which an operator may be bound.
	op := c.addUser(subjects.UserRequest{User: "op", Role: "operator", Labels: "room=lab1"})
	until(t, "s2 has its label", func() bool { n := c.node("s2"); return n.Status != nil && n.Status.Labels["room"] == "lab1" })
	if _, err := op.Send(testContext(t), &subjects.CommandRequest{Op: subjects.OpInfo, Select: "room=lab1"}); err != nil {
		t.Error(err)
	}
	_, err = op.Send(testContext(t), &subjects.CommandRequest{Op: subjects.OpInfo, All: true})
	denied(t, "all nodes", err)
}

func TestWhatWasDoneAndDeniedIsOnRecord(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true, Audit: agent.Audit{Writes: true}}, "s1")
	u := c.addUser(subjects.UserRequest{User: "u", Role: "viewer", Databases: []string{"mine"}})
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
	c.do("a", "INSERT INTO t VALUES ('secret')")
	c.rows("a", "SELECT 1")
	_, err := u.Exec(testContext(t), &subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (2)"})
	denied(t, "another's database", err)
	_, err = u.Users(testContext(t))
	denied(t, "users", err)
	if _, err := client.Connect(testContext(t), c.m.URL(), client.Options{User: "u", Secret: "wrong", TLS: c.tls()}); err == nil {
		t.Error("let in with a wrong password")
	}
	if _, err := c.c.Send(testContext(t), &subjects.CommandRequest{Op: subjects.OpInfo, Nodes: []string{"s1"}}); err != nil {
		t.Fatal(err)
	}
	list, err := c.c.Audit(testContext(t), subjects.AuditRequest{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var record strings.Builder
	for _, line := range slices.Backward(list) {
		var e struct{ Who, Action, Target, Outcome, Detail string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&record, e.Who, "|", e.Action, "|", e.Target, "|", e.Outcome, "|", e.Detail)
	}
	for _, want := range []string{
		"admin | login |  | ok", "admin | access.password |  | ok", "admin | access.invitation.make |  | ok",
		"node s1 | node.enrol | s1 | ok", "admin | access.user.add | u | ok",
		"admin | sql.schema |  | ok | CREATE DATABASE a", "admin | sql.schema | a | ok | CREATE TABLE t (x)", "admin | sql.write | a | ok | INSERT INTO t VALUES ('secret')",
		"u | sql.write | a | denied", "u | access.user.list |  | denied", "u | login |  | denied", "admin | command.send | info s1 | ok",
	} {
		if strings.Count(record.String(), want) != 1 && !strings.Contains(want, "login") || !strings.Contains(record.String(), want) {
			t.Errorf("%q is not on record once", want)
		}
	}
	if strings.Contains(record.String(), "SELECT 1") || strings.Contains(record.String(), adminPassword) || strings.Contains(record.String(), "a password of") {
		t.Error("there is more than should be")
	}
	report, err := c.c.AuditVerify(testContext(t))
	if err != nil || report.Bad != "" || report.Entries < 12 {
		t.Errorf("%+v, %v", report, err)
	}
	if t.Failed() {
		t.Log("\n" + record.String())
	}
}

// The authority can be replaced while writes go on: nodes take over the new one.
func TestAuthorityIsRotatedUnderWrites(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true}, "s1", "s2")
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	ctx, end := context.WithCancel(testContext(t))
	wrote := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil {
			if _, err := c.c.Exec(testContext(t), &subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)", Ack: subjects.Ack{Kind: subjects.AckLog}}); err != nil {
				t.Error(err)
				break
			}
			n++
		}
		wrote <- n
	}()
	pin, err := c.c.RotateAuthority(testContext(t), time.Hour)
	if err != nil || pin != c.m.Fingerprint() {
		t.Fatalf("%s, %v", pin, err)
	}
	c.stopSlave("s1")
	c.startSlave("s1") // comes with the old fingerprint, and learns the new one
	c.untilInSync("s1", "s2")
	kept := filepath.Join(c.dir, "s1", "_snapdb_credentials.json")
	if data, err := os.ReadFile(kept); err != nil || !strings.Contains(string(data), pin) {
		t.Errorf("%s, %v", data, err)
	}
	c.connect().Close() // clients with the new one come in
	if _, err = c.c.RotateAuthority(testContext(t), -1); err != nil {
		t.Fatal(err)
	}
	end()
	if n := <-wrote; n == 0 {
		t.Error("nothing was written meanwhile")
	}
	// s1 knows neither of the new ones by its file: the last rotation had no grace.
	c.stopSlave("s1")
	s := c.startSlave("s1")
	c.untilInSync("s2")
	if n := c.node("s1"); n.State != subjects.StateOffline && n.State != subjects.StateStopped {
		t.Errorf("s1 is %s", n.State)
	}
	stop(t, s)
	delete(c.slaves, "s1")
}

// Every door lets in the roles that its right says, and no others.
func TestEveryDoorAsksForItsRight(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true})
	for _, role := range []string{"viewer", "writer", "operator", admin} {
		cl := c.addUser(subjects.UserRequest{User: "the-" + role, Role: role})
		has, err := access.ParseRole(role)
		if err != nil {
			t.Fatal(err)
		}
		for subject, right := range c.m.Rights() {
			data, err := cl.DoRaw(testContext(t), strings.ReplaceAll(subject, "*", "s1"), []byte(`{}`))
			refused := subjects.DecodeRefusal(data)
			forbidden := errors.Is(err, client.ErrDenied) || refused != nil && refused.Code == subjects.CodeForbidden
			switch {
			case err != nil && !errors.Is(err, client.ErrDenied):
				t.Errorf("%s as %s: %v", subject, role, err)
			case forbidden == (right < 0 || has.Has(right)) && subject != subjects.PasswordChange: // where {} is no right password
				t.Errorf("%s as %s: forbidden is %v, and takes right %d", subject, role, forbidden, right)
			}
		}
	}
	revoked := c.addUser(subjects.UserRequest{User: "gone", Role: admin})
	if err := c.c.RemoveUser(testContext(t), "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := revoked.Users(testContext(t)); err == nil {
		t.Error("a removed user is let in")
	}
}

// In an open cluster there is nothing to look after, and the doors say so.
func TestOpenClusterHasNoUsers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{})
	_, err := c.c.Users(testContext(t))
	var refused *subjects.Error
	if !errors.As(err, &refused) || refused.Code != subjects.CodeUnavailable || !strings.Contains(refused.Message, "--secure") {
		t.Error(err)
	}
}

// A token may do no more than its scope, and nothing when it is revoked.
func TestTokens(t *testing.T) {
	t.Parallel()
	c := newCluster(t, agent.MasterOptions{Secure: true})
	c.do("", "CREATE DATABASE a")
	c.do("a", "CREATE TABLE t (x)")
	reading, err := c.c.MakeToken(testContext(t), subjects.TokenRequest{Label: "ci", Role: "viewer"})
	if err != nil {
		t.Fatal(err)
	}
	cl := c.connectAs(admin, reading.Secret)
	if _, err := cl.Query(testContext(t), &subjects.Request{DB: "a", SQL: "SELECT 1"}); err != nil {
		t.Error(err)
	}
	_, err = cl.Exec(testContext(t), &subjects.Request{DB: "a", SQL: "INSERT INTO t VALUES (1)"})
	denied(t, "write", err)
	_, err = cl.MakeToken(testContext(t), subjects.TokenRequest{Label: "more", Role: "admin"})
	denied(t, "a stronger token", err)
	strong, err := c.c.MakeToken(testContext(t), subjects.TokenRequest{Label: "strong", Role: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	denied(t, "ending a stronger token", cl.RevokeToken(testContext(t), strong.ID))
	if _, err := client.Connect(testContext(t), c.m.URL(), client.Options{User: "somebody", Secret: reading.Secret, TLS: c.tls()}); !errors.Is(err, client.ErrDenied) {
		t.Errorf("in another's name: %v", err)
	}
	if err := c.c.RevokeToken(testContext(t), reading.ID); err != nil {
		t.Fatal(err)
	}
	until(t, "the token's connection is cut", func() bool {
		_, err := cl.Query(testContext(t), &subjects.Request{DB: "a", SQL: "SELECT 1"})
		return err != nil
	})
	if _, err := client.Connect(testContext(t), c.m.URL(), client.Options{User: admin, Secret: reading.Secret, TLS: c.tls()}); !errors.Is(err, client.ErrDenied) {
		t.Errorf("with a revoked token: %v", err)
	}
	brief, err := c.c.MakeToken(testContext(t), subjects.TokenRequest{Label: "brief", Expires: time.Now().Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	short := c.connectAs(admin, brief.Secret)
	until(t, "the token's time is over", func() bool { _, err := short.Info(testContext(t)); return err != nil })
}

// Nobody has heard the password of a first start that failed: the next makes another.
func TestStartThatFailsLeavesTheDirectoryOpen(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	for _, secured := range []bool{false, true} {
		o := agent.MasterOptions{Dir: dir, Listen: taken.Addr().String(), Secure: true, Logger: quiet()}
		if secured {
			o.Listen = "127.0.0.1:0"
		}
		m, err := agent.StartMaster(testContext(t), o)
		if secured == (err != nil) {
			t.Fatal(err)
		}
		if is, err := agent.Secured(dir); err != nil || is != secured {
			t.Errorf("secured: %v, %v", is, err)
		}
		if m == nil {
			continue
		}
		if m.FirstPassword() == "" {
			t.Error("no password is told")
		}
		if _, err := agent.ResetAdmin(testContext(t), dir); !errors.Is(err, exec.ErrInUse) {
			t.Errorf("while it runs: %v", err)
		}
		if err := m.Stop(testContext(t)); err != nil {
			t.Error(err)
		}
		if password, err := agent.ResetAdmin(testContext(t), dir); err != nil || password == "" || password == m.FirstPassword() {
			t.Errorf("reset: %q, %v", password, err)
		}
	}
}
