package subjects

// TableSum is what one table of a database holds, in short.
type TableSum struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	Sum   string `json:"sum"`
}

// VerifyReport is what a slave sends to Verified: what its copy of a database holds just
// after a message that asks for it. The answer is a VerifyVerdict.
type VerifyReport struct {
	V        int    `json:"v"`
	ID       string `json:"id"`
	Session  uint64 `json:"session"`
	Database string `json:"database"`
	Head
	Rows   int64      `json:"rows"`
	Sum    string     `json:"sum"`              // of everything
	Tables []TableSum `json:"tables,omitempty"` // left out if there are too many for a message
	Damage string     `json:"damage,omitempty"` // what a deep comparison found wrong with the file
	Failed string     `json:"failed,omitempty"` // why there is no sum
}

// VerifyVerdict is what the master says of a report.
type VerifyVerdict struct {
	Wait    bool     `json:"wait,omitempty"`    // it does not know yet: ask again in a second
	Differs bool     `json:"differs,omitempty"` // the copy is not what it should be
	Tables  []string `json:"tables,omitempty"`  // those that differ, if that is known
}

// VerifyRequest on Verify asks the master to compare a database on all nodes.
type VerifyRequest struct {
	DB        string `json:"db"`
	Deep      bool   `json:"deep,omitempty"`
	TimeoutMS int64  `json:"timeout_ms,omitempty"` // 0: a minute
}

// VerifyState is what a comparison found of one copy.
type VerifyState string

// The states.
const (
	VerifyEqual     VerifyState = "equal"
	VerifyDifferent VerifyState = "different"
	VerifyUnknown   VerifyState = "unknown" // it did not say
)

// CopyVerification is what a comparison found of one copy.
type CopyVerification struct {
	State  VerifyState `json:"state"`
	Tables []string    `json:"tables,omitempty"` // those that differ, if that is known
	Reason string      `json:"reason,omitempty"`
}

// Verification is a comparison of what all nodes hold of a database at one position.
type Verification struct {
	Head
	Database string                      `json:"database"`
	Deep     bool                        `json:"deep,omitempty"`
	At       int64                       `json:"at"` // when it was done, Unix milliseconds
	Rows     int64                       `json:"rows"`
	Sum      string                      `json:"sum"`
	Nodes    map[string]CopyVerification `json:"nodes"`  // all that are enrolled, and the master
	Proven   bool                        `json:"proven"` // all of them are equal
}
