package server_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// addrListener is a listener that only has an address.
type addrListener struct {
	net.Listener
	addr string
}

func (l addrListener) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.addr))
}

func addrs(s ...string) []netip.Addr {
	var a []netip.Addr
	for _, s := range s {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

func TestURLs(t *testing.T) {
	lo := server.Interface{Name: "lo", Addrs: addrs("127.0.0.1", "::1")}
	laptop := []server.Interface{
		lo,
		{Name: "docker0", Addrs: addrs("172.17.0.1", "fe80::42")},
		{Name: "tailscale0", Addrs: addrs("100.101.102.103", "fd7a:115c:a1e0::1")},
		{Name: "wlan0", Addrs: addrs("192.168.1.20", "2001:db8:1::20", "2001:db8:1::dead:beef", "fe80::1")},
		{Name: "eth1", Addrs: addrs("10.0.0.5")},
	}
	for name, c := range map[string]struct {
		listen  string
		ifaces  []server.Interface
		err     error
		source4 string
		source6 string
		want    []string
	}{
		"one address": {
			listen: "10.0.0.5:4222", ifaces: laptop, source4: "192.168.1.20",
			want: []string{"ws://10.0.0.5:4222"},
		},
		"laptop": {
			listen: "[::]:4222", ifaces: laptop, source4: "192.168.1.20", source6: "2001:db8:1::dead:beef",
			want: []string{"ws://192.168.1.20:4222", "ws://[2001:db8:1::dead:beef]:4222", "ws://10.0.0.5:4222", "ws://100.101.102.103:4222"},
		},
		"IPv4 only": {
			listen: "0.0.0.0:4222", ifaces: laptop, source4: "192.168.1.20", source6: "2001:db8:1::dead:beef",
			want: []string{"ws://192.168.1.20:4222", "ws://10.0.0.5:4222", "ws://100.101.102.103:4222", "ws://172.17.0.1:4222"},
		},
		"no way out": {
			listen: "[::]:4222", ifaces: laptop[:2],
			want: []string{"ws://172.17.0.1:4222"},
		},
		"loopback only": {
			listen: "[::]:4222", ifaces: []server.Interface{lo},
			want: []string{"ws://127.0.0.1:4222", "ws://[::1]:4222"},
		},
		"nothing": {
			listen: "[::]:4222",
			want:   []string{"ws://127.0.0.1:4222"},
		},
		"interfaces hidden": {
			listen: "[::]:4222", err: errors.New("permission denied"), source4: "192.168.1.20",
			want: []string{"ws://192.168.1.20:4222"},
		},
	} {
		n := server.Network{
			Interfaces: func() ([]server.Interface, error) { return c.ifaces, c.err },
			Source: func(network string) netip.Addr {
				a, _ := netip.ParseAddr(map[string]string{"udp4": c.source4, "udp6": c.source6}[network])
				return a
			},
		}
		got := n.URLs(addrListener{addr: c.listen})
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		for _, u := range got {
			if norm, err := signal.ParseURL(u); err != nil || norm != u {
				t.Errorf("%s: %q is %q to a client, %v", name, u, norm, err)
			}
		}
	}
}

// The embedded server, as host uses it: on all addresses of this machine.
func TestEmbedded(t *testing.T) {
	l, err := server.Listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	key := signaltest.NewKey(t)
	s := startOn(t, server.Config{AllowHost: func(r signal.Room) bool { return r == signaltest.RoomOf(key) }}, l, server.SelfURL(l))
	reg := signaltest.Register(t, s.url, key, nil)
	urls := server.LocalURLs(l)
	if len(urls) == 0 || len(urls) > 4 {
		t.Fatalf("URLs %q", urls)
	}
	guest, _, err := signal.DialAny(signaltest.Context(t), urls, reg.Info().Room, nil)
	if err != nil {
		t.Fatalf("no way to %q: %v", urls, err)
	}
	signaltest.Exchange(t, guest, signaltest.Accept(t, reg), []byte("hello"))
	_ = guest.Close()
}
