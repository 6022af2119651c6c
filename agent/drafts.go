package agent

import (
	"bytes"
	"context"

	"github.com/snapdb/snapdb/broker"
)

// settleDrafts decides about the blobs whose publish had no end when this master
// last did: those that the log names stay, the others are removed. It reads the
// log only if there are any, and from where the oldest was written.
func (m *Master) settleDrafts(ctx context.Context) error {
	drafts, err := m.blobs.Drafts()
	if err != nil || len(drafts) == 0 {
		return err
	}
	from := drafts[0].After
	for _, d := range drafts {
		from = min(from, d.After)
	}
	named := map[string]bool{}
	err = m.journal.reader().Read(ctx, from+1, m.journal.current(), func(e broker.Entry) error {
		for _, d := range drafts {
			// A digest says nothing else, wherever in a message it stands.
			if e.Message != nil && bytes.Contains(e.Message.Data, []byte(d.Digest)) {
				named[d.Digest] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range drafts {
		settle := m.blobs.Drop
		if named[d.Digest] {
			settle = m.blobs.Keep
		}
		if err := settle(d); err != nil {
			return err
		}
		m.log.Debug("settled a blob whose publish had no end", "digest", d.Digest, "kept", named[d.Digest])
	}
	return nil
}
