package dashboard

import (
	"bytes"
	"cmp"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Where people show who they are. All of it works without JavaScript.
const (
	loginPath    = "/login"
	logoutPath   = "/logout"
	passwordPath = "/password"
)

// maxForm is how many bytes a form may have: passwords and an address to go back to.
const maxForm = 16 << 10

// tooMany is the status of an attempt to log in that was not looked at.
const tooMany = http.StatusTooManyRequests

// entryView is what the pages to log in and to change the password are filled with.
type entryView struct {
	Name, Title   string
	User, Next    string
	Once          bool   // the password is for one time
	Trouble       string // why the last attempt failed
	Least, Most   int    // bytes of a password
	NATS, Version string
}

// The length of passwords, for the fields of the page. What counts is what the door says.
const leastPassword, mostPassword = 12, 1024

// entry serves what leads in and out of a secured cluster.
func (s *Server) entry() error {
	if s.o.Access == nil {
		return nil
	}
	login, err := s.entryPage("login", "Log in")
	if err != nil {
		return err
	}
	password, err := s.entryPage("password", "Change the password")
	if err != nil {
		return err
	}
	s.mux.Handle("GET "+loginPath, handler(func(w http.ResponseWriter, r *http.Request) error {
		next := localPath(r.URL.Query().Get("next"))
		if s.visitor(r).may(forUsers) == nil {
			http.Redirect(w, r, next, http.StatusSeeOther)
			return nil
		}
		return login(w, http.StatusOK, entryView{Next: next})
	}))
	s.mux.Handle("POST "+loginPath, handler(func(w http.ResponseWriter, r *http.Request) error { return s.login(w, r, login) }))
	s.mux.Handle("POST "+logoutPath, handler(s.logout))
	s.mux.Handle("GET "+passwordPath, s.forPerson(forUsers, func(w http.ResponseWriter, r *http.Request) error {
		return password(w, http.StatusOK, passwordView(r, r.URL.Query().Get("next"), ""))
	}))
	s.mux.Handle("POST "+passwordPath, s.forPerson(forUsers, func(w http.ResponseWriter, r *http.Request) error {
		return s.changePassword(w, r, password)
	}))
	return nil
}

// entryPage makes what answers with one of the pages.
func (s *Server) entryPage(name, title string) (func(http.ResponseWriter, int, entryView) error, error) {
	t, err := template.ParseFS(web, "web/entry.html", "web/icons.html", "web/"+name+".html")
	if err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter, status int, v entryView) error {
		v.Name, v.Title, v.Least, v.Most, v.NATS, v.Version = name, title, leastPassword, mostPassword, s.o.NATS, s.o.Version
		var body bytes.Buffer
		if err := t.ExecuteTemplate(&body, "entry", v); err != nil {
			return subjects.Errorf(subjects.CodeInternal, "make page %s: %v", name, err)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(body.Bytes()) // the client is gone if this fails
		return nil
	}, nil
}

// readForm reads the fields of a form, which are never taken from the address.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience)); err != nil {
		return nil, subjects.Errorf(subjects.CodeInternal, "limit the time for the form: %v", err)
	}
	if err := r.ParseForm(); err != nil {
		return nil, bodyError(err)
	}
	return r.PostForm, nil
}

// login opens a session for who has a name and password. The secret is always a new one:
// what a browser had before counts for nothing.
func (s *Server) login(w http.ResponseWriter, r *http.Request, page func(http.ResponseWriter, int, entryView) error) error {
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	user, next := strings.TrimSpace(form.Get("user")), localPath(form.Get("next"))
	secret, err := s.o.Access.Login(r.Context(), user, form.Get("password"), r.RemoteAddr, r.UserAgent())
	if err != nil {
		status := statusOf(wireError(err).Code)
		switch wireError(err).Code {
		case subjects.CodeForbidden:
			status = http.StatusUnauthorized
		case subjects.CodeBusy:
			status = tooMany
		}
		return page(w, status, entryView{User: user, Next: next, Trouble: sentence(wireError(err).Message)})
	}
	s.setCookie(w, secret)
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

// logout ends the session of a browser.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if cookie, err := r.Cookie(s.cookieName()); err == nil {
		if err := s.o.Access.Logout(cookie.Value, r.RemoteAddr); err != nil && !isForbidden(err) {
			return err
		}
	}
	s.setCookie(w, "")
	http.Redirect(w, r, loginPath, http.StatusSeeOther)
	return nil
}

func passwordView(r *http.Request, next, trouble string) entryView {
	v := visitorOf(r.Context())
	return entryView{User: v.User, Once: v.MustChange, Next: localPath(next), Trouble: trouble}
}

// changePassword changes a user's own password.
func (s *Server) changePassword(w http.ResponseWriter, r *http.Request, page func(http.ResponseWriter, int, entryView) error) error {
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	q := subjects.PasswordRequest{Old: form.Get("old"), New: form.Get("new")}
	if q.New != form.Get("again") {
		err = subjects.Errorf(subjects.CodeBadRequest, "the new password and its repetition differ")
	} else {
		err = s.ask(r.Context(), subjects.PasswordChange, &q, new(nothing))
	}
	var refused *subjects.Error
	switch {
	case errors.As(err, &refused):
		return page(w, statusOf(refused.Code), passwordView(r, form.Get("next"), sentence(refused.Message)))
	case err != nil:
		return err
	}
	http.Redirect(w, r, localPath(form.Get("next")), http.StatusSeeOther)
	return nil
}

// sentence makes one of an error.
func sentence(text string) string {
	return strings.ToUpper(text[:min(1, len(text))]) + text[min(1, len(text)):] + "."
}

// localPath is an address on this server to go to, "/" if it is none: what a link says
// must not lead anybody elsewhere.
func localPath(next string) string {
	u, err := url.Parse(next)
	switch {
	case err != nil, u.Scheme != "", u.Host != "", u.Opaque != "", u.User != nil:
		return "/"
	case !strings.HasPrefix(next, "/"), strings.HasPrefix(next, "//"), strings.ContainsAny(next, "\\\t\r\n"):
		return "/"
	case u.Path == loginPath, u.Path == logoutPath, u.Path == passwordPath:
		return "/"
	}
	return cmp.Or(u.RequestURI(), "/")
}

// cookieName is what the cookie of a session is called. A browser takes one with the
// prefix over HTTPS only, from this very host, and for all of it.
func (s *Server) cookieName() string {
	if s.o.TLS != nil {
		return "__Host-snapdb"
	}
	return "snapdb"
}

// setCookie gives a browser the secret of a session, or takes it away. It lasts as long as
// the browser runs; the session may end before.
func (s *Server) setCookie(w http.ResponseWriter, secret string) {
	c := &http.Cookie{Name: s.cookieName(), Value: secret, Path: "/", HttpOnly: true, Secure: s.o.TLS != nil, SameSite: http.SameSiteStrictMode}
	if secret == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
