// Package access knows who may do what in a secured cluster: users and their
// roles, the passwords, API tokens and web sessions by which they are known, the
// invitations by which nodes come in, and the keys of the nodes that came. All of
// it is one file of the master, access.json, and every change of it is on stable
// storage before the method that made it returns.
//
// What it is not: it opens no connection and guards no door. The doors ask
// [Store.Login], [Store.VerifyToken], [Store.Session] or [Store.NodeByKey] who is
// there, and the [Principal] what he may do. The cluster's signing key and its
// certificates are kept elsewhere.
//
// # What ends what
//
// A role, the databases and the labels of a user count for everything that the
// user has, from the moment they are set: a token has the lower of its own scope
// and the user's role, and of its own databases those that the user has too.
//
// A changed password ends the web sessions of the user, except the one that it was
// changed in. Tokens stay: programs hold them, and to replace a password must not
// stop the programs. Who fears that a token was stolen revokes it. While a
// one-time password waits to be changed, neither the password nor the tokens of
// that user may do anything but change the password.
//
// A revoked node stays known as such: neither its id nor its key comes back by an
// open invitation, and the invitation by which it came in ends, because that
// machine has its text.
//
// # Guessing
//
// After five wrong passwords there is a wait before the next is looked at, doubled
// by each further one up to five minutes: for the account, whoever tries, and for
// the address, whatever it tries. An address from which the account was logged in
// before is counted by itself, so that nobody elsewhere can keep the owner out; and
// an address that was told how long to wait, and waits, has its one attempt then,
// however many others try meanwhile. Tokens and sessions are too long to guess and
// are never made to wait. The counts are kept in memory: a restart forgets them.
package access
