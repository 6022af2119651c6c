// Package exec runs SQL on one node: it owns the data directory, the databases
// in it and the catalog that lists them, executes transactions so that every
// node gets the same content from them, and serves reads.
//
// # What it promises
//
// A transaction of the log, executed at the same place of the same history, has
// the same effect and the same results on every node, whatever was executed
// beside it, failed before it or is batched with it. The ritual that makes this
// true stands in one place, [execution], and is the same on the master, which
// executes a transaction first, and on everybody who repeats it.
//
// The applied position of a database is a row in its file and is written in the
// same SQLite transaction as the changes, so a file always says truly which
// history it holds. SQLite may lose its last commits in a power cut
// (synchronous=NORMAL); the file then says an older position and the log is
// replayed from there. The log is the truth, not the file.
//
// # Files in and out
//
// A database may begin with the content of a file of another program: [Image] makes a
// compact copy, [CheckImage] says whether the cluster's rules allow all of it, and the
// first message of the database, which names it, makes it the content in one SQLite
// transaction (image.go). The other way, [Strip] and [Dump] make of a copy what any
// program can read.
//
// # What it is not
//
// It knows nothing of NATS, of slaves or of who is asking: a caller (package
// agent) forms groups, publishes them and says at which position they were
// stored. It does not parse SQL: statements are classified by preparing them.
// The one exception are the commands that SQLite does not have (CREATE DATABASE,
// USE, SHOW, DESCRIBE), see [ParseCommand].
//
// The name is the owner's: this is not os/exec.
package exec
