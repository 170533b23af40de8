package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"
	"github.com/pion/turn/v2"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/tunnel"
)

// firewall is the machine's network, from which no UDP leaves while it is closed, but to
// one address, and from which it leaves late while there is a delay.
type firewall struct {
	*stdnet.Net
	closed atomic.Bool
	delay  atomic.Int64 // a time.Duration
	pass   string       // set before use
}

func newFirewall(t *testing.T) *firewall {
	t.Helper()
	n, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	f := &firewall{Net: n}
	f.closed.Store(true)
	return f
}

func (f *firewall) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := f.Net.ListenUDP(network, laddr)
	if err != nil {
		return nil, err
	}
	return &firewalled{c, f}, nil
}

type firewalled struct {
	transport.UDPConn
	firewall *firewall
}

func (c *firewalled) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.firewall.closed.Load() && to.String() != c.firewall.pass {
		return len(b), nil
	}
	if delay := time.Duration(c.firewall.delay.Load()); delay > 0 {
		b := bytes.Clone(b)
		time.AfterFunc(delay, func() { _, _ = c.UDPConn.WriteTo(b, to) })
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, to)
}

// startTURN starts a TURN server for the user alice and returns its address.
func startTURN(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	server, err := turn.NewServer(turn.ServerConfig{
		Realm:         "test",
		LoggerFactory: quiet,
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(user, realm, "password"), user == "alice"
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: pc, RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{
			RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1",
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return pc.LocalAddr().String()
}

// TestMoves has a guest join over TCP or over a TURN server, because UDP is blocked, and
// move to UDP when that passes; the signaling server does nothing for it. Text and keys go
// on all the time.
func TestMoves(t *testing.T) {
	t.Run("from TCP", func(t *testing.T) {
		guest, host := newFirewall(t), newFirewall(t)
		cfg := link.Config{Loopback: link.LoopbackOnly, TCP: true}
		testMoves(t, guest, host, cfg, cfg, link.PathInfo.TCP)
	})
	t.Run("from a relay", func(t *testing.T) {
		guest, host := newFirewall(t), newFirewall(t)
		guest.pass = startTURN(t)
		server, err := link.ParseRelayServer("turn:" + guest.pass)
		if err != nil {
			t.Fatal(err)
		}
		cfg := link.Config{Loopback: link.LoopbackOnly, Paths: link.PathsAny}
		relaying := cfg
		relaying.Relays = []link.RelayServer{server}
		relaying.RelayCredentials = link.RelayCredentials{Username: "alice", Password: "password"}
		host.closed.Store(false)
		testMoves(t, guest, host, relaying, cfg, link.PathInfo.Relayed)
	})
}

func testMoves(t *testing.T, guestNet, hostNet *firewall, guestCfg, hostCfg link.Config, worse func(link.PathInfo) bool) {
	guestCfg.Net, hostCfg.Net = guestNet, hostNet
	n := newNetworkWith(t, hostCfg)
	id := newIdentity(t, "alice")
	n.allow(id, keys.RoleType)
	g := n.newGuestWith(id, guestCfg)
	n.run(g)
	if p := g.Status().Path; !worse(p) {
		t.Fatalf("joined over %v", p)
	}
	n.web.CloseClientConnections()
	n.server.Shutdown(context.Background())
	n.until("the guest to be known", func() bool { return len(n.host.Guests()) == 1 && n.host.Guests()[0].Linked })

	guestNet.closed.Store(false)
	hostNet.closed.Store(false)
	var text, typed strings.Builder
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; !saw[peer.Moved](n) || i%50 != 0; i++ {
		if i > 8000 {
			t.Fatalf("still %v", g.Status().Path)
		}
		fmt.Fprintf(&text, "text%d ", i)
		fmt.Fprintf(n.source, "text%d ", i)
		fmt.Fprintf(&typed, "key%d ", i)
		if _, err := g.SendKeys(t.Context(), fmt.Appendf(nil, "key%d ", i)); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	n.until("all of the text and the keys", func() bool {
		return g.page.Mark() == text.String() && n.typist(0).keys() == typed.String()
	})
	for who, p := range map[string]link.PathInfo{"guest": g.Status().Path, "host": n.host.Guests()[0].Path} {
		if worse(p) {
			t.Errorf("the %s is still at %v", who, p)
		}
	}
	if saw[peer.Lost](n) || saw[peer.Returned](n) {
		t.Error("the link was lost")
	}
}

// TestPresent has a guest join while the host is slow to answer: when it no longer is,
// other paths are held against what the present one is like now.
func TestPresent(t *testing.T) {
	fw := newFirewall(t)
	fw.closed.Store(false)
	fw.delay.Store(int64(50 * time.Millisecond))
	n := newNetworkWith(t, link.Config{Loopback: link.LoopbackOnly, Net: fw})
	g := n.allowedGuest("alice", keys.RoleType)
	joined := g.Status().Path.RTT
	if joined < 50*time.Millisecond {
		t.Fatalf("joined with a round trip of %v", joined)
	}
	fw.delay.Store(0)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	n.until("the present round trip", func() bool {
		<-tick.C
		if _, err := g.SendKeys(t.Context(), []byte("x")); err != nil { // a path in use is not probed
			t.Fatal(err)
		}
		return g.Present().RTT < 25*time.Millisecond
	})
	if rtt := g.Status().Path.RTT; rtt < 50*time.Millisecond {
		t.Errorf("the link has measured %v; the test looks at the wrong thing", rtt)
	}
}

// TestEndsWithoutTheSilent has a guest of whom nothing is heard any more when the shell
// ends: the host does not wait for it.
func TestEndsWithoutTheSilent(t *testing.T) {
	fw := newFirewall(t)
	fw.closed.Store(false)
	n := newNetworkWith(t, link.Config{Loopback: link.LoopbackOnly, Net: fw})
	n.allowedGuest("alice", keys.RoleType)
	fw.closed.Store(true)
	fmt.Fprint(n.source, "into the void")
	n.until("the guest to be missed", func() bool { return n.host.Guests()[0].Stats.Stalled })
	if !n.host.Guests()[0].Linked {
		t.Fatal("its link is over; the test looks at the wrong thing")
	}
	began := time.Now()
	n.host.End(peer.Goodbye{Reason: peer.ReasonEnded})
	if took := time.Since(began); took > time.Second {
		t.Errorf("the host waited %v", took)
	}
}

// counting is the machine's network, which counts the datagrams that leave.
type counting struct {
	*stdnet.Net
	sent atomic.Int64
}

func (n *counting) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, laddr)
	if err != nil {
		return nil, err
	}
	return &counted{c, n}, nil
}

type counted struct {
	transport.UDPConn
	net *counting
}

func (c *counted) WriteTo(b []byte, to net.Addr) (int, error) {
	c.net.sent.Add(1)
	return c.UDPConn.WriteTo(b, to)
}

// TestStrangersLearnNoAddress has strangers: no link is begun for them, which
// alone tells addresses, and not a datagram leaves the host.
func TestStrangersLearnNoAddress(t *testing.T) {
	std, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	hostNet := &counting{Net: std}
	n := newNetworkWith(t, link.Config{Loopback: link.LoopbackOnly, Net: hostNet})
	var refused *tunnel.RefusedError
	for range 3 {
		g := n.newGuest(newIdentity(t, "mallory"))
		err := g.Connect(t.Context())
		g.Close()
		if !errors.As(err, &refused) {
			t.Fatalf("a stranger: %v", err)
		}
		if host, info := g.Host(); host.Info != nil || info != (peer.Info{}) {
			t.Errorf("a stranger has been told %+v, %+v", host, info)
		}
	}
	if got := hostNet.sent.Load(); got != 0 {
		t.Errorf("%d datagrams left the host for strangers", got)
	}
	n.allowedGuest("alice", keys.RoleType)
	if hostNet.sent.Load() == 0 {
		t.Error("nothing left the host for a guest; the test looks at the wrong thing")
	}
}
