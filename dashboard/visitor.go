package dashboard

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/snapdb/snapdb/subjects"
)

// Access knows the users of a secured cluster by what they show. What is wrong, or over,
// is a *subjects.Error with CodeForbidden; what was not looked at, because too much
// before it was wrong, one with CodeBusy.
type Access interface {
	// Login opens a session, and returns the secret by which it is known.
	Login(ctx context.Context, user, password, from, browser string) (secret string, err error)
	// Session and Token say whose the secret of a session or of an API token is, and by
	// which name the doors know that.
	Session(secret string) (name string, who subjects.Who, err error)
	Token(secret string) (name string, who subjects.Who, err error)
	// Look says what is left of it, by name, and does not count as a use.
	Look(name string) (subjects.Who, error)
	// Logout ends a session.
	Logout(secret, from string) error
}

// right is what a route or a page takes. What a request is about, and whether a user may
// do that, the doors know; here is refused what is plain from the route.
type right int

// The rights.
const (
	forAnybody right = 1 + iota
	forUsers         // with whatever rights: to see to themselves
	forViewers
	forViewersOfAll // users who are limited to some databases are not among them
	forWriters
	forOperators
	forAdmins
)

// role is the lowest one that has a right.
func (r right) role() string {
	switch r {
	case forWriters:
		return "writer"
	case forOperators:
		return "operator"
	case forAdmins:
		return "admin"
	}
	return "viewer"
}

// rightOf is the highest right that a role has.
func rightOf(role string) right {
	switch role {
	case "viewer":
		return forViewersOfAll
	case "writer":
		return forWriters
	case "operator":
		return forOperators
	case "admin":
		return forAdmins
	}
	return forUsers
}

// visitor is who a request comes from.
type visitor struct {
	name string // by which the doors know him; "" if he may do everything, or is nobody
	from string // address
	subjects.Who
	open bool // the cluster is: he may do everything
}

// may refuses what the visitor has no right to.
func (v *visitor) may(need right) *subjects.Error {
	switch {
	case v.open, need == forAnybody:
		return nil
	case v.name == "":
		return subjects.Errorf(codeUnauthenticated, "log in first, or show an API token: Authorization: Bearer snapdb_...")
	case need == forUsers:
		return nil
	case v.MustChange:
		return subjects.Errorf(subjects.CodeForbidden, "the password of %s is for one time: change it first", v.User)
	case rightOf(v.Role) < need:
		return subjects.Errorf(subjects.CodeForbidden, "this takes the role %s, %s is %s: an admin can change that", need.role(), v.User, v.Role)
	case need == forViewersOfAll && v.limited():
		return subjects.Errorf(subjects.CodeForbidden, "this shows all databases, and %s is limited to some: an admin can change that", v.User)
	}
	return nil
}

// limited says whether there are databases that the visitor may not use.
func (v *visitor) limited() bool { return v.Databases != nil }

// uses says whether the visitor may use a database.
func (v *visitor) uses(db string) bool {
	return !v.limited() || slices.ContainsFunc(v.Databases, func(own string) bool { return len(own) == len(db) && strings.EqualFold(own, db) })
}

// sameRights says whether the visitor still is who he was.
func (v *visitor) sameRights(now subjects.Who) bool {
	return v.Role == now.Role && v.MustChange == now.MustChange && (v.Databases == nil) == (now.Databases == nil) && slices.Equal(v.Databases, now.Databases)
}

type visitorKey struct{}

// visitorOf is who a request in hand comes from; nil for the panel itself.
func visitorOf(ctx context.Context) *visitor {
	v, _ := ctx.Value(visitorKey{}).(*visitor)
	return v
}

func (v *visitor) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, visitorKey{}, v)
}

// request asks at a door, in the name of whoever the request in hand comes from.
func (s *Server) request(ctx context.Context, subject string, header map[string][]string, data []byte) (reply []byte, refused bool, err error) {
	if v := visitorOf(ctx); v != nil && v.name != "" {
		if header = maps.Clone(header); header == nil {
			header = map[string][]string{}
		}
		header[subjects.HeaderAs], header[subjects.HeaderFrom] = []string{v.name}, []string{v.from}
	}
	return s.bus.Request(ctx, subject, header, data)
}

// visitor finds out who a request comes from: a token counts before a session.
func (s *Server) visitor(r *http.Request) *visitor {
	v := &visitor{from: r.RemoteAddr, open: s.o.Access == nil}
	if v.open {
		return v
	}
	var err error
	if token, ok := bearer(r); ok {
		v.name, v.Who, err = s.o.Access.Token(token)
	} else if cookie, missing := r.Cookie(s.cookieName()); missing == nil {
		v.name, v.Who, err = s.o.Access.Session(cookie.Value)
	}
	if err != nil {
		return &visitor{from: r.RemoteAddr}
	}
	return v
}

// bearer is the API token that a request shows.
func bearer(r *http.Request) (token string, ok bool) {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(kind, "Bearer")
}

// forProgram makes a route of a handler, and refuses who has no right to it.
func (s *Server) forProgram(need right, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v := s.visitor(r)
		if refused := v.may(need); refused != nil {
			if refused.Code == codeUnauthenticated {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			return refused
		}
		return h(w, r.WithContext(v.in(r.Context())))
	}
}

// forPerson makes a page of a handler. Who has to show first who he is, or to change his
// password, is brought there, and back afterwards.
func (s *Server) forPerson(need right, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v := s.visitor(r)
		refused := v.may(need)
		back := "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
		switch {
		case refused == nil:
			return h(w, r.WithContext(v.in(r.Context())))
		case refused.Code == codeUnauthenticated:
			http.Redirect(w, r, loginPath+back, http.StatusSeeOther)
		case v.MustChange:
			http.Redirect(w, r, passwordPath+back, http.StatusSeeOther)
		default:
			ctx := context.WithValue(v.in(r.Context()), heldKey{}, refused.Message)
			return s.refusal(w, r.WithContext(ctx))
		}
		return errAnswered
	}
}

type heldKey struct{}

// heldOf is why the visitor does not get the page that he wants.
func heldOf(ctx context.Context) string {
	why, _ := ctx.Value(heldKey{}).(string)
	return why
}

// isForbidden says whether an error is that somebody is not who he says, or may not.
func isForbidden(err error) bool {
	var refused *subjects.Error
	return errors.As(err, &refused) && refused.Code == subjects.CodeForbidden
}
