package access

import (
	"errors"
	"fmt"
	"time"
)

// What a caller tells apart.
var (
	// ErrDenied is the answer to a wrong name, password, token or session, and does
	// not say which.
	ErrDenied = errors.New("access denied")
	// ErrExpired is ErrDenied for what was right until its time was over.
	ErrExpired = fmt.Errorf("%w: it has expired", ErrDenied)
	// ErrInvitation is the answer to an invitation that is unknown, expired, used
	// up, revoked or made for another node, and does not say which.
	ErrInvitation = errors.New("the invitation is not valid (any more): ask for a new one")
	// ErrEnrolled refuses a node whose id or key belongs to another one.
	ErrEnrolled = errors.New("already enrolled")
	// ErrUnknown: there is no such user, token, session, invitation or node.
	ErrUnknown = errors.New("no such")
	// ErrExists: there is one of that name.
	ErrExists = errors.New("there is already a")
	// ErrInvalid: a name, password or other value is not an allowed one.
	ErrInvalid = errors.New("not allowed")
	// ErrTooMany: a limit of this package is reached.
	ErrTooMany = errors.New("too many")
	// ErrLastAdmin keeps the last admin.
	ErrLastAdmin = errors.New("this is the last admin: make another user an admin first")
)

// ThrottledError is the answer to an attempt that was not looked at, because too
// many before it were wrong.
type ThrottledError struct {
	Wait time.Duration // after which this attempt will be looked at
}

// Error says how long to wait.
func (e *ThrottledError) Error() string {
	wait := (e.Wait + time.Second - 1).Truncate(time.Second)
	return fmt.Sprintf("too many failed attempts: try again in %s", wait)
}
