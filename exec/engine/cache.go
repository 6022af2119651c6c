package engine

import lib "modernc.org/sqlite/lib"

// cache keeps prepared statements by their text, the least recently used ones
// last. A statement in use stays in it but is not given out a second time.
type cache struct {
	byKey   map[cacheKey]*Stmt
	ring    Stmt // next is the most recently used, prev the least
	loose   Stmt // ring of the statements that are open but not cached
	bytes   int
	entries int // limit of len(byKey)
	memory  int // limit of bytes
}

type cacheKey struct {
	guard Guard
	sql   string // the whole text it was prepared from
}

// link is a statement's place in one of the two rings.
type link struct {
	prev, next *Stmt
	key        cacheKey
	size       int // bytes
	cached     bool
	busy       bool // given out by Prepare and not closed yet
}

const (
	defaultStatements     = 512
	defaultStatementBytes = 16 << 20
)

func (k *cache) init(o Options) {
	k.byKey = make(map[cacheKey]*Stmt)
	k.ring.prev, k.ring.next = &k.ring, &k.ring
	k.loose.prev, k.loose.next = &k.loose, &k.loose
	k.entries, k.memory = o.Statements, o.StatementBytes
	if k.entries <= 0 {
		k.entries = defaultStatements
	}
	if k.memory <= 0 {
		k.memory = defaultStatementBytes
	}
}

// take gives out the statement for key, or nil. One that was compiled for another
// schema is thrown away: it would name and count columns that are no more.
func (k *cache) take(c *Conn, key cacheKey) *Stmt {
	s := k.byKey[key]
	if s == nil || s.busy {
		return nil
	}
	if s.fits != c.schema() {
		k.remove(s)
		return nil
	}
	s.busy = true
	if k.ring.next != s {
		s.unlink()
		s.pushFront(&k.ring)
	}
	return s
}

// add takes over a statement that is in use.
func (k *cache) add(s *Stmt, key cacheKey) {
	if k.byKey[key] != nil {
		return
	}
	size := len(key.sql) + int(lib.Xsqlite3_stmt_status(s.c.tls, s.h, lib.SQLITE_STMTSTATUS_MEMUSED, 0))
	if size > k.memory/4 {
		return // it would drive out too much else
	}
	s.key, s.size, s.cached, s.busy = key, size, true, true
	k.byKey[key] = s
	k.bytes += size
	s.unlink()
	s.pushFront(&k.ring)
	for old := k.ring.prev; old != &k.ring && (len(k.byKey) > k.entries || k.bytes > k.memory); {
		prev := old.prev
		if !old.busy {
			k.remove(old)
		}
		old = prev
	}
}

func (k *cache) remove(s *Stmt) {
	delete(k.byKey, s.key)
	k.bytes -= s.size
	s.finalize()
}

// closeAll finalizes every statement, in use or not.
func (k *cache) closeAll() {
	for _, ring := range []*Stmt{&k.ring, &k.loose} {
		for ring.next != ring {
			ring.next.finalize()
		}
	}
}

func (s *Stmt) pushFront(ring *Stmt) {
	s.prev, s.next = ring, ring.next
	s.prev.next, s.next.prev = s, s
}

func (s *Stmt) unlink() {
	s.prev.next, s.next.prev = s.next, s.prev
}

// cacheable says whether running the statement once more without preparing it
// anew does the same: settings work while they are prepared.
func (s *Stmt) cacheable() bool { return s.seen&(seenSetting|seenDefer|seenSchema) == 0 }
