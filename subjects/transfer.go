package subjects

// ImportRequest on Import asks for a database with the content of a file, which was
// brought before ([BlobPut]) as a blob compressed with zstd. It is asked again, word
// for word, until the answer is the last: whoever stops asking has given up, and so
// has who sends Cancel. Then nothing is left of it, unless it was too late.
type ImportRequest struct {
	ID     string `json:"id"` // of this import, chosen at random
	DB     string `json:"db"`
	Digest string `json:"digest,omitempty"` // "": only say whether it would be refused
	Size   int64  `json:"size"`             // of the blob in bytes
	File   int64  `json:"file"`             // of the file in bytes
	// Begun says that an earlier answer came: a master that knows nothing of it must
	// not begin it once more.
	Begun  bool `json:"begun,omitempty"`
	Cancel bool `json:"cancel,omitempty"`
}

// ImportStage says what is being done for an import.
type ImportStage string

// The stages, in order. An import that was refused or failed is answered with the
// error instead, and nothing is left of it.
const (
	ImportChecking ImportStage = "checking" // the master reads the file
	ImportStoring  ImportStage = "storing"  // it is in the log, and the master makes it its own
	ImportWaiting  ImportStage = "waiting"  // slaves do
	ImportDone     ImportStage = "done"
)

// ImportResponse answers an ImportRequest.
type ImportResponse struct {
	Stage    ImportStage `json:"stage"`
	DB       string      `json:"db,omitempty"`
	Position uint64      `json:"position,omitempty"` // of the content in the log
	Applied  []string    `json:"applied,omitempty"`  // nodes that have it, once done
	Pending  []string    `json:"pending,omitempty"`  // nodes that have not
}

// CopyRequest on Copy or [NodeCopy] borrows a copy of a database. The first makes the
// node take one, for which it is asked again until the copy is ready; then with Read
// for its bytes, from Offset on, which are the whole answer. The copy is removed with
// Close, or when nobody has asked for a while.
type CopyRequest struct {
	ID     string `json:"id"` // of this copy, chosen at random
	DB     string `json:"db,omitempty"`
	Read   bool   `json:"read,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	Close  bool   `json:"close,omitempty"`
}

// CopyResponse says how far a copy is.
type CopyResponse struct {
	Ready  bool   `json:"ready"`
	DB     string `json:"db,omitempty"`
	Head   Head   `json:"head"`             // what it is a copy of
	Size   int64  `json:"size,omitempty"`   // bytes
	Digest string `json:"digest,omitempty"` // SHA-256 in hexadecimal
	// Doubt says why the node's copy may not be what the log says.
	Doubt string `json:"doubt,omitempty"`
}
