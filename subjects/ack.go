package subjects

import "strconv"

// AppendAck writes an acknowledgement; applying is left out when empty.
func AppendAck(dst []byte, a *AckMessage) []byte {
	dst = strconv.AppendUint(append(dst, `{"term":`...), a.Term, 10)
	dst = strconv.AppendUint(append(dst, `,"session":`...), a.Session, 10)
	dst = appendPositions(append(dst, `,"applied":`...), a.Applied)
	if len(a.Applying) > 0 {
		dst = appendPositions(append(dst, `,"applying":`...), a.Applying)
	}
	return append(dst, '}')
}

func appendPositions(dst []byte, m map[string]uint64) []byte {
	dst = append(dst, '{')
	start := len(dst)
	for db, n := range m {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = appendString(dst, db)
		dst = strconv.AppendUint(append(dst, ':'), n, 10)
	}
	return append(dst, '}')
}

// DecodeAck reads an acknowledgement into a, using its maps again. The error
// wraps ErrMalformed.
func DecodeAck(data []byte, a *AckMessage) error {
	clear(a.Applied)
	clear(a.Applying)
	*a = AckMessage{Applied: a.Applied, Applying: a.Applying}
	s := newScanner(data)
	const (
		term fields = 1 << iota
		session
		applied
		applying
	)
	var seen fields
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		switch string(key) {
		case "term":
			s.once(&seen, term, key)
			a.Term = s.uint()
		case "session":
			s.once(&seen, session, key)
			a.Session = s.uint()
		case "applied":
			s.once(&seen, applied, key)
			a.Applied = s.positions(a.Applied)
		case "applying":
			s.once(&seen, applying, key)
			a.Applying = s.positions(a.Applying)
		default:
			s.unknown(key)
		}
	}
	s.need(seen, term, "term")
	s.need(seen, session, "session")
	s.need(seen, applied, "applied")
	return s.end()
}

// positions reads an object of numbers into m, which is empty or nil.
func (s *scanner) positions(m map[string]uint64) map[string]uint64 {
	if m == nil {
		m = make(map[string]uint64)
	}
	for key := s.firstKey(); key != nil; key = s.nextKey() {
		if _, twice := m[string(key)]; twice {
			s.fail("%q given twice", clip(string(key)))
		}
		db := string(key)
		m[db] = s.uint()
	}
	return m
}
