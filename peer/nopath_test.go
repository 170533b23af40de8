package peer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v2/vnet"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
)

// Where there is no path both ends learn it, once, with what each one's network does.
func TestNoPath(t *testing.T) {
	const patient = 500 * time.Millisecond
	n := newNetworkWith(t, link.Config{Loopback: link.LoopbackOnly, Timeouts: link.Timeouts{Path: patient}})
	island, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.0.0.0/24", LoggerFactory: logging.NewDefaultLoggerFactory()})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{"10.0.0.2"}})
	if err == nil {
		err = island.AddNet(alone)
	}
	if err != nil {
		t.Fatal(err)
	}
	id := newIdentity(t, "alice")
	n.allow(id, keys.RoleType)
	g := peer.NewGuest(peer.GuestConfig[string]{
		Ticket: n.ticket, Identities: []keys.Identity{id}, Sink: newPage(),
		Link: link.Config{Net: alone, Timeouts: link.Timeouts{Path: patient}},
	})
	defer g.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = g.Connect(ctx)
	var pe *link.PathError
	if !errors.As(err, &pe) || pe.NAT == nil || pe.PeerNAT == nil || !pe.NAT.V4.Address {
		t.Errorf("the guest: %v, %+v", err, pe)
	}
	n.until("a fault at the host", func() bool { return saw[peer.Fault](n) })
	// Another attempt, that fails alike, is no news.
	if err := g.Connect(ctx); !errors.Is(err, link.ErrNoPath) {
		t.Errorf("the guest, once more: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var faults []peer.Fault
	for _, e := range n.events {
		if f, ok := e.(peer.Fault); ok {
			faults = append(faults, f)
		}
	}
	if len(faults) != 1 || faults[0].Guest.Name() != "alice" || !errors.As(faults[0].Err, &pe) || pe.PeerNAT == nil {
		t.Errorf("the host saw %+v", faults)
	}
}
