package agent

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/access"
	"github.com/snapdb/snapdb/broker"
)

// Silence is for how long nothing may arrive of what a slave knows of.
const Silence = silence

// Waiting is how many writes wait for the writer of a database.
func (m *Master) Waiting(db string) int {
	w, err := m.writer(db)
	if err != nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

// Conn is a connection with the master's rights, Wire the log over it, Term the running
// term: what somebody has who has broken into the broker, but not into the key.
func (m *Master) Conn() *nats.Conn  { return m.journal.conn() }
func (m *Master) Wire() *broker.Log { return m.journal.reader() }
func (m *Master) Term() uint64      { return m.journal.current() }

// Impatient makes a master end idle transactions, long ones, and what runs in a
// database that is dropped, sooner than usual.
func (o *MasterOptions) Impatient(idle, wanted, total, drop time.Duration) {
	o.patience = patience{idle: idle, wanted: wanted, total: total, drop: drop, away: usualPatience().away}
}

// Cheaply makes a master hash passwords in no time, which many tests at once would have
// to wait for.
func (o *MasterOptions) Cheaply() { o.hashing = access.Costs{Time: 1, MemoryKiB: 8, Threads: 1} }

// Hasty makes a master take clients that do not ask how their import is for gone soon.
func (o *MasterOptions) Hasty(away time.Duration) {
	o.patience = usualPatience()
	o.patience.away = away
}

// Importing says whether an import is under way.
func (m *Master) Importing() bool {
	m.importer.mu.Lock()
	defer m.importer.mu.Unlock()
	return m.importer.busy != nil
}

// Expired says whether the transaction of a session was ended for it.
func (m *Master) Expired(session string) bool {
	m.sessions.mu.Lock()
	defer m.sessions.mu.Unlock()
	x := m.sessions.open[session]
	if x == nil || !x.busy.TryLock() {
		return false
	}
	defer x.busy.Unlock()
	return x.tx != nil && x.tx.lost()
}

// RouseKeeper makes a master look now whether snapshots and the log's length are as
// they should be.
func (m *Master) RouseKeeper() { m.keeper.rouse() }

// Rights are what users need at the doors, by subject; 0: no user may enter.
func (m *Master) Rights() map[string]access.Right {
	rights := map[string]access.Right{}
	for _, doors := range []map[string]door{m.doors(), newAdmin(m).doors()} {
		for _, d := range doors {
			rights[d.subject] = d.right
		}
	}
	return rights
}
