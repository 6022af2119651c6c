package dashboard

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/snapdb/snapdb/subjects"
)

// policy lets a page load only what this server serves, and no other page frame it.
// Pictures may also come from the page's own memory, for previews.
const policy = "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// CheckListen says whether an address is one that only this machine reaches. The
// error wraps [ErrNotLoopback] if it is another.
func CheckListen(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT: %w", addr, err)
	}
	if !loopback(host) {
		return fmt.Errorf("%w: %s: there are no credentials yet, so whoever reaches the panel may do everything", ErrNotLoopback, addr)
	}
	return nil
}

// loopback says whether a host is this machine and reached by it alone. Names are
// not looked up: whoever answers for a name could change the answer.
func loopback(host string) bool {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// guard refuses what does not come from a page of this server or from a program on
// this machine, and sets the headers that every answer has.
//
// A page of another site can make a name of its own point to this machine, and is
// then of the same origin as far as the browser knows: only the Host tells. Its port
// may be another one, as through a tunnel.
func (s *Server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, subjects.Errorf(subjects.CodeDenied, "the request comes from a page of another site"))
	}))
	inner := cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !loopback(host) {
			refuse(w, subjects.Errorf(subjects.CodeDenied, "the panel is reached as localhost only, not as %q", clip(r.Host)))
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// clip keeps a hostile name from filling the screen of whoever reads the error.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
