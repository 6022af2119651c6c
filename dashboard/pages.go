package dashboard

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"

	"github.com/snapdb/snapdb/subjects"
)

// web holds what the panel is made of: web/NAME.html and web/static/NAME.js are the
// page NAME, web/layout.html is the frame of all pages, with the signs of
// web/icons.html, and everything else under static is what pages share.
//
//go:embed web
var web embed.FS

// webPage is a page of the panel.
type webPage struct {
	name   string // of its template and its module
	path   string // where it is, as the mux has it
	title  string
	right  right    // that it takes
	icon   string   // in the navigation; "": it is not there
	styles []string // beside those of all pages
}

// panelPages are the pages, in the order of the navigation.
func (s *Server) panelPages() []webPage {
	pages := []webPage{
		{"nodes", "/{$}", "Nodes", forViewers, "nodes", nil},
		{"sql", "/sql", "SQL", forViewers, "sql", []string{"chart", "grid", "sql"}},
		{"databases", "/databases", "Databases", forViewers, "databases", []string{"grid", "databases"}},
		{"replication", "/replication", "Replication", forViewers, "replication", []string{"chart"}},
		{"commands", "/commands", "Commands", forViewers, "commands", []string{"commands"}},
		{"files", "/files", "Files & wallpaper", forViewers, "files", []string{"files"}},
		{"logs", "/logs", "Logs", forViewers, "logs", []string{"loglist"}},
		{"node", "/nodes/{id}", "Node", forViewers, "", []string{"chart", "loglist"}},
	}
	if s.o.Access != nil {
		pages = append(pages,
			webPage{"access", "/access", "Access", forViewers, "access", []string{"access"}},
			webPage{"audit", "/audit", "Audit", forAdmins, "audit", []string{"access"}})
	}
	return pages
}

// link is an entry of the navigation.
type link struct {
	Path, Title, Icon string
	Here              bool
}

// view is what a template is filled with.
type view struct {
	Name, Title   string
	Styles        []string
	Pages         []link
	Node          string // that the page is about
	NATS, Version string
	Secured       bool
	Insecure      bool
	User, Role    string // of who looks; "" in an open cluster
	Limited       bool   // to some databases
	Held          string // why the page is not shown
}

// pages serves the pages and what they load.
func (s *Server) pages() error {
	assets, err := readAssets(web, "web/static")
	if err != nil {
		return err
	}
	s.mux.Handle("GET /static/{name...}", s.static(assets))
	for _, p := range s.panelPages() {
		show, err := s.webPage(p, http.StatusOK)
		if err != nil {
			return err
		}
		s.mux.Handle("GET "+p.path, s.forPerson(p.right, show))
	}
	// What is left of the address of a node without the node.
	s.mux.Handle("GET /nodes", http.RedirectHandler("/", http.StatusFound))
	if s.refusal, err = s.webPage(webPage{name: "refused", title: "Not allowed"}, http.StatusForbidden); err != nil {
		return err
	}
	missing, err := s.webPage(webPage{name: "missing", title: "Not here"}, http.StatusNotFound)
	if err != nil {
		return err
	}
	s.mux.Handle("/", s.forPerson(forViewers, missing))
	return s.entry()
}

// webPage answers with a page.
func (s *Server) webPage(p webPage, status int) (handler, error) {
	t, err := template.ParseFS(web, "web/layout.html", "web/icons.html", "web/"+p.name+".html")
	if err != nil {
		return nil, fmt.Errorf("parse page %s: %w", p.name, err)
	}
	var links []link
	for _, other := range s.panelPages() {
		if other.icon != "" {
			path := other.path
			if path == "/{$}" {
				path = "/"
			}
			links = append(links, link{Path: path, Title: other.title, Icon: other.icon, Here: other.name == p.name})
		}
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		v := view{Name: p.name, Title: p.title, Styles: p.styles, Pages: links, NATS: s.o.NATS, Version: s.o.Version, Secured: s.o.Access != nil, Insecure: s.o.Insecure}
		if who := visitorOf(r.Context()); who.name != "" {
			v.User, v.Role, v.Limited = who.User, who.Role, who.limited()
			v.Held = heldOf(r.Context())
		}
		if p.name == "node" {
			v.Node = r.PathValue("id")
			v.Title = v.Node
		}
		var body bytes.Buffer
		if err := t.ExecuteTemplate(&body, "layout", v); err != nil {
			return subjects.Errorf(subjects.CodeInternal, "make page %s: %v", p.name, err)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(body.Bytes()) // the client is gone if this fails
		return nil
	}, nil
}
