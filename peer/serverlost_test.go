package peer_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/signal"
)

// cutConn breaks at its second write, in the middle of a join.
type cutConn struct {
	net.Conn
	writes atomic.Int32
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.writes.Add(1) > 1 {
		_ = c.Conn.Close()
	}
	return c.Conn.Write(b)
}

// TestServerLostWhileJoining has the way to the signaling server break in the
// middle of a join, as when that dies and others are there: the guest does not
// notice.
func TestServerLostWhileJoining(t *testing.T) {
	for _, tt := range []struct {
		cuts int32
		ok   bool
	}{{1, true}, {3, true}, {100, false}} {
		n := newNetwork(t)
		id := newIdentity(t, "alice")
		n.allow(id, keys.RoleType)
		var dialled atomic.Int32
		g := peer.NewGuest(peer.GuestConfig[string]{
			Ticket: n.ticket, Identities: []keys.Identity{id}, Sink: newPage(),
			Link: link.Config{Loopback: link.LoopbackOnly},
			Signal: &signal.Options{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				var d net.Dialer
				c, err := d.DialContext(ctx, network, addr)
				if err == nil && dialled.Add(1) <= tt.cuts {
					c = &cutConn{Conn: c}
				}
				return c, err
			}},
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := g.Connect(ctx)
		if (err == nil) != tt.ok {
			t.Errorf("%d attempts cut: %v", tt.cuts, err)
		}
		g.Close()
		cancel()
		if n := dialled.Load(); !tt.ok && n > 8 {
			t.Errorf("%d attempts at something that does not work", n)
		}
	}
}
