package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strconv"

	"github.com/snapdb/snapdb/agent/blob"
	"github.com/snapdb/snapdb/exec"
	"github.com/snapdb/snapdb/subjects"
)

// maxFile is the size of the largest file that a command may carry, in bytes.
const maxFile = 8 << 30

// answerBlob serves a chunk of a blob: of a large transaction, a file or a snapshot.
func (m *Master) answerBlob(request []byte, answer reply) {
	var req subjects.BlobRequest
	if err := json.Unmarshal(request, &req); err != nil {
		respondError(answer, subjects.Errorf(subjects.CodeBadRequest, "not a blob request: %v", subjects.PlainJSON(request, err)))
		return
	}
	n := subjects.BlobChunk
	if req.Length > 0 {
		n = min(n, req.Length)
	}
	buf := make([]byte, n)
	n, err := m.blobs.ReadAt(req.Digest, buf, req.Offset)
	if errors.Is(err, fs.ErrNotExist) {
		n, err = m.orders.files.ReadAt(req.Digest, buf[:cap(buf)], req.Offset)
	}
	if errors.Is(err, fs.ErrNotExist) {
		n, err = m.keeper.snaps.ReadAt(req.Digest, buf[:cap(buf)], req.Offset)
	}
	if errors.Is(err, fs.ErrNotExist) {
		respondError(answer, subjects.Errorf(subjects.CodeNotFound, "no blob %.80q", req.Digest))
		return
	}
	if err != nil {
		respondError(answer, subjects.Errorf(subjects.CodeBadRequest, "%v", err))
		return
	}
	answer(buf[:n], nil)
}

// answerPut takes a chunk of a file that a command is to carry, or that a node
// brings.
func (m *Master) answerPut(r *demand, answer reply) {
	resp, err := m.putBlob(r)
	if err != nil {
		respondError(answer, exec.WireError(err))
		return
	}
	respondJSON(answer, resp)
}

func (m *Master) putBlob(r *demand) (*subjects.BlobPutResponse, error) {
	size, err := strconv.ParseInt(r.header.Get(subjects.HeaderSize), 10, 64)
	if err != nil || size < 0 {
		return nil, subjects.Errorf(subjects.CodeBadRequest, "header %s must be the size of the whole blob in bytes, not %.40q", subjects.HeaderSize, r.header.Get(subjects.HeaderSize))
	}
	offset, err := strconv.ParseInt(r.header.Get(subjects.HeaderOffset), 10, 64)
	if err != nil || offset < 0 {
		return nil, subjects.Errorf(subjects.CodeBadRequest, "header %s must be the offset of the chunk in bytes, not %.40q", subjects.HeaderOffset, r.header.Get(subjects.HeaderOffset))
	}
	if size > maxFile {
		return nil, subjects.Errorf(subjects.CodeTooBig, "the file has %d bytes, at most %d can be carried", size, int64(maxFile))
	}
	// Files stay away from the reserve below which nobody can write any more.
	if err := m.keeper.room(int64(len(r.data)) + int64(m.opts.DiskReserve)); err != nil {
		return nil, err
	}
	next, done, err := m.orders.files.Put(r.header.Get(subjects.HeaderDigest), size, offset, r.data)
	if errors.Is(err, blob.ErrDigest) {
		return nil, subjects.Errorf(subjects.CodeBadRequest, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	return &subjects.BlobPutResponse{Offset: next, Done: done}, nil
}
