package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/agent/audit"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// record puts an event into the audit record of a secured cluster. What has been done
// stays done when that fails; the master's log tells.
func (m *Master) record(e audit.Event) {
	if m.audit == nil {
		return
	}
	if err := m.audit.Append(e); err != nil {
		m.log.Error("not in the audit record", "who", e.Who, "action", e.Action, "target", e.Target, "outcome", e.Outcome, "error", err)
	}
}

// recorded records what becomes of a request before it is answered.
func (m *Master) recorded(who *caller, e audit.Event, answer reply) reply {
	e.Who, e.From = who.Name(), who.from
	if who.node != "" {
		e.Who = "node " + who.node
	}
	return func(data []byte, failed *subjects.Error) {
		e.Outcome = audit.OK
		if failed != nil {
			e.Outcome, e.Code = audit.Failed, string(failed.Code)
			if failed.Code == subjects.CodeForbidden {
				e.Outcome = audit.Denied
			}
			e.Detail = failed.Message
		}
		m.record(e)
		answer(data, failed)
	}
}

// onlyDenied records a request only if it is denied.
func (m *Master) onlyDenied(who *caller, e audit.Event, answer reply) reply {
	return func(data []byte, failed *subjects.Error) {
		if failed != nil && failed.Code == subjects.CodeForbidden {
			m.recorded(who, e, answer)(data, failed)
			return
		}
		answer(data, failed)
	}
}

// auditSQL records the SQL of a request: if it changes a schema, if it writes and writes
// are wanted, and if it is denied.
func (m *Master) auditSQL(who *caller, req *subjects.Request, answer reply) reply {
	if m.audit == nil {
		return answer
	}
	stmts := statements(req)
	e := audit.Event{Action: "sql", Target: req.DB, SQL: stmts[0].SQL}
	for _, s := range stmts[1:] {
		e.SQL += "; " + s.SQL
	}
	schema := slices.ContainsFunc(stmts, func(s subjects.Stmt) bool { return exec.ChangesSchema(s.SQL) })
	writes := schema || m.opts.Audit.Writes && slices.ContainsFunc(stmts, func(s subjects.Stmt) bool { return exec.LooksLikeWrite(s.SQL) })
	switch {
	case schema:
		e.Action = "sql.schema"
	case writes:
		e.Action, e.Lazy = "sql.write", true
	default:
		return m.onlyDenied(who, e, answer)
	}
	recorded := m.recorded(who, e, answer)
	return func(data []byte, failed *subjects.Error) {
		// Whoever answers writes may not wait for a disk.
		if !m.crew.do(func() { recorded(data, failed) }) {
			recorded(data, failed)
		}
	}
}

// about is what a request of the control plane is about, for the audit record: what it
// names, whatever the door.
func about(data []byte) string {
	var q struct {
		DB, User, ID, Op, Select, Node string
		Nodes                          []string
		All                            bool
	}
	if json.Unmarshal(data, &q) != nil {
		return ""
	}
	if q.Op != "" {
		to := cmp.Or(q.Select, "all")
		if len(q.Nodes) > 0 {
			to = names(q.Nodes)
		}
		return q.Op + " " + to
	}
	return cmp.Or(q.User, q.DB, q.Node, q.ID)
}

// auditMost is how many entries one answer has if nothing else is said, and at most.
const auditUsual, auditMost = 100, 1000

// auditList reads the audit record.
func (a *admin) auditList(ctx context.Context, _ *caller, q *subjects.AuditRequest) (*subjects.AuditListResponse, error) {
	f := audit.Filter{Who: q.Who, Action: q.Action, Target: q.Target, Outcome: audit.Outcome(q.Outcome), Since: q.Since, Until: q.Until, Before: q.Before, Newest: true, Limit: auditUsual}
	if q.Limit > 0 {
		f.Limit = min(q.Limit, auditMost)
	}
	list := &subjects.AuditListResponse{Entries: []json.RawMessage{}}
	for entry, err := range a.m.audit.Read(ctx, f) {
		var damaged *audit.DamagedError
		if errors.As(err, &damaged) {
			continue // the record is not to be trusted, which AuditVerify says
		}
		if err != nil {
			return nil, err
		}
		line, err := json.Marshal(entry)
		if err != nil {
			return nil, err
		}
		list.Entries = append(list.Entries, line)
	}
	return list, nil
}

// auditVerify proves the audit record.
func (a *admin) auditVerify(ctx context.Context, _ *caller, _ *nothing) (*subjects.AuditReport, error) {
	r, err := a.m.audit.Verify(ctx)
	if err != nil {
		return nil, err
	}
	report := &subjects.AuditReport{First: r.First.N, Last: r.Last.N, Hash: r.Last.Hash, Entries: r.Entries}
	if r.Bad != nil {
		report.Bad = r.Bad.Error()
	}
	return report, nil
}

// connected records who came in at the gate, or did not.
func (w *warden) connected(user, node, from string, err error) {
	e := audit.Event{Who: user, From: from, Action: "login", Outcome: audit.OK, Lazy: true}
	if node != "" {
		e.Who, e.Action = "node "+node, "node.connect"
	}
	if err != nil {
		var throttled *access.ThrottledError
		if errors.As(err, &throttled) {
			return // attempts that were not looked at would push all others out of the record
		}
		e.Outcome, e.Code, e.Detail, e.Lazy = audit.Denied, string(subjects.CodeForbidden), err.Error(), false
	}
	w.record(e)
}
