package link_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what TURN has
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"
	"github.com/pion/transport/v2/vnet"
	"github.com/pion/turn/v2"

	"github.com/pairterm/pairterm/peer/link"
)

func TestParseRelayServer(t *testing.T) {
	for in, want := range map[string]string{
		"turn:turn.example.org":                    "turn:turn.example.org:3478",
		"turn:turn.example.org:80":                 "turn:turn.example.org:80",
		"turn:192.0.2.1?transport=udp":             "turn:192.0.2.1:3478",
		"turn:192.0.2.1:443?transport=tcp":         "turn:192.0.2.1:443?transport=tcp",
		"turn:[2001:db8::1]":                       "turn:[2001:db8::1]:3478",
		"turns:turn.example.org":                   "turns:turn.example.org:5349",
		"turns:[2001:db8::1]:443?transport=tcp":    "turns:[2001:db8::1]:443",
		"":                                         "",
		"turn:":                                    "",
		"stun:turn.example.org":                    "",
		"turn.example.org:3478":                    "",
		"turn:user:secret@turn.example.org":        "",
		"turn:turn.example.org:0":                  "",
		"turn:turn.example.org:http":               "",
		"turn:turn.example.org?transport=sctp":     "",
		"turns:turn.example.org?transport=udp":     "",
		"turn://turn.example.org":                  "",
		"turn:turn.example.org:3478:3478":          "",
		"turn:turn.example.org?transport=udp&x=y":  "",
		"turns:turn example.org":                   "",
		"turn:2001:db8::1?transport=udp":           "turn:[2001:db8::1]:3478",
		"turns:[2001:db8::1]:99999?transport=tcp":  "",
		"turn:turn.example.org:443?transport=tcp ": "",
	} {
		got, err := link.ParseRelayServer(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q read as %v", in, got)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q read as %v, %v, want %s", in, got, err, want)
		}
		if again, err := link.ParseRelayServer(got.String()); err != nil || again != got {
			t.Errorf("%v read as %v, %v", got, again, err)
		}
	}
}

// turnRealm and the rest are what the TURN servers of the tests go by.
const (
	turnRealm    = "test"
	turnUser     = "alice"
	turnPassword = "correct horse"
	turnSecret   = "shared with the server"
)

func turnAuth(username, realm string, _ net.Addr) ([]byte, bool) {
	if username == turnUser {
		return turn.GenerateAuthKey(username, realm, turnPassword), true
	}
	return nil, false
}

// turnSecretAuth is what a server with a secret does.
func turnSecretAuth(username, realm string, _ net.Addr) ([]byte, bool) {
	until, user, _ := strings.Cut(username, ":")
	if n, err := strconv.ParseInt(until, 10, 64); err != nil || time.Unix(n, 0).Before(time.Now()) || user != turnUser {
		return nil, false
	}
	mac := hmac.New(sha1.New, []byte(turnSecret))
	mac.Write([]byte(username))
	return turn.GenerateAuthKey(username, realm, base64.StdEncoding.EncodeToString(mac.Sum(nil))), true
}

// startTURN starts a server and returns its URL.
func startTURN(t *testing.T, scheme, transport string, auth turn.AuthHandler) string {
	t.Helper()
	gen := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	cfg := turn.ServerConfig{Realm: turnRealm, AuthHandler: auth, LoggerFactory: quietLogs{}}
	var addr net.Addr
	if transport == "udp" {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = pc.LocalAddr()
		cfg.PacketConnConfigs = []turn.PacketConnConfig{{PacketConn: pc, RelayAddressGenerator: gen}}
	} else {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = ln.Addr()
		if scheme == "turns" {
			ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{turnCertificate(t)}})
		}
		cfg.ListenerConfigs = []turn.ListenerConfig{{Listener: ln, RelayAddressGenerator: gen}}
	}
	server, err := turn.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return scheme + ":" + addr.String() + "?transport=" + transport
}

func turnCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// trusted are the certificates of the tests' servers.
var trusted = x509.NewCertPool()

// fence is the machine's network, from which UDP reaches only one address.
type fence struct {
	*stdnet.Net
	to netip.AddrPort
}

func (f *fence) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := f.Net.ListenUDP(network, laddr)
	if err != nil {
		return nil, err
	}
	return fenced{c, f}, nil
}

type fenced struct {
	transport.UDPConn
	fence *fence
}

func (c fenced) WriteTo(b []byte, to net.Addr) (int, error) {
	if to.(*net.UDPAddr).AddrPort() != c.fence.to {
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, to)
}

func newFence(t *testing.T, url string) *fence {
	t.Helper()
	n, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(url, ":")
	addr, _, _ := strings.Cut(rest, "?")
	return &fence{n, netip.MustParseAddrPort(addr)}
}

func relays(t *testing.T, urls ...string) (out []link.RelayServer) {
	t.Helper()
	for _, u := range urls {
		s, err := link.ParseRelayServer(u)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// exchange sends something there and back, more than goes into one datagram.
func exchange(t *testing.T, l1, l2 *link.Link) {
	t.Helper()
	for i := range 20 {
		send(t, l1.Control(), strings.Repeat("a", 700*i+1))
		send(t, l2.Control(), strings.Repeat("b", 700*i+1))
	}
	for i := range 20 {
		if got := recv(t, l2.Control()); got != strings.Repeat("a", 700*i+1) {
			t.Fatalf("message %d has %d bytes", i, len(got))
		}
		if got := recv(t, l1.Control()); got != strings.Repeat("b", 700*i+1) {
			t.Fatalf("message %d has %d bytes", i, len(got))
		}
	}
}

// An end that nothing passes but packets to its TURN server is reached over that, and
// both ends know that the path is relayed.
func TestRelayed(t *testing.T) {
	for _, tc := range []struct {
		name, scheme, transport string
		atHost                  bool
		secret                  bool
	}{
		{name: "guest over UDP", scheme: "turn", transport: "udp"},
		{name: "guest over TCP", scheme: "turn", transport: "tcp"},
		{name: "guest over TLS", scheme: "turns", transport: "tcp"},
		{name: "host over UDP", scheme: "turn", transport: "udp", atHost: true},
		{name: "host with a secret", scheme: "turn", transport: "udp", atHost: true, secret: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			auth, creds := turnAuth, link.RelayCredentials{Username: turnUser, Password: turnPassword}
			if tc.secret {
				auth = turnSecretAuth
				creds = link.RelayCredentials{Username: turnUser, Secret: turnSecret}
			}
			url := startTURN(t, tc.scheme, tc.transport, auth)
			open, shut := loopback(), loopback()
			open.Paths = link.PathsAny
			shut.Paths, shut.Relays, shut.RelayCredentials = link.PathsAny, relays(t, url), creds
			shut.Net = newFence(t, url)
			guest, host := newTransport(t, shut), newTransport(t, open)
			if tc.atHost {
				guest, host = newTransport(t, open), newTransport(t, shut)
			}
			link.TrustRelays(guest, trusted)
			link.TrustRelays(host, trusted)
			l1, l2 := connect(t, guest, host)
			for who, l := range map[string]*link.Link{"guest": l1, "host": l2} {
				if p := l.Path(); !p.Relayed() || !p.Remote.Addr().IsLoopback() || !p.Local.Addr().IsLoopback() {
					t.Errorf("the %s's path: %+v", who, p)
				}
			}
			exchange(t, l1, l2)
			// Over the same relay others are served, and it outlives its first link.
			if err := l1.Close(); err != nil {
				t.Error(err)
			}
			waitDone(t, l2)
			l1, l2 = connect(t, guest, host)
			exchange(t, l1, l2)
		})
	}
}

// Where both ends are fenced in, both relays are between them.
func TestTwoRelays(t *testing.T) {
	creds := link.RelayCredentials{Username: turnUser, Password: turnPassword}
	var ends [2]*link.Transport
	for i := range ends {
		url := startTURN(t, "turn", "udp", turnAuth)
		cfg := loopback()
		cfg.Paths, cfg.Relays, cfg.RelayCredentials = link.PathsAny, relays(t, url), creds
		cfg.Net = newFence(t, url)
		ends[i] = newTransport(t, cfg)
	}
	l1, l2 := connect(t, ends[0], ends[1])
	if !l1.Path().Relayed() || !l2.Path().Relayed() {
		t.Errorf("%+v, %+v", l1.Path(), l2.Path())
	}
	exchange(t, l1, l2)
}

// Nothing is relayed unless both ends want it, and a server that refuses is told of.
func TestNoRelay(t *testing.T) {
	url := startTURN(t, "turn", "udp", turnAuth)
	for _, tc := range []struct {
		name     string
		other    link.Paths
		password string
		refused  bool
	}{
		{"the other end does not want it", link.PathsDirect, turnPassword, false},
		{"wrong password", link.PathsAny, "wrong", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			shut, open := loopback(), loopback()
			shut.Timeouts.Path = 3 * time.Second
			open.Timeouts.Path = 3 * time.Second
			shut.Paths, shut.Relays = link.PathsAny, relays(t, url)
			shut.RelayCredentials = link.RelayCredentials{Username: turnUser, Password: tc.password}
			shut.Net = newFence(t, url)
			open.Paths = tc.other
			a, b := newSignalers()
			var errs [2]error
			var wg sync.WaitGroup
			guest, host := newTransport(t, shut), newTransport(t, open)
			wg.Go(func() { _, errs[0] = guest.Dial(context.Background(), a) })
			wg.Go(func() { _, errs[1] = host.Accept(context.Background(), b) })
			wg.Wait()
			var here, there *link.PathError
			if !errors.As(errs[0], &here) || !errors.As(errs[1], &there) {
				t.Fatal(errs)
			}
			if here.Paths != link.PathsAny || here.RelaysThere != (tc.other == link.PathsAny) || (here.Relay != nil) != tc.refused {
				t.Errorf("here: %+v", here)
			}
			if !there.RelaysThere || !there.PeerRelay || there.Paths != tc.other {
				t.Errorf("there: %+v", there)
			}
		})
	}
}

// A direct path is taken where there is one, and the server is not even asked.
func TestDirectBeforeRelayed(t *testing.T) {
	asked := make(chan struct{}, 100)
	url := startTURN(t, "turn", "udp", func(user, realm string, from net.Addr) ([]byte, bool) {
		asked <- struct{}{}
		return turnAuth(user, realm, from)
	})
	cfg := loopback()
	cfg.Paths, cfg.Relays = link.PathsAny, relays(t, url)
	cfg.RelayCredentials = link.RelayCredentials{Username: turnUser, Password: turnPassword}
	l1, l2 := connect(t, newTransport(t, cfg), newTransport(t, cfg))
	if l1.Path().Relayed() || l2.Path().Relayed() || len(asked) > 0 {
		t.Errorf("%+v, %+v, asked %d times", l1.Path(), l2.Path(), len(asked))
	}
}

// Two symmetric NATs, of which nothing else gets through, and a TURN server of the
// guest's.
func TestRelayedBetweenNATs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, 50*time.Millisecond, &symmetricNAT)
		n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{"1.2.3.5"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.internet.AddNet(n); err != nil {
			t.Fatal(err)
		}
		pc, err := n.ListenPacket("udp4", "1.2.3.5:3478")
		if err != nil {
			t.Fatal(err)
		}
		server, err := turn.NewServer(turn.ServerConfig{
			Realm: turnRealm, AuthHandler: turnAuth, LoggerFactory: quietLogs{},
			PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: pc, RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{
				RelayAddress: net.IPv4(1, 2, 3, 5), Address: "1.2.3.5", Net: n,
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		cfg := link.Config{STUN: []string{stunAddr}, Paths: link.PathsAny, Net: w.host}
		host := newTransport(t, cfg)
		cfg.Net, cfg.Relays = w.guest, relays(t, "turn:1.2.3.5")
		cfg.RelayCredentials = link.RelayCredentials{Username: turnUser, Password: turnPassword}
		guest := newTransport(t, cfg)
		begin := time.Now()
		l1, l2 := connect(t, guest, host)
		t.Log("connected after", time.Since(begin))
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("set-up took %v", took)
		}
		if !l1.Path().Relayed() || !l2.Path().Relayed() {
			t.Errorf("%+v, %+v", l1.Path(), l2.Path())
		}
		// The allocation, the permissions and the channels are kept alive.
		time.Sleep(relayLife)
		exchange(t, l1, l2)
	})
}
