package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/snapdb/snapdb/agent/snapshot"
	"github.com/snapdb/snapdb/subjects"
)

// Times of fetching blobs.
const (
	// chunkPatience is how long one chunk may take.
	chunkPatience = 5 * time.Second
	// blobPatience is how long a blob may be out of reach before the apply that
	// reads it is rolled back, to be tried again later.
	blobPatience = 30 * time.Second
)

// errBlob: a blob is not what the log says it is.
var errBlob = errors.New("blob does not have the size and digest it should have")

// blobReader reads a blob of the master chunk by chunk, going on where it was
// after a lost connection. Its end is an error unless everything read was the
// content that the digest names.
type blobReader struct {
	ctx   context.Context
	get   func(ctx context.Context, r subjects.BlobRequest) ([]byte, error)
	early *bell  // ends a pause between attempts
	seen  func() // called for every chunk
	ref   subjects.BlobRef

	hash  hash.Hash
	at    int64  // fetched
	chunk []byte // fetched and not yet read
	err   error  // sticky
}

// openBlob opens a blob for [exec.Database.Apply].
func (l *lane) openBlob(ctx context.Context, ref subjects.BlobRef) (io.ReadCloser, error) {
	l.blob = &blobReader{
		ctx: ctx, get: l.s.getChunk, early: &l.s.online, ref: ref, hash: sha256.New(),
		seen: func() { l.progress(l.statements) },
	}
	return l.blob, nil
}

// fetchImage brings the image that a database begins with, for [exec.Source].
func (l *lane) fetchImage(ctx context.Context, ref subjects.ImageRef, path string) error {
	if err := l.s.roomFor(3 * ref.File); err != nil { // the unpacked file, the WAL, the database
		return err
	}
	r := &blobReader{
		ctx: ctx, get: l.s.getChunk, early: &l.s.online, ref: ref.BlobRef, hash: sha256.New(),
		seen: func() { l.progress(0) },
	}
	if err := snapshot.Unpack(r, path, ref.File); err != nil {
		return fmt.Errorf("fetch image: %w", err)
	}
	if err := r.verify(); err != nil {
		return fmt.Errorf("fetch image: %w", err)
	}
	return nil
}

// getChunk asks the master for one chunk.
func (s *Slave) getChunk(ctx context.Context, r subjects.BlobRequest) ([]byte, error) {
	req, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode blob request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, chunkPatience)
	defer cancel()
	msg, err := s.nc.RequestWithContext(ctx, subjects.BlobGet, req)
	if err != nil {
		return nil, fmt.Errorf("get blob: %w", err)
	}
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		refused := subjects.Errorf(subjects.Code(code), "%s", msg.Header.Get(micro.ErrorHeader))
		return nil, fmt.Errorf("get blob: the master says: %w", refused)
	}
	return msg.Data, nil
}

// lost says whether an apply failed because the master does not have a blob any more.
func lost(err error) bool {
	var refused *subjects.Error
	return errors.As(err, &refused) && refused.Code == subjects.CodeNotFound
}

// Read gives the next bytes.
func (b *blobReader) Read(p []byte) (int, error) {
	if len(b.chunk) == 0 && b.err == nil {
		b.err = b.fetch()
	}
	if len(b.chunk) == 0 {
		return 0, b.err
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	return n, nil
}

// fetch gets the next chunk, io.EOF at a correct end.
func (b *blobReader) fetch() error {
	if b.at == b.ref.Size {
		if sum := hex.EncodeToString(b.hash.Sum(nil)); sum != b.ref.Digest {
			return fmt.Errorf("%w: digest %s, should be %s", errBlob, sum, b.ref.Digest)
		}
		return io.EOF
	}
	chunk, err := b.persist()
	if err != nil {
		return err
	}
	if len(chunk) == 0 || b.at+int64(len(chunk)) > b.ref.Size {
		return fmt.Errorf("%w: %s has %d bytes, should have %d", errBlob, b.ref.Digest, b.at+int64(len(chunk)), b.ref.Size)
	}
	b.hash.Write(chunk)
	b.at += int64(len(chunk))
	b.chunk = chunk
	b.seen()
	return nil
}

// persist asks for the chunk until it comes, for as long as that makes sense.
func (b *blobReader) persist() ([]byte, error) {
	pause, began := backOff{}, time.Now()
	for {
		chunk, err := b.get(b.ctx, subjects.BlobRequest{Digest: b.ref.Digest, Offset: b.at})
		switch {
		case err == nil:
			return chunk, nil
		case b.ctx.Err() != nil:
			return nil, context.Cause(b.ctx)
		case !outOfReach(err), time.Since(began) > blobPatience:
			return nil, err
		}
		pause.wait(b.ctx, b.early)
	}
}

// outOfReach says whether an error is of the connection, or of a master that starts,
// stops or has too much to do, not of the blob.
func outOfReach(err error) bool {
	var refused *subjects.Error
	if errors.As(err, &refused) {
		return refused.Code == subjects.CodeBusy || refused.Code == subjects.CodeUnavailable
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected)
}

// verify reads the rest and says whether the blob is what it should be.
func (b *blobReader) verify() error {
	_, err := io.Copy(io.Discard, b)
	return err
}

// Close does nothing: chunks are asked for one by one.
func (b *blobReader) Close() error { return nil }
