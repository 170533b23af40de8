package stun

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	pion "github.com/pion/stun/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	from4 = netip.MustParseAddrPort("192.0.2.9:40000")
	from6 = netip.MustParseAddrPort("[2001:db8::9]:40001")
)

func buildRequest(t testing.TB, setters ...pion.Setter) []byte {
	t.Helper()
	m, err := pion.Build(append([]pion.Setter{pion.TransactionID, pion.BindingRequest}, setters...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// answer is what a server with one port says.
func answer(s *Server, req []byte, from netip.AddrPort) []byte {
	return answerAt(s, req, from, time.Now())
}

// answerAt is answer at a time that does not pass.
func answerAt(s *Server, req []byte, from netip.AddrPort, now time.Time) []byte {
	out, _ := s.answer(nil, req, from, false, now)
	return out
}

// decode decodes with pion's parser, an implementation that is not ours.
func decode(t testing.TB, b []byte) *pion.Message {
	t.Helper()
	m := new(pion.Message)
	if err := pion.Decode(b, m); err != nil {
		t.Fatalf("answer does not decode: %v\n%x", err, b)
	}
	return m
}

func TestAnswer(t *testing.T) {
	s := New(Limits{})
	for _, from := range []netip.AddrPort{from4, from6, netip.MustParseAddrPort("[::ffff:192.0.2.9]:7")} {
		req := buildRequest(t)
		got := decode(t, answer(s, req, from))
		if got.Type != pion.BindingSuccess || !bytes.Equal(got.TransactionID[:], req[8:20]) {
			t.Errorf("%v: answered with %v", from, got)
		}
		var xor pion.XORMappedAddress
		if err := xor.GetFrom(got); err != nil {
			t.Fatal(err)
		}
		addr, _ := netip.AddrFromSlice(xor.IP)
		if addr.Unmap() != from.Addr().Unmap() || xor.Port != int(from.Port()) {
			t.Errorf("%v: was told %v", from, xor)
		}
	}
}

// What ICE agents send must be answered, what asks for a service that we do not
// have must not be answered as if we had.
func TestAttributes(t *testing.T) {
	s := New(Limits{})
	ice := buildRequest(t, pion.NewUsername("a:b"), pion.NewSoftware("x"), pion.NewShortTermIntegrity("secret"), pion.Fingerprint)
	if got := decode(t, answer(s, ice, from4)); got.Type != pion.BindingSuccess {
		t.Errorf("an ICE agent's request got %v", got)
	}
}

// CHANGE-REQUEST, RFC 5780: the other port can be asked for, if there is one. Another
// address cannot.
func TestChangeRequest(t *testing.T) {
	for _, tt := range []struct {
		flags byte
		other bool
		moved bool
		code  pion.ErrorCode
	}{
		{flags: 0, other: true},
		{flags: 0},
		{flags: 2, other: true, moved: true},
		{flags: 2, code: 420},
		{flags: 4, other: true, code: 420},
		{flags: 6, other: true, code: 420},
		{flags: 1, other: true, code: 420},
	} {
		req := buildRequest(t, pion.RawAttribute{Type: 0x0003, Value: []byte{0, 0, 0, tt.flags}})
		out, moved := New(Limits{}).answer(nil, req, from4, tt.other, time.Now())
		got := decode(t, out)
		if len(out)-len(req) > 8 {
			t.Errorf("%+v: an answer of %d bytes to %d", tt, len(out), len(req))
		}
		if moved != tt.moved {
			t.Errorf("%+v: moved %v", tt, moved)
		}
		if tt.code == 0 {
			if got.Type != pion.BindingSuccess {
				t.Errorf("%+v: got %v", tt, got)
			}
			continue
		}
		var code pion.ErrorCodeAttribute
		if err := code.GetFrom(got); err != nil || code.Code != tt.code || got.Type != pion.BindingError {
			t.Errorf("%+v: got %v, %v", tt, got, err)
		}
		var unknown pion.UnknownAttributes
		if err := unknown.GetFrom(got); err != nil || len(unknown) != 1 || unknown[0] != 3 {
			t.Errorf("%+v: unknown attributes: %v, %v", tt, unknown, err)
		}
	}
}

func TestIgnores(t *testing.T) {
	good := buildRequest(t, pion.NewSoftware("x"))
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, b := range map[string][]byte{
		"short change":     buildRequest(t, pion.RawAttribute{Type: 0x0003, Value: []byte{2}}),
		"empty":            {},
		"short":            good[:19],
		"truncated":        good[:len(good)-4],
		"trailing":         append(bytes.Clone(good), 0, 0, 0, 0),
		"no cookie":        change(func(b []byte) []byte { b[4] ^= 1; return b }),
		"indication":       change(func(b []byte) []byte { binary.BigEndian.PutUint16(b, 0x0011); return b }),
		"success response": change(func(b []byte) []byte { binary.BigEndian.PutUint16(b, bindingSuccess); return b }),
		"error response":   change(func(b []byte) []byte { binary.BigEndian.PutUint16(b, bindingError); return b }),
		"allocate":         change(func(b []byte) []byte { binary.BigEndian.PutUint16(b, 0x0003); return b }),
		"attribute beyond": change(func(b []byte) []byte { b[23] = 200; return b }),
		"huge":             append(append(bytes.Clone(good[:2]), 0x05, 0x00), make([]byte, 1296)...),
	} {
		s := New(Limits{})
		if got := answer(s, b, from4); len(got) != 0 {
			t.Errorf("%s: answered with %x", name, got)
		}
		if s.Stats() != (Stats{Ignored: 1}) {
			t.Errorf("%s: stats %+v", name, s.Stats())
		}
	}
	s := New(Limits{})
	if got := answer(s, good, netip.AddrPortFrom(from4.Addr(), 0)); len(got) != 0 {
		t.Error("answered to port 0")
	}
}

func TestLimits(t *testing.T) {
	s := New(Limits{AddressRate: Rate{PerSecond: 1, Burst: 3}})
	now := time.Unix(1000, 0)
	req := buildRequest(t)
	answered := 0
	for range 10 {
		answered += min(1, len(answerAt(s, req, from4, now)))
	}
	if answered != 3 {
		t.Errorf("one address got %d answers, want 3", answered)
	}
	if len(answerAt(s, req, from6, now)) == 0 {
		t.Error("one address used up another's answers")
	}
	if len(answerAt(s, req, from4, now.Add(time.Second))) == 0 {
		t.Error("no answer a second later")
	}
	if st := s.Stats(); st != (Stats{Answered: 5, Limited: 7}) {
		t.Errorf("stats %+v", st)
	}

	s = New(Limits{Rate: Rate{PerSecond: 1, Burst: 2}})
	answered = 0
	for i := range 10 {
		answered += min(1, len(answerAt(s, req, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 9), now)))
	}
	if answered != 2 {
		t.Errorf("%d answers in all, want 2", answered)
	}
}

func TestRun(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			loopback := netip.MustParseAddr("127.0.0.1")
			if network == "udp6" {
				loopback = netip.IPv6Loopback()
			}
			var conns []*net.UDPConn
			for range 2 {
				c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
				if err != nil {
					t.Skipf("no %s here: %v", network, err)
				}
				conns = append(conns, c)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- New(Limits{}).Run(ctx, conns...) }()

			for _, server := range conns {
				c, err := net.Dial(network, server.LocalAddr().String())
				if err != nil {
					t.Fatal(err)
				}
				client, err := pion.NewClient(c)
				if err != nil {
					t.Fatal(err)
				}
				err = client.Do(pion.MustBuild(pion.TransactionID, pion.BindingRequest), func(e pion.Event) {
					var xor pion.XORMappedAddress
					if e.Error != nil {
						t.Error(e.Error)
					} else if err := xor.GetFrom(e.Message); err != nil || xor.String() != c.LocalAddr().String() {
						t.Errorf("was told %v, %v; is %v", xor, err, c.LocalAddr())
					}
				})
				if err != nil {
					t.Error(err)
				}
				if err := client.Close(); err != nil {
					t.Error(err)
				}
			}
			// The answer comes from where it was asked for.
			c, err := net.ListenUDP(network, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for i, flags := range []byte{0, 2, 2} {
				server := conns[i%2]
				want := server
				if flags != 0 {
					want = conns[(i+1)%2]
				}
				req := buildRequest(t, pion.RawAttribute{Type: 0x0003, Value: []byte{0, 0, 0, flags}})
				if _, err := c.WriteTo(req, server.LocalAddr()); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				n, from, err := c.ReadFrom(buf)
				if err != nil || from.String() != want.LocalAddr().String() {
					t.Fatalf("asked %v to change %d: answered by %v, %v; want %v", server.LocalAddr(), flags, from, err, want.LocalAddr())
				}
				if got := decode(t, buf[:n]); got.Type != pion.BindingSuccess {
					t.Errorf("answer %v", got)
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run returned %v after its context ended", err)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(buildRequest(f))
	f.Add(buildRequest(f, pion.NewUsername("a:b"), pion.NewShortTermIntegrity("secret"), pion.Fingerprint))
	f.Add(buildRequest(f, pion.RawAttribute{Type: 0x0003, Value: []byte{0, 0, 0, 6}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, from := range []netip.AddrPort{from4, from6} {
			s := New(Limits{})
			got := answer(s, b, from)
			if len(got) == 0 {
				continue
			}
			if len(got) > headerLen+24 {
				t.Fatalf("an answer of %d bytes", len(got))
			}
			two, moved := New(Limits{}).answer(nil, b, from, true, time.Now())
			if m := decode(t, two); moved != (m.Type == pion.BindingSuccess && !bytes.Equal(two, got)) {
				t.Fatalf("with another port: %x, moved %v", two, moved)
			}
			decode(t, got)
			if m := decode(t, b); m.Type != pion.BindingRequest || !bytes.Equal(got[8:20], b[8:20]) {
				t.Fatalf("answered %x to %x", got, b)
			}
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	s := New(Limits{AddressRate: Rate{PerSecond: 1e9, Burst: 1e9}, Rate: Rate{PerSecond: 1e9, Burst: 1e9}})
	req := buildRequest(b)
	out := make([]byte, 0, 64)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		out, _ = s.answer(out[:0], req, from4, true, now)
	}
}
