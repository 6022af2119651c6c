package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/snapdb/snapdb/subjects"
)

// Times of carrying a blob.
const (
	// chunkPatience is how long the master may take for one chunk: with the last it
	// reads the whole blob once more.
	chunkPatience = time.Minute
	// blobPatience is how long a blob may not get on while the master is away.
	blobPatience = time.Minute
	// blobAgain is the pause before a chunk is tried again.
	blobAgain = 300 * time.Millisecond
)

// ErrDigest: a blob that arrived is not the one that was asked for.
var ErrDigest = errors.New("the content does not have its digest")

// PutBlob brings size bytes of r to the master, from where an earlier try broke
// off, and returns their digest, with an error too if it is known. progress, if not nil, hears how much is there. A
// chunk may be sent twice without harm, so that a lost connection only delays.
func (c *Client) PutBlob(ctx context.Context, r io.ReaderAt, size int64, progress func(done int64)) (digest string, err error) {
	hash := sha256.New()
	n, err := io.Copy(hash, readerOf(ctx, io.NewSectionReader(r, 0, size)))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", fmt.Errorf("read content: %w", err)
	}
	digest = hex.EncodeToString(hash.Sum(nil))
	buf := make([]byte, min(size, subjects.BlobChunk))
	chunk := buf[:0] // the first asks where to begin
	var offset int64
	for {
		at, err := c.putChunk(ctx, digest, size, offset, chunk)
		if err != nil {
			return digest, fmt.Errorf("bring content to the master: %w", err)
		}
		if at.Offset < 0 || at.Offset > size {
			return digest, fmt.Errorf("bring content to the master: it has %d of %d bytes", at.Offset, size)
		}
		if progress != nil {
			progress(at.Offset)
		}
		if at.Done {
			return digest, nil
		}
		offset = at.Offset
		chunk = buf[:min(int64(len(buf)), size-offset)]
		if _, err := r.ReadAt(chunk, offset); err != nil && !errors.Is(err, io.EOF) {
			return digest, fmt.Errorf("read content: %w", err)
		}
	}
}

func (c *Client) putChunk(ctx context.Context, digest string, size, offset int64, chunk []byte) (*subjects.BlobPutResponse, error) {
	header := map[string][]string{
		subjects.HeaderDigest: {digest},
		subjects.HeaderSize:   {strconv.FormatInt(size, 10)},
		subjects.HeaderOffset: {strconv.FormatInt(offset, 10)},
	}
	data, err := c.carry(ctx, subjects.BlobPut, header, chunk)
	if err != nil {
		return nil, err
	}
	at := new(subjects.BlobPutResponse)
	if err := json.Unmarshal(data, at); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return at, nil
}

// GetBlob writes the blob of a digest to w. progress, if not nil, hears how much
// has arrived. The error wraps [ErrDigest] if something else arrived: what was
// written is then worth nothing.
func (c *Client) GetBlob(ctx context.Context, digest string, w io.Writer, progress func(done int64)) error {
	hash := sha256.New()
	for offset := int64(0); ; {
		body, err := json.Marshal(subjects.BlobRequest{Digest: digest, Offset: offset})
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		data, err := c.carry(ctx, subjects.BlobGet, nil, body)
		if err != nil {
			return fmt.Errorf("get content from the master: %w", err)
		}
		if len(data) == 0 {
			break
		}
		hash.Write(data)
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("write content: %w", err)
		}
		if offset += int64(len(data)); progress != nil {
			progress(offset)
		}
	}
	if is := hex.EncodeToString(hash.Sum(nil)); is != digest {
		return fmt.Errorf("get content from the master: %w: it has %s, not %s", ErrDigest, is, digest)
	}
	return nil
}

// carry is one request about a chunk, tried again while the master is away.
func (c *Client) carry(ctx context.Context, subject string, header map[string][]string, body []byte) ([]byte, error) {
	late := time.Now().Add(blobPatience)
	for {
		try, cancel := context.WithTimeout(ctx, chunkPatience)
		data, refused, err := c.DoHeader(try, subject, header, body)
		cancel()
		switch {
		case err == nil && refused:
			return nil, refusal(data)
		case err == nil:
			return data, nil
		case !errors.Is(err, ErrLost) && !errors.Is(err, ErrUnreachable), time.Now().After(late):
			return nil, err
		}
		select {
		case <-time.After(blobAgain):
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// refusal is the error that an answer is.
func refusal(data []byte) error {
	var failed struct {
		Error *subjects.Error `json:"error"`
	}
	if err := json.Unmarshal(data, &failed); err != nil || failed.Error == nil {
		return fmt.Errorf("refused: %.200q", data)
	}
	return failed.Error
}

// readerOf is a reader that ends with its context.
func readerOf(ctx context.Context, r io.Reader) io.Reader { return &contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
