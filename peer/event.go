package peer

import (
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/stream"
	"github.com/pairterm/pairterm/peer/tunnel"
)

// GuestInfo is what a host knows of a guest.
type GuestInfo struct {
	ID      tunnel.GuestID
	Key     ssh.PublicKey // proved
	Comment string        // as the guest gave it; untrusted text
	Role    keys.Role
	Since   time.Time     // when it was admitted
	Path    link.PathInfo // of the present link, or the last
	Linked  bool          // whether there is a link now
	Cols    int           // of its window, 0 until known
	Rows    int
	Stats   stream.Stats
}

// Name is the guest's comment fit to be shown, or its fingerprint.
func (i GuestInfo) Name() string {
	if c := keys.Printable(i.Comment); c != "" {
		return c
	}
	return keys.Fingerprint(i.Key)
}

// Event is something that the person at the host may want to know: a Knock,
// Joined, Lost, Returned, Moved, Left, Fault.
type Event any

// Knock: somebody was refused, or did not get through the handshake.
// Nothing shows that he holds the keys that he offered.
type Knock struct {
	Offered []tunnel.Offer
	Code    tunnel.RefusalCode
	// Suppressed counts the knocks that were not reported since the last one,
	// because there were too many.
	Suppressed int
}

// Joined: a guest has a link for the first time.
type Joined struct{ Guest GuestInfo }

// Lost: a guest's link is gone; it may come back until ResumeGrace has passed.
type Lost struct{ Guest GuestInfo }

// Returned: a guest has a new link.
type Returned struct{ Guest GuestInfo }

// Moved: a guest's session goes on over a better path.
type Moved struct {
	Guest  GuestInfo
	Before link.PathInfo // the path that it has left
}

// Left: a guest is gone for good.
type Left struct {
	Guest  GuestInfo
	Reason Reason
	Text   string // more about it, may be empty
}

// Resized: a guest's window has another size.
type Resized struct{ Guest GuestInfo }

// Fault: a guest that was admitted could not be linked, or broke the protocol.
type Fault struct {
	Guest GuestInfo
	Err   error
}
