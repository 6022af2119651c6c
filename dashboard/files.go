package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Limits of files.
const (
	maxFile       = 8 << 30 // bytes
	maxUploads    = 4       // at a time: each lies on the disk twice for a while
	filePatience  = 30 * time.Second
	uploadPattern = "upload-*"
)

// fileInfo is a file that the master has, for a command to carry.
type fileInfo struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Name   string `json:"name"`
	Type   string `json:"type"` // media type, by content
}

// sweepUploads removes what an earlier process left of uploads.
func sweepUploads(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for uploads: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, uploadPattern))
	if err != nil {
		return fmt.Errorf("look for old uploads: %w", err)
	}
	var errs []error
	for _, name := range left {
		errs = append(errs, os.Remove(name))
	}
	return errors.Join(errs...)
}

// postFile takes a file and gives it to the master. It has to lie on the disk
// before: the master wants to know its digest first.
func (s *Server) postFile(w http.ResponseWriter, r *http.Request) (err error) {
	p := readParameters(r, "name")
	name := p.text("name")
	switch {
	case p.err != nil:
		return p.err
	case len(name) > subjects.MaxFileName:
		return subjects.Errorf(subjects.CodeBadRequest, "the name has more than %d bytes", subjects.MaxFileName)
	case r.ContentLength > maxFile:
		return subjects.Errorf(subjects.CodeTooBig, "the file has %d bytes, at most %d can be carried", r.ContentLength, int64(maxFile))
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		return subjects.Errorf(subjects.CodeBusy, "%d files are on their way already: try again", maxUploads)
	}
	f, err := os.CreateTemp(s.o.Uploads, uploadPattern)
	if err != nil {
		return subjects.Errorf(subjects.CodeInternal, "keep the file: %v", err)
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }() // what is left is swept at the next start
	info, err := receive(w, r, f)
	if err != nil {
		return err
	}
	info.Name = name
	if err := s.put(r.Context(), f, info); err != nil {
		return err
	}
	return replyJSON(w, http.StatusCreated, info)
}

// receive writes the body to f, as long as it goes on arriving.
func receive(w http.ResponseWriter, r *http.Request, f *os.File) (*fileInfo, error) {
	conn := http.NewResponseController(w)
	body := http.MaxBytesReader(w, r.Body, maxFile)
	hash := sha256.New()
	info := &fileInfo{}
	buf := make([]byte, subjects.BlobChunk)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(filePatience)); err != nil {
			return nil, subjects.Errorf(subjects.CodeInternal, "limit the time for the file: %v", err)
		}
		n, err := io.ReadFull(body, buf)
		if info.Size == 0 {
			info.Type = http.DetectContentType(buf[:n])
		}
		hash.Write(buf[:n])
		if _, failed := f.Write(buf[:n]); failed != nil {
			return nil, subjects.Errorf(subjects.CodeUnavailable, "keep the file: %v", failed)
		}
		info.Size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && (r.ContentLength < 0 || info.Size == r.ContentLength) {
			break
		}
		if err != nil {
			return nil, bodyError(err)
		}
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, subjects.Errorf(subjects.CodeInternal, "limit the time for the file: %v", err)
	}
	info.Digest = hex.EncodeToString(hash.Sum(nil))
	return info, nil
}

// put gives a file to the master in chunks, from where the master wants to go on.
func (s *Server) put(ctx context.Context, f io.ReaderAt, info *fileInfo) error {
	buf := make([]byte, subjects.BlobChunk)
	stuck := 0
	for offset, n := int64(0), 0; ; {
		at, err := s.putChunk(ctx, info, offset, buf[:n])
		switch {
		case err != nil:
			return err
		case at.Done:
			return nil
		case at.Offset < offset+int64(n):
			if stuck++; stuck > 10 { // two with the same file overtake each other, but not for ever
				return subjects.Errorf(subjects.CodeUnavailable, "the master does not take the file")
			}
		}
		offset = at.Offset
		if n, err = f.ReadAt(buf, offset); err != nil && !errors.Is(err, io.EOF) {
			return subjects.Errorf(subjects.CodeInternal, "read the file again: %v", err)
		}
		if n == 0 && info.Size > 0 {
			return subjects.Errorf(subjects.CodeInternal, "the master asks for byte %d of a file of %d", offset, info.Size)
		}
	}
}

func (s *Server) putChunk(ctx context.Context, info *fileInfo, offset int64, chunk []byte) (*subjects.BlobPutResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, filePatience)
	defer cancel()
	answer, err := s.askDoor(ctx, subjects.BlobPut, map[string][]string{
		subjects.HeaderDigest: {info.Digest},
		subjects.HeaderSize:   {strconv.FormatInt(info.Size, 10)},
		subjects.HeaderOffset: {strconv.FormatInt(offset, 10)},
	}, chunk)
	if err != nil {
		return nil, err
	}
	at := new(subjects.BlobPutResponse)
	if err := json.Unmarshal(answer, at); err != nil {
		return nil, subjects.Errorf(subjects.CodeInternal, "read the answer of %s: %v", subjects.BlobPut, err)
	}
	return at, nil
}

// shownTypes are pictures that a page may show. Everything else is only for keeping.
const shownTypes = "image/png image/jpeg image/gif image/webp"

// getFile sends a file that the master has.
func (s *Server) getFile(w http.ResponseWriter, r *http.Request) error {
	p := readParameters(r, "name")
	name := p.text("name")
	if p.err != nil {
		return p.err
	}
	digest := r.PathValue("digest")
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size {
		return subjects.Errorf(subjects.CodeBadRequest, "a file is named by its SHA-256 in hexadecimal, not %q", clip(digest))
	}
	chunk, err := s.chunk(r.Context(), digest, 0)
	if err != nil {
		return err
	}
	if name == "" {
		name = digest[:12]
	}
	kind, place := http.DetectContentType(chunk), "inline"
	if !strings.Contains(" "+shownTypes+" ", " "+kind+" ") {
		kind, place = "application/octet-stream", "attachment"
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", mime.FormatMediaType(place, map[string]string{"filename": name}))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	conn := http.NewResponseController(w)
	for offset := int64(0); ; {
		if err := conn.SetWriteDeadline(time.Now().Add(filePatience)); err != nil {
			return errAnswered // the client is gone
		}
		if _, err := io.Copy(w, bytes.NewReader(chunk)); err != nil {
			return errAnswered
		}
		offset += int64(len(chunk))
		if len(chunk) < subjects.BlobChunk {
			return nil
		}
		if chunk, err = s.chunk(r.Context(), digest, offset); err != nil {
			// Half a file must not look like a whole one.
			s.log.Warn("a file could not be sent to its end", "digest", digest, "error", err)
			panic(http.ErrAbortHandler)
		}
	}
}

// chunk gets bytes of a blob: as many as there are from an offset on, up to
// BlobChunk.
func (s *Server) chunk(ctx context.Context, digest string, offset int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, filePatience)
	defer cancel()
	request, err := json.Marshal(subjects.BlobRequest{Digest: digest, Offset: offset})
	if err != nil {
		return nil, subjects.Errorf(subjects.CodeInternal, "encode a request to %s: %v", subjects.BlobGet, err)
	}
	return s.askDoor(ctx, subjects.BlobGet, nil, request)
}
