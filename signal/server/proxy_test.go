package server_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Each client here has used up its one attempt, so that a second one from the
// same address is refused: that tells where the server believes it to be.
func TestForwardedFor(t *testing.T) {
	proxies := server.Proxies{Trusted: prefixes("192.0.2.200/32", "10.0.0.0/8", "2001:db8::/32")}
	tests := []struct {
		name     string
		from     string // of the connection
		header   []string
		shares   string   // whose budget it is, as the only address of another header
		distinct []string // headers that must not share it
	}{
		{"one hop", "192.0.2.200", []string{"198.51.100.1"}, "198.51.100.1", []string{"198.51.100.2"}},
		{"the client's own words before it", "192.0.2.200", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1", []string{"203.0.113.9"}},
		{"two headers", "192.0.2.200", []string{"203.0.113.9", "198.51.100.1"}, "198.51.100.1", []string{"203.0.113.9"}},
		{"proxies in a row", "192.0.2.200", []string{"198.51.100.1, 10.1.2.3,10.9.9.9"}, "198.51.100.1", []string{"10.1.2.3"}},
		{"with ports", "192.0.2.200", []string{"198.51.100.1:999"}, "198.51.100.1", nil},
		{"IPv6", "192.0.2.200", []string{"[2001:dba::1]:999, 2001:db8::7"}, "2001:dba::2", []string{"2001:db8::7"}},
		{"nonsense", "192.0.2.200", []string{"198.51.100.1, unknown"}, "", []string{"198.51.100.1"}},
		{"none", "192.0.2.200", nil, "", []string{"198.51.100.1"}},
		{"a liar", "203.0.113.1", []string{"198.51.100.1"}, "203.0.113.1", []string{"198.51.100.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := server.Config{Proxies: proxies, Limits: server.Limits{AddressRate: server.Rate{PerSecond: 1e-6, Burst: 1}}}
			inBubble(t, config, func(t *testing.T, n *memnet.Net, _ *testServer) {
				get := func(from string, header ...string) int {
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://192.0.2.1"+signal.PathJoin+signaltest.RoomOf(signaltest.NewKey(t)).String(), nil)
					req.Header["X-Forwarded-For"] = header
					tr := &http.Transport{DialContext: n.DialFrom(from), DisableKeepAlives: true}
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
					return resp.StatusCode
				}
				if got := get(tt.from, tt.header...); got != http.StatusNotFound {
					t.Fatalf("the first attempt: %d", got)
				}
				for _, d := range tt.distinct {
					if got := get("192.0.2.200", d); got != http.StatusNotFound {
						t.Errorf("%s shares its budget: %d", d, got)
					}
				}
				var header []string
				if tt.shares != "" {
					header = []string{tt.shares}
				}
				if got := get("192.0.2.200", header...); got != http.StatusTooManyRequests {
					t.Errorf("%q does not share its budget: %d", tt.shares, got)
				}
			})
		})
	}
}

// proxyHeader is a PROXY header, version 2, for a client over TCP.
func proxyHeader(client string) []byte {
	src := netip.MustParseAddrPort(client)
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21")
	if src.Addr().Is4() {
		b = append(b, 0x11, 0, 12)
	} else {
		b = append(b, 0x21, 0, 36)
	}
	b = append(b, src.Addr().AsSlice()...)
	b = append(b, src.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	return append(b, 0, 80)
}

func TestProxyProtocol(t *testing.T) {
	const request = "GET /v1/join/00112233445566778899aabbccddeeff HTTP/1.1\r\nHost: 192.0.2.1\r\nConnection: close\r\n\r\n"
	local := "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	unspec := "\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x03abc"
	config := server.Config{
		Proxies: server.Proxies{Trusted: prefixes("192.0.2.200/32"), Protocol: true},
		Limits:  server.Limits{AddressRate: server.Rate{PerSecond: 1e-6, Burst: 1}},
	}
	tests := []struct {
		name, from, header string
		first, second      string // of the answers to two attempts; "" is none
	}{
		{"IPv4", "192.0.2.200", string(proxyHeader("198.51.100.1:99")), "404", "429"},
		{"IPv6", "192.0.2.200", string(proxyHeader("[2001:db8::1]:99")), "404", "429"},
		{"health check", "192.0.2.200", local, "404", "429"},
		{"other family", "192.0.2.200", unspec, "404", "429"},
		{"from the proxy without a header", "192.0.2.200", "", "", ""},
		{"cut off addresses", "192.0.2.200", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04abcd", "", ""},
		{"endless", "192.0.2.200", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "", ""},
		{"a client that plays proxy", "203.0.113.1", string(proxyHeader("198.51.100.7:99")), "400", "400"},
		{"a direct client", "203.0.113.1", "", "404", "429"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, config, func(t *testing.T, n *memnet.Net, _ *testServer) {
				for i, want := range []string{tt.first, tt.second} {
					c, err := n.DialFrom(tt.from)(t.Context(), "tcp", memAddr)
					if err != nil {
						t.Fatal(err)
					}
					_ = c.SetDeadline(time.Now().Add(time.Minute))
					go func() { _, _ = io.WriteString(c, tt.header+request) }()
					answer, _ := io.ReadAll(c)
					_ = c.Close()
					synctest.Wait()
					got := ""
					if _, rest, ok := strings.Cut(string(answer), " "); ok {
						got, _, _ = strings.Cut(rest, " ")
					}
					if got != want {
						t.Errorf("attempt %d was answered %q, want %q", i+1, got, want)
					}
				}
			})
		})
	}
}

// A proxy that says nothing is not waited for.
func TestProxyProtocolTimeout(t *testing.T) {
	config := server.Config{Proxies: server.Proxies{Trusted: prefixes("192.0.2.200/32"), Protocol: true}}
	inBubble(t, config, func(t *testing.T, n *memnet.Net, _ *testServer) {
		c, err := n.DialFrom("192.0.2.200")(t.Context(), "tcp", memAddr)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = c.Read(make([]byte, 1))
		if d := time.Since(start); err == nil || d != 10*time.Second {
			t.Errorf("%v after %v, want an end after 10s", err, d)
		}
		_ = c.Close()
	})
}

// Clients behind a proxy that passes on TCP are limited as others are, also
// those that ask for nothing; and none pays for another.
func TestProxyProtocolLimitsClients(t *testing.T) {
	config := server.Config{
		Proxies: server.Proxies{Trusted: prefixes("192.0.2.200/32"), Protocol: true},
		Limits:  server.Limits{AddressConnections: 4, Handshake: time.Hour},
	}
	inBubble(t, config, func(t *testing.T, n *memnet.Net, _ *testServer) {
		// open reports whether a connection that has said where it comes from
		// is left open.
		open := func(client string) (net.Conn, bool) {
			c, err := n.DialFrom("192.0.2.200")(t.Context(), "tcp", memAddr)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(proxyHeader(client)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, err = c.Read(make([]byte, 1))
			return c, errors.Is(err, os.ErrDeadlineExceeded)
		}
		var held []net.Conn
		for i := range 10 {
			c, ok := open("198.51.100.1:99")
			defer func() { _ = c.Close() }()
			if want := i < 8; ok != want { // twice as many as may become WebSockets
				t.Errorf("connection %d is left open: %v", i+1, ok)
			}
			held = append(held, c)
		}
		c, ok := open("198.51.100.2:99")
		if !ok {
			t.Error("another client pays for it")
		}
		_ = c.Close()
		_ = held[0].Close()
		synctest.Wait()
		if c, ok := open("198.51.100.1:99"); !ok {
			t.Error("what was given up does not count any more")
		} else {
			_ = c.Close()
		}
	})
}
