// Package command keeps the commands that people give to nodes, and sees to it
// that each reaches its nodes: the [Book] is the record of who was told what and
// what became of it, the [Dispatcher] sends what is due and notes what nodes say.
// [Journal] is the file that both the book and a node's own memory are kept in.
//
// What it is not: it does not know what a command means, how it travels, nor how
// it is shown. The dispatcher reaches nodes through its [Fleet].
//
// # What a state says
//
// A state changes only by what happened: [subjects.CommandDone] is a node's own
// word. A command that is sent and whose node falls silent is sent again, under
// the same id, when the node is back: a node does what it was told once, and
// answers a repetition with what became of the first. That makes a restart of the
// master harmless too: it sends again whatever was under way. After too long a
// silence the command is [subjects.CommandTimedOut], which does not say that it
// did not happen; what the node says later still counts.
package command
