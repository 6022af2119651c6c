package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/snapdb/snapdb/subjects"
)

// asset is an embedded file as it is served.
type asset struct {
	data []byte
	kind string // content type
	tag  string // of its content
}

// readAssets reads the files below a folder of files, by name relative to it.
func readAssets(files fs.FS, folder string) (map[string]asset, error) {
	assets := map[string]asset{}
	err := fs.WalkDir(files, folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		kind := mime.TypeByExtension(path.Ext(name))
		if path.Ext(name) == ".js" {
			kind = "text/javascript; charset=utf-8" // whatever this machine's table says
		}
		sum := sha256.Sum256(data)
		assets[strings.TrimPrefix(name, folder+"/")] = asset{data, kind, `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read embedded files: %w", err)
	}
	return assets, nil
}

// static serves an embedded file. Browsers keep it and ask whether it changed.
func (s *Server) static(assets map[string]asset) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		a, ok := assets[r.PathValue("name")]
		if !ok {
			return subjects.Errorf(subjects.CodeNotFound, "there is no file %s", clip(r.URL.Path))
		}
		h := w.Header()
		h.Set("Content-Type", a.kind)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", a.tag)
		if r.Header.Get("If-None-Match") == a.tag {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		_, _ = w.Write(a.data) // the client is gone if this fails
		return nil
	}
}
