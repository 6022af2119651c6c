package dashboard

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/snapdb/snapdb/subjects"
)

// policy lets a page load only what this server serves, and no other page frame it.
// Pictures may also come from the page's own memory, for previews.
const policy = "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// CheckListen says whether an address is one that only this machine reaches, as it must
// be in an open cluster. The error wraps [ErrNotLoopback] if it is another.
func CheckListen(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT: %w", addr, err)
	}
	if !loopback(host) {
		return fmt.Errorf("%w: %s: in an open cluster whoever reaches the panel may do everything", ErrNotLoopback, addr)
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

// guard refuses what does not come from a page of this server or from a program, and
// sets the headers that every answer has.
//
// A page of another site can make a name of its own point to this machine, and is
// then of the same origin as far as the browser knows: only the Host tells. Its port
// may be another one, as through a tunnel.
func (s *Server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		host := hostOf(r)
		if !loopback(host) && !s.isCalled(host, r) {
			refuse(w, subjects.Errorf(subjects.CodeDenied, "the panel is not called %q: %s", clip(r.Host), s.names()))
			return
		}
		if s.o.TLS != nil && r.TLS == nil {
			toHTTPS(w, r)
			return
		}
		if s.o.TLS != nil && !loopback(host) { // on localhost it would hold for other programs too
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		// Who shows a token is known by nothing that a browser adds by itself.
		if _, token := bearer(r); !token || s.o.Access == nil {
			if err := cross.Check(r); err != nil {
				refuse(w, subjects.Errorf(subjects.CodeDenied, "the request comes from a page of another site"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// hostOf is what a client calls this server, without the port.
func hostOf(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

// isCalled says whether a host that a network reaches is this server: its certificate is
// for that name, or a client that may come over the network came by that very address.
func (s *Server) isCalled(host string, r *http.Request) bool {
	if s.o.TLS != nil {
		c, err := s.o.TLS.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
		if err == nil && c.Leaf != nil && c.Leaf.VerifyHostname(host) == nil {
			return true
		}
	}
	if s.o.Access == nil && !s.o.Insecure {
		return false
	}
	by, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	at, err := netip.ParseAddrPort(fmt.Sprint(by))
	ip, bad := netip.ParseAddr(host)
	return err == nil && bad == nil && at.Addr().Unmap().WithZone("") == ip.Unmap().WithZone("")
}

// names says by what the panel is reached, for who used something else.
func (s *Server) names() string {
	if s.o.TLS == nil {
		return "it is reached as localhost only"
	}
	return "it is reached by the names and addresses in its certificate"
}

// toHTTPS brings who came without encryption to where there is some. What he has sent is
// not taken.
func toHTTPS(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	there := url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, subjects.Errorf(subjects.CodeBadRequest, "this is the port of HTTPS: send it to https://%s; what you have sent could be read on the way", r.Host))
		return
	}
	http.Redirect(w, r, there.String(), http.StatusPermanentRedirect)
}

// clip keeps a hostile name from filling the screen of whoever reads the error.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
