package signal

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors to tell apart with [errors.Is].
var (
	// ErrNoRoom: no host is registered in that room; it is gone, or was never there.
	ErrNoRoom = errors.New("no host is waiting there")
	// ErrRoomFull: the room has as many guests as the server permits.
	ErrRoomFull = errors.New("the room is full")
	// ErrRateLimited: too many attempts from this address, or at this room.
	ErrRateLimited = errors.New("rate limited by the signaling server")
	// ErrServerFull: the server takes no more connections now.
	ErrServerFull = errors.New("the signaling server is full")
	// ErrShuttingDown: the server ends or restarts.
	ErrShuttingDown = errors.New("the signaling server is shutting down")
	// ErrNotAllowed: the server does not serve this host or this person.
	ErrNotAllowed = errors.New("not allowed to use this signaling server")
	// ErrWrongServer: the server does not go by the name in the URL.
	ErrWrongServer = errors.New("the signaling server goes by another name")
	// ErrProtocol: one of the two sides violated the protocol.
	ErrProtocol = errors.New("signaling protocol violated")
	// ErrTimeout: the server closed a connection on which nothing was heard.
	ErrTimeout = errors.New("timed out by the signaling server")
	// ErrUnreachable: name resolution, connection or TLS failed; the cause is wrapped too.
	ErrUnreachable = errors.New("signaling server unreachable")
	// ErrNotASignalServer: something answers there, but not a signaling server.
	ErrNotASignalServer = errors.New("not a signaling server")
	// ErrVersion: a signaling server, which does not speak our version of the protocol.
	ErrVersion = errors.New("the signaling server speaks another version of the protocol")
	// ErrLost: an established connection to the server is gone.
	ErrLost = errors.New("connection to the signaling server lost")
	// ErrReplaced: another host registered with the same session key. Registering
	// again would throw out that one in turn, so nothing here does.
	ErrReplaced = errors.New("another host took over with the same session key")
	// ErrSuperseded: this host registered at the same server a second time, for
	// instance under another of its names.
	ErrSuperseded = errors.New("registered at the same server over another connection")
	// ErrDetached: the server cannot reach those that it works with, and so
	// cannot tell whether the host is there.
	ErrDetached = errors.New("the signaling server is cut off from those that it works with")
	// ErrProofRequired: the server asks for a proof of identity and none can be given.
	ErrProofRequired = errors.New("the signaling server asks for a key that it knows")
)

// GoodbyeError is a server's refusal, or its end of a connection.
// [errors.Is] finds the sentinel for its code.
type GoodbyeError struct {
	Code  Code
	Retry time.Duration // the server's wish; 0: none
	Text  string        // by the server, printable, may be empty
}

// Error implements error.
func (e *GoodbyeError) Error() string {
	s := "signaling server: " + e.Code.String()
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// Is reports whether target is the sentinel for e's code.
func (e *GoodbyeError) Is(target error) bool {
	switch e.Code {
	case CodeProtocol, CodeBadSignature:
		return target == ErrProtocol
	case CodeTimeout:
		return target == ErrTimeout
	case CodeRateLimited:
		return target == ErrRateLimited
	case CodeServerFull:
		return target == ErrServerFull
	case CodeShuttingDown:
		return target == ErrShuttingDown
	case CodeNoRoom:
		return target == ErrNoRoom
	case CodeRoomFull:
		return target == ErrRoomFull
	case CodeWrongServer:
		return target == ErrWrongServer
	case CodeNotAllowed:
		return target == ErrNotAllowed
	case CodeReplaced:
		return target == ErrReplaced
	case CodeSuperseded:
		return target == ErrSuperseded
	case CodeDetached:
		return target == ErrDetached
	}
	return false
}

// PipeError is why a pipe ended other than by an orderly close, which reads as
// [io.EOF].
type PipeError struct {
	Reason Reason
}

// Error implements error.
func (e *PipeError) Error() string { return "signaling pipe closed: " + e.Reason.String() }

// AttemptError is the failure of one of several URLs.
type AttemptError struct {
	URL string
	Err error
}

// Error implements error.
func (e *AttemptError) Error() string { return e.URL + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *AttemptError) Unwrap() error { return e.Err }

// DialError is returned when none of several URLs led to the room. [errors.Is]
// and [errors.As] look at all attempts.
type DialError struct {
	// Attempts are ordered by how much they tell: what a signaling server said
	// comes before what kept one from being reached.
	Attempts []*AttemptError
}

// Error implements error.
func (e *DialError) Error() string {
	if len(e.Attempts) == 0 {
		return "no signaling server to ask"
	}
	s := e.Attempts[0].Error()
	for _, a := range e.Attempts[1:] {
		s += "; " + a.Error()
	}
	return s
}

// Unwrap is all attempts.
func (e *DialError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a
	}
	return errs
}

// Best is the attempt that tells most, nil if there was none.
func (e *DialError) Best() *AttemptError {
	if len(e.Attempts) == 0 {
		return nil
	}
	return e.Attempts[0]
}

func (e *DialError) sort() {
	slices.SortStableFunc(e.Attempts, func(a, b *AttemptError) int { return telling(a.Err) - telling(b.Err) })
}

// telling orders attempts: the lower, the more it tells.
func telling(err error) int {
	var bye *GoodbyeError
	switch {
	case errors.Is(err, ErrRoomFull), errors.Is(err, ErrNotAllowed), errors.Is(err, ErrProofRequired):
		return 0 // this server knows the room, or us
	case errors.Is(err, ErrRateLimited), errors.Is(err, ErrServerFull), errors.Is(err, ErrShuttingDown), errors.Is(err, ErrDetached):
		return 1 // trying again later may help
	case errors.As(err, &bye):
		return 2
	case errors.Is(err, ErrVersion):
		return 3
	case errors.Is(err, ErrNotASignalServer):
		return 4
	}
	return 5
}

func unreachable(cause error) error { return fmt.Errorf("%w: %w", ErrUnreachable, cause) }
