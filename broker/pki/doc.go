// Package pki is the cluster's own certificate authority: it makes and renews the
// certificate with which the master proves to be the master, to NATS clients and
// browsers alike, and it is how a client recognises it again by a fingerprint.
//
// # What it is for
//
// A cluster in a house or an office has no name that a public CA would certify. It
// needs none: the master makes a CA that signs for this one cluster ([Open]), and
// whoever is to connect is told the [Keeper.Fingerprint] of that CA, in an
// invitation or by a person who reads it off the master. [ClientConfig] takes
// nothing else than a server that this CA has certified, wherever it is and
// whatever it is called. Who has certificates already uses them ([Own]), and
// clients then check them by the system's roots, a file of roots ([ClientCA]), or
// the fingerprint of the private CA behind them.
//
// # What it is not
//
// It certifies servers, not people and not nodes: those prove who they are in other
// ways, inside the connection. It revokes nothing: a stolen ca.key is answered with
// [Keeper.Rotate] and no grace. It takes no lock: the caller holds the folder.
//
// # The folder
//
//	ca.key      the CA: its private key and its certificate, and after a rotation
//	            what the old CA has left behind
//	ca.pem      the CA's certificate alone, a copy to be given away
//	server.key  the private key of the server's certificate
//	server.pem  that certificate and those that it hangs on
//
// The folder is 0700 and its files are 0600; a key that others may read is refused.
// Key and certificate of the CA lie in one file because one file can be replaced in
// one step: no power cut can leave a key with the certificate of another. What is
// not in ca.key is made again when it is missing, damaged or does not fit. A missing
// or damaged ca.key is an error, because nobody would recognise the next CA.
//
// The CA lasts ten years. The server's certificate lasts 90 days and is renewed at
// the first handshake that finds less than a third of them left, or a name or
// address missing. Connections that are there notice nothing of it.
//
// # Rotation
//
// [Keeper.Rotate] makes a new CA with a new fingerprint. As its last act the old one
// signs the new one, so that for a time of grace two paths lead up from the server's
// certificate, and the server shows both:
//
//	server ← new CA (signed by the old CA) ← old CA    found by the old fingerprint
//	server ← new CA (signed by itself)                 found by the new one
//
// The old key is then gone. That is why the CA's certificate allows one CA below it,
// and the one that the old CA signs none. Any TLS client that trusts the old ca.pem
// goes on as well. Meanwhile a client learns the new fingerprint from a connection
// that the old one has proven ([Issuer]).
package pki
