package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// goodbye is how long it may take to say that something is not wanted any more.
const goodbye = 2 * time.Second

// copyAgain is the pause before a node is asked again whether a copy is ready.
const copyAgain = 100 * time.Millisecond

// CheckImport asks whether the master would refuse a database of that name and size.
func (c *Client) CheckImport(ctx context.Context, db string, file int64) error {
	return c.ask(ctx, subjects.Import, subjects.ImportRequest{ID: newID(), DB: db, File: file}, new(subjects.ImportResponse))
}

// Import makes a database of a file of that size, of which r is size bytes compressed
// with zstd. sending, if not nil, hears how much of it is at the master, stage what is
// being done then. When ctx ends, or after an error, nothing is left of it on any node,
// unless it was too late; the error says so.
func (c *Client) Import(ctx context.Context, db string, r io.ReaderAt, size, file int64, sending func(done int64), stage func(subjects.ImportStage)) (*subjects.ImportResponse, error) {
	req := subjects.ImportRequest{ID: newID(), DB: db, Size: size, File: file}
	digest, err := c.PutBlob(ctx, r, size, sending)
	if req.Digest = digest; err != nil {
		return nil, errors.Join(err, c.cancelImport(ctx, req))
	}
	for {
		resp := new(subjects.ImportResponse)
		if err := c.ask(ctx, subjects.Import, req, resp); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if ctx.Err() != nil || !req.Begun {
				err = errors.Join(err, c.cancelImport(ctx, req))
			}
			return nil, err
		}
		if req.Begun = true; stage != nil {
			stage(resp.Stage)
		}
		if resp.Stage == subjects.ImportDone {
			return resp, nil
		}
	}
}

// cancelImport says that an import is not wanted any more, and waits until nothing is
// left of it.
func (c *Client) cancelImport(ctx context.Context, req subjects.ImportRequest) error {
	if req.Digest == "" {
		return nil
	}
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer end()
	for req.Cancel = true; ; {
		resp := new(subjects.ImportResponse)
		err := c.ask(ctx, subjects.Import, req, resp)
		var refused *subjects.Error
		switch {
		case errors.As(err, &refused) && refused.Code == subjects.CodeCancelled, err == nil && !req.Begun:
			return nil
		case err != nil:
			return fmt.Errorf("give up the import: %w", err)
		case resp.Stage == subjects.ImportDone:
			return fmt.Errorf("give up the import: it was too late, database %s is there", req.DB)
		}
	}
}

// FetchCopy borrows a copy of a database from a node, the master if node is "", and
// writes it to w. progress, if not nil, hears how much of how many bytes is here. The
// error wraps [ErrDigest] if something else arrived.
func (c *Client) FetchCopy(ctx context.Context, node, db string, w io.Writer, progress func(done, total int64)) (*subjects.CopyResponse, error) {
	door := subjects.Copy
	if node != "" {
		door = subjects.NodeCopy(node)
	}
	req := subjects.CopyRequest{ID: newID(), DB: db}
	defer func() {
		ctx, end := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer end()
		_ = c.ask(ctx, door, subjects.CopyRequest{ID: req.ID, Close: true}, new(subjects.CopyResponse)) // else it ends by itself
	}()
	resp := new(subjects.CopyResponse)
	for !resp.Ready {
		*resp = subjects.CopyResponse{}
		if err := c.ask(ctx, door, req, resp); err != nil {
			return nil, err
		}
		if resp.Ready {
			break
		}
		select {
		case <-time.After(copyAgain):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	hash := sha256.New()
	req.Read = true
	for req.Offset < resp.Size {
		body, err := json.Marshal(req)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		data, err := c.carry(ctx, door, nil, body)
		if err != nil {
			return nil, fmt.Errorf("get the copy: %w", err)
		}
		if len(data) == 0 {
			return nil, fmt.Errorf("get the copy: it ends after %d of %d bytes", req.Offset, resp.Size)
		}
		hash.Write(data)
		if _, err := w.Write(data); err != nil {
			return nil, fmt.Errorf("write the copy: %w", err)
		}
		if req.Offset += int64(len(data)); progress != nil {
			progress(req.Offset, resp.Size)
		}
	}
	if is := hex.EncodeToString(hash.Sum(nil)); is != resp.Digest {
		return nil, fmt.Errorf("get the copy: %w: it has %s, not %s", ErrDigest, is, resp.Digest)
	}
	return resp, nil
}

// ask sends one JSON object until it is answered by another.
func (c *Client) ask(ctx context.Context, door string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	data, err := c.carry(ctx, door, nil, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func newID() string { return rand.Text() }
