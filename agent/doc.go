// Package agent is what a node does all day.
//
// A [Master] takes SQL at its doors, executes it in groups, logs each group
// through the broker and answers every client when its acknowledgement rule is
// met; it lets slaves in and knows how far each has come. A [Slave] reads the
// log, applies it to its own copies, acknowledges, and serves reads.
//
// The package decides when things happen and who is told. How SQL is executed
// is package exec's business, how messages are stored is package broker's, what
// they look like is package subjects'.
//
// # A write on the master
//
//	door ──▶ session ──▶ writer (one goroutine a database)
//	                       form a group: whoever waits, within bounds
//	                       execute it                         exec.Group
//	                       publish it, one fsync              broker.Log
//	                       commit it at its position          exec.Group
//	                       ledger: answer each client when    ledger
//	                               enough nodes have applied
//
// The next group begins as soon as the last is committed; nobody waits for
// slaves but the clients that asked to.
//
// # Imports and dumps
//
// A client brings a file as a blob; the master checks it, makes the database and logs
// one message that names the blob (importer.go). Every node fetches it and makes it its
// own, the master like all others, so that the same path serves restarts, slaves that
// were away, and the log's replay. For a dump a node lends a copy (package lend), which
// the client fetches piece by piece and turns into what it wants.
//
// # Staying equal
//
// The keeper of the master takes snapshots and shortens the log up to them. When a
// slave joins, the master compares what it has with the log, database by database: what
// the log continues goes on from there; what it does not, because the slave is new, was
// away for long, or has diverged, is replaced by the newest snapshot (slave_seed.go),
// after which the slave joins again. A copy is replaced in place, in one transaction of
// SQLite, so that reads go on. Two things are left to a person: a slave that has more
// than the master, and a master of which most slaves say that its log does not fit their
// content.
//
// Now and then the verifier of the master logs a message that asks for a comparison:
// each node sums up what it holds just there, in the background (proof.go), slaves tell
// the master, and the master tells a slave whose copy differs, which is then replaced
// like one that found out by itself. What a damaged file cannot give any more is made
// anew from nothing. A master finds what is wrong with its own files when it starts, and
// makes them anew from a snapshot and the log (restore.go).
//
// # Who asks
//
// Where [MasterOptions].Secure is set, the warden (warden.go) is the broker's gate, by
// what package access knows, and says at each door who asks, by what the broker has
// written into the request; the panel asks in the names of users that it has let in
// (panel.go). Each door names the right that it takes (door.go, admin.go), rights to
// databases and nodes are looked at where it is known which are meant, and no other
// place decides. What is done and what is denied goes on record (audited.go). A node
// comes by an invitation and is known by a key of its own (credentials.go). Without, the
// caller is somebody who may do everything, by the same code.
//
// # Who has said it
//
// A master with a key ([MasterOptions].Sign, package signing) signs what nodes act on:
// messages of the log, claims, heads, commands, and its answers to joins with everything
// in them, such as the digests of snapshots. Blobs need no signature, their digests are
// in what is signed. A node that trusts a key (genuine.go) acts on nothing else: whoever
// gets hold of the broker can then keep things from it, but tell it nothing. Three rules
// make an old signature worthless: a message of the log has one place, after the message
// whose chain it continues; heads are numbered; a command names its node and the end of
// its life, and is remembered until then. Where a database cannot go on because what the
// log has for it is not signed, the copy stops and says so.
//
// Statuses, acknowledgements and reports of nodes are not signed, nor are answers to
// clients, nor what the master says of a comparison, which at worst has a copy replaced
// by one that is signed for.
package agent
