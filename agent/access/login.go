package access

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Login says who has this name and password. The address is where the attempt
// comes from, with or without a port. The error is ErrDenied, a *ThrottledError
// when the attempt was not looked at, or that of ctx.
func (s *Store) Login(ctx context.Context, name, password, from string) (Principal, error) {
	address := addressOf(from)
	u, known := s.state.Load().users[name]
	strange := !known || !slices.Contains(u.Known, address)
	try, wait := s.throttle.begin(s.now(), name, address, strange)
	if wait > 0 {
		return Principal{}, &ThrottledError{Wait: wait}
	}
	right, err := s.compare(ctx, u, known, strange, password)
	if err != nil {
		try.withdraw() // nobody learned anything by it
		return Principal{}, err
	}
	if !right {
		return Principal{}, ErrDenied
	}
	try.succeeded()
	return s.loggedIn(ctx, u, password, address)
}

// compare takes the same time for a name that nobody has. (Costs that were changed
// show a user who has not logged in since.)
func (s *Store) compare(ctx context.Context, u user, known, strange bool, password string) (right bool, err error) {
	hash := s.unknown
	if known {
		hash = u.Password
	}
	if len(password) > MaxPassword {
		password = "" // which nobody has either
	}
	err = s.hashing.do(ctx, strange, func() { right = hash.matches(password) })
	return right && known, err
}

// loggedIn notes where a user came from, and hashes his password anew if that is
// done with other costs now. Neither keeps him out when it cannot be saved.
func (s *Store) loggedIn(ctx context.Context, u user, password, address string) (Principal, error) {
	now := s.now()
	upgrade := u.Password.costs != s.opt.Costs
	if upgrade {
		if hash, err := s.hash(ctx, password); err == nil {
			u.Password = hash
		}
	}
	if upgrade || !slices.Equal(u.Known[:min(len(u.Known), 1)], []string{address}) || now.Sub(u.LastLogin) >= savesUse {
		_ = s.update(func(st *state) ([]Revoked, error) {
			is, ok := st.users[u.Name]
			if !ok || !is.Changed.Equal(u.Changed) {
				return nil, ErrDenied
			}
			is.Password, is.LastLogin = u.Password, now
			others := slices.DeleteFunc(slices.Clone(is.Known), func(a string) bool { return a == address })
			is.Known = append([]string{address}, others[:min(len(others), maxKnown-1)]...)
			st.users[u.Name] = is
			return nil, nil
		})
	}
	// What counts is the password of now, not that of when the hashing began.
	is, ok := s.state.Load().users[u.Name]
	if !ok || !is.Changed.Equal(u.Changed) {
		return Principal{}, ErrDenied
	}
	return is.principal(), nil
}

// addressOf is what attempts from somewhere are counted under: the address without
// its port, and of IPv6 the network of 64 bits that one machine has to itself,
// unless it is the one that all machines on a cable share.
func addressOf(from string) string {
	ip, err := netip.ParseAddr(from)
	if err != nil {
		var both netip.AddrPort
		if both, err = netip.ParseAddrPort(from); err != nil {
			return plain(from)
		}
		ip = both.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() && !ip.IsLinkLocalUnicast() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// maxPlain is the length that words from outside are cut to, in bytes.
const maxPlain = 200

// plain makes words from outside fit to be kept and shown.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text[:min(len(text), maxPlain)])
}

// checkPlain refuses what plain would change.
func checkPlain(what, text string) error {
	if plain(text) != text {
		return fmt.Errorf("%s: %w: at most %d bytes, and only what can be shown", what, ErrInvalid, maxPlain)
	}
	return nil
}

// checkExpiry refuses a moment that is past, or that cannot be written.
func checkExpiry(expires, now time.Time) error {
	if !expires.IsZero() && (!expires.After(now) || expires.Year() > 9999) {
		return fmt.Errorf("expiry %s: %w: it must be later than now", expires.Format(time.RFC3339), ErrInvalid)
	}
	return nil
}
