package peer_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/tunnel"
	"github.com/pairterm/pairterm/signal"
)

// TestKnocks has a stranger knock again and again: the host sees the first few, and each
// of them is refused.
func TestKnocks(t *testing.T) {
	n := newNetwork(t)
	const knocks = 8
	for range knocks {
		var refused *tunnel.RefusedError
		if _, err := n.newGuest(newIdentity(t, "mallory")).attempt(t); !errors.As(err, &refused) {
			t.Fatalf("a stranger: %v", err)
		}
	}
	n.until("the knocks", func() bool { return count[peer.Knock](n) >= 3 })
	if got := count[peer.Knock](n); got > 4 { // one more if that took ten seconds
		t.Errorf("%d of %d knocks are shown", got, knocks)
	}
	// Who is allowed is not counted among them.
	n.allowedGuest("alice", keys.RoleType)
}

// TestKnockLimit has knocks counted that were not shown.
func TestKnockLimit(t *testing.T) {
	allow := peer.NewKnockLimiter()
	now := time.Now()
	for i := range 20 {
		if _, ok := allow(now); ok != (i < 3) {
			t.Errorf("knock %d at once: shown %v", i, ok)
		}
	}
	if suppressed, ok := allow(now.Add(11 * time.Second)); !ok || suppressed != 17 {
		t.Errorf("one later: shown %v, %d before it were not, want 17", ok, suppressed)
	}
	if suppressed, ok := allow(now.Add(30 * time.Second)); !ok || suppressed != 0 {
		t.Errorf("the next: shown %v, %d before it were not, want none", ok, suppressed)
	}
}

// TestSilentKnocks has many who knock and say nothing: the oldest of them make room, and
// one who is allowed gets in.
func TestSilentKnocks(t *testing.T) {
	n := newNetwork(t)
	var silent []net.Conn
	for range 2 * peer.MaxPendingSource {
		c, _, err := signal.Dial(t.Context(), n.web.URL, signal.RoomOf(n.ticket.Pin), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
		n.until("it to be noticed", func() bool { return n.host.Pending() == min(len(silent), peer.MaxPendingSource) })
	}
	// The first one was hung up on, and the last one is still waited for.
	_ = silent[0].SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, silent[0]); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the oldest handshake goes on")
	}
	_ = silent[len(silent)-1].SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := io.Copy(io.Discard, silent[len(silent)-1]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the newest handshake has ended: %v", err)
	}
	n.allowedGuest("alice", keys.RoleType)
}
