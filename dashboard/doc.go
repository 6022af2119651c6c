// Package dashboard is the door for browsers and for programs that speak HTTP: the
// panel, the JSON API under /api/v1, what is live over a WebSocket, and what
// monitoring asks for (/healthz, /readyz, /metrics).
//
// It holds no rule of the cluster. Whatever is asked of it goes to the same doors
// that everybody reaches over NATS, by way of a [Bus], in the same words: what the
// panel can do, the nats command can do.
//
// # What is live
//
// One goroutine, the watch, asks for the state of the cluster: once a second for
// the history, more often while somebody looks. Every WebSocket has a goroutine that
// writes, which takes the newest of everything whenever the browser has taken the
// last: a slow one gets fewer messages, never old ones, and holds nobody up.
//
// # Who may come
//
// In an open cluster everybody may do everything, so it listens on loopback and nowhere
// else. In a secured one it speaks HTTPS, and users show who they are: people by a
// session, programs by an API token ([Access]). What a user may do the doors say, which
// are asked in his name; a route or page refuses early what is plain from it.
//
// A page of another site cannot use a browser to get in: the Host must be a name of this
// machine, requests of other origins are refused, and GET changes nothing.
package dashboard
