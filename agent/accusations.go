package agent

import "time"

const (
	// accusedFor is how long a slave's word that it has diverged counts.
	accusedFor = 10 * time.Minute
	// accuseWait is how long other slaves are given to say the same.
	accuseWait = 2 * time.Second
)

// accusations are what slaves say of their own copies: that they are not what the log
// says. If most say so of a database, it is the master that executed something else
// than it logged, and its copy must not become theirs.
type accusations map[string]map[string]accusation // by database and node

type accusation struct{ first, last time.Time }

// add notes one. most is true when most of the slaves, of which there are so many, and
// more than one, have said it lately; early when others may be about to.
func (a accusations) add(db, node string, slaves int, now time.Time) (most, early bool) {
	if a[db] == nil {
		a[db] = map[string]accusation{}
	}
	said := accusation{a[db][node].first, now}
	if now.Sub(a[db][node].last) > accusedFor {
		said.first = now
	}
	a[db][node] = said
	n := 0
	for node, s := range a[db] {
		if now.Sub(s.last) > accusedFor {
			delete(a[db], node)
			continue
		}
		n++
	}
	return n > 1 && 2*n > slaves, now.Sub(said.first) < accuseWait
}

// withdraw forgets what a node has said of a database.
func (a accusations) withdraw(db, node string) {
	delete(a[db], node)
	if len(a[db]) == 0 {
		delete(a, db)
	}
}
