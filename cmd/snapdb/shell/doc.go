// Package shell is `snapdb sql`: it reads SQL and dot commands from a terminal or
// from a script, sends them to a cluster in one session, and writes what comes
// back.
//
// It does not understand SQL. It knows where a statement ends, by the rules of
// SQLite's own shell, and looks at the first words of a statement only to decide
// which may travel together; everything else is the server's to judge.
//
// A script streams: memory does not grow with its size, and every failure names
// the line, the statement, and what was applied before it.
package shell
