package dashboard

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
)

// web holds the templates of the pages, and under static what they load.
//
//go:embed web
var web embed.FS

// pages serves the pages and what they load.
func (s *Server) pages() error {
	assets, err := readAssets(web, "web/static")
	if err != nil {
		return err
	}
	nodes, err := template.ParseFS(web, "web/nodes.html")
	if err != nil {
		return fmt.Errorf("parse a page: %w", err)
	}
	s.mux.Handle("GET /static/{name...}", s.static(assets))
	s.mux.Handle("GET /{$}", handler(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		return nodes.Execute(w, map[string]string{"NATS": s.o.NATS, "Version": s.o.Version})
	}))
	return nil
}
