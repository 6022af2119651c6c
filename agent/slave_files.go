package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/snapdb/snapdb/agent/files"
	"github.com/snapdb/snapdb/subjects"
)

// filePatience is how long the master may be out of reach while a file is carried.
const filePatience = 10 * time.Minute

func (s *Slave) doFiles(ctx context.Context, _ *doing) (any, error) { return s.files.List(ctx) }

// doPush puts a file of the master into the node's folder. What an earlier attempt
// has brought is kept.
func (s *Slave) doPush(ctx context.Context, t *doing) (any, error) {
	a := args[subjects.PushArgs](t)
	var chunk []byte // what has come and is not taken yet,
	at := int64(0)   // from here on
	next := func(ctx context.Context, offset int64, buf []byte) (int, error) {
		if len(chunk) == 0 || offset != at {
			err := s.persist(ctx, func() (err error) {
				chunk, err = s.getChunk(ctx, subjects.BlobRequest{Digest: a.Digest, Offset: offset})
				return err
			})
			if err != nil {
				return 0, err
			}
			if len(chunk) == 0 {
				return 0, io.ErrUnexpectedEOF
			}
		}
		n := copy(buf, chunk)
		chunk, at = chunk[n:], offset+int64(n)
		return n, nil
	}
	err := s.files.Receive(ctx, a.Name, a.Size, a.Digest, next, func(done int64) {
		s.tasks.progress(t.id, "receiving", done, a.Size)
	})
	if err != nil {
		return nil, err
	}
	return subjects.FileInfo{Name: a.Name, Size: a.Size, Digest: a.Digest}, nil
}

// doFetch brings a file of the node's folder to the master.
func (s *Slave) doFetch(ctx context.Context, t *doing) (any, error) {
	a := args[subjects.FetchArgs](t)
	digest, err := s.files.Digest(ctx, a.Name)
	if err != nil {
		return nil, err
	}
	f, info, err := s.files.Read(a.Name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info.Digest = digest
	buf := make([]byte, files.ChunkSize)
	// First without bytes: the master may have some of it, or all.
	for chunk, at := buf[:0], int64(0); ; {
		resp, err := s.putChunk(ctx, &info, at, chunk)
		if err != nil {
			return nil, err
		}
		if resp.Done {
			return info, nil
		}
		s.tasks.progress(t.id, "sending", resp.Offset, info.Size)
		at = resp.Offset
		n, err := f.ReadAt(buf[:min(int64(len(buf)), max(0, info.Size-at))], at)
		if err != nil && !(errors.Is(err, io.EOF) && at+int64(n) == info.Size) {
			return nil, fmt.Errorf("read %s, which somebody has changed: %w", a.Name, err)
		}
		if n == 0 && info.Size > 0 {
			return nil, fmt.Errorf("the master does not take the end of %s", a.Name)
		}
		chunk = buf[:n]
	}
}

// putChunk gives the master a chunk of a file, and is told where to go on.
func (s *Slave) putChunk(ctx context.Context, info *subjects.FileInfo, at int64, chunk []byte) (resp subjects.BlobPutResponse, err error) {
	msg := &nats.Msg{Subject: subjects.BlobPut, Data: chunk, Header: nats.Header{
		subjects.HeaderDigest: {info.Digest}, subjects.HeaderSize: {strconv.FormatInt(info.Size, 10)}, subjects.HeaderOffset: {strconv.FormatInt(at, 10)},
	}}
	err = s.persist(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, chunkPatience)
		defer cancel()
		answer, err := s.nc.RequestMsgWithContext(ctx, msg)
		if err != nil {
			return fmt.Errorf("put file: %w", err)
		}
		if refused := subjects.DecodeRefusal(answer.Data); refused != nil {
			return refused
		}
		return json.Unmarshal(answer.Data, &resp)
	})
	return resp, err
}

// persist tries again while the master is out of reach.
func (s *Slave) persist(ctx context.Context, try func() error) error {
	pause, began := backOff{}, time.Now()
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !outOfReach(err), time.Since(began) > filePatience:
			return err
		}
		pause.wait(ctx, &s.online)
	}
}
