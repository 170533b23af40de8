package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// raw is a client that says what a test wants.
type raw struct {
	t  testing.TB
	ws *websocket.Conn
}

func dialRaw(t testing.TB, url, path string) *raw {
	t.Helper()
	ws, _, err := websocket.Dial(signaltest.Context(t), url+path, &websocket.DialOptions{
		Subprotocols: []string{signal.Subprotocol},
		HTTPClient:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &raw{t, ws}
}

func (r *raw) send(m signal.Message) { r.sendBytes(m.Append(nil)) }

func (r *raw) sendBytes(b []byte) {
	r.t.Helper()
	if err := r.ws.Write(signaltest.Context(r.t), websocket.MessageBinary, b); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

func (r *raw) receive() signal.Message {
	r.t.Helper()
	_, b, err := r.ws.Read(signaltest.Context(r.t))
	if err != nil {
		r.t.Fatalf("receive: %v", err)
	}
	m, err := signal.Decode(b)
	if err != nil {
		r.t.Fatalf("the server sent: %v", err)
	}
	return m
}

func (r *raw) challenge() *signal.ChallengeMsg {
	r.t.Helper()
	c, ok := r.receive().(*signal.ChallengeMsg)
	if !ok {
		r.t.Fatal("no challenge")
	}
	return c
}

// expectGoodbye reads until a goodbye, which must have the code, and then the end.
func (r *raw) expectGoodbye(code signal.Code) {
	r.t.Helper()
	for {
		m := r.receive()
		if bye, ok := m.(*signal.GoodbyeMsg); ok {
			if bye.Code != code {
				r.t.Errorf("goodbye %v %q, want %v", bye.Code, bye.Text, code)
			}
			break
		}
	}
	if _, _, err := r.ws.Read(signaltest.Context(r.t)); err == nil {
		r.t.Error("the server goes on after its goodbye")
	}
}

func serverName(url string) string { return strings.TrimPrefix(url, "ws://") }

func signed(key ed25519.PrivateKey, name string, nonce [32]byte) *signal.RegisterMsg {
	m := &signal.RegisterMsg{Key: [32]byte(key.Public().(ed25519.PublicKey)), Name: name}
	m.Signature = [64]byte(ed25519.Sign(key, signal.RegisterInput(name, nonce, m.Instance)))
	return m
}

func registerRaw(t testing.TB, url string, key ed25519.PrivateKey) *raw {
	t.Helper()
	r := dialRaw(t, url, signal.PathHost)
	r.send(signed(key, serverName(url), r.challenge().Nonce))
	if m, ok := r.receive().(*signal.ReadyMsg); !ok || m.Room != signaltest.RoomOf(key) {
		t.Fatalf("not registered: %#v", m)
	}
	return r
}

func TestRegistrationIsProven(t *testing.T) {
	s := start(t, server.Config{})
	key := signaltest.NewKey(t)
	for name, c := range map[string]struct {
		code signal.Code
		msg  func(nonce [32]byte) *signal.RegisterMsg
	}{
		"bad signature": {signal.CodeBadSignature, func(nonce [32]byte) *signal.RegisterMsg {
			m := signed(key, serverName(s.url), nonce)
			m.Signature[5] ^= 1
			return m
		}},
		"no signature": {signal.CodeBadSignature, func([32]byte) *signal.RegisterMsg {
			return &signal.RegisterMsg{Key: [32]byte(key.Public().(ed25519.PublicKey)), Name: serverName(s.url)}
		}},
		"another's key": {signal.CodeBadSignature, func(nonce [32]byte) *signal.RegisterMsg {
			m := signed(signaltest.NewKey(t), serverName(s.url), nonce)
			m.Key = [32]byte(key.Public().(ed25519.PublicKey))
			return m
		}},
		"another nonce": {signal.CodeBadSignature, func(nonce [32]byte) *signal.RegisterMsg {
			nonce[0]++
			return signed(key, serverName(s.url), nonce)
		}},
		"another instance": {signal.CodeBadSignature, func(nonce [32]byte) *signal.RegisterMsg {
			m := signed(key, serverName(s.url), nonce)
			m.Instance[0]++
			return m
		}},
		"for another server": {signal.CodeWrongServer, func(nonce [32]byte) *signal.RegisterMsg {
			return signed(key, "signal.example.org", nonce)
		}},
		"for another server, renamed": {signal.CodeBadSignature, func(nonce [32]byte) *signal.RegisterMsg {
			m := signed(key, "signal.example.org", nonce)
			m.Name = serverName(s.url)
			return m
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, s.url, signal.PathHost)
			r.send(c.msg(r.challenge().Nonce))
			r.expectGoodbye(c.code)
		})
	}
	if st := s.Stats(); st.Registrations != 0 {
		t.Errorf("%d registrations", st.Registrations)
	}
}

// A server in the middle cannot use what a host signed for it at another one
// that insists on its names.
func TestRegistrationCannotBeRelayed(t *testing.T) {
	s := start(t, server.Config{Names: []string{"signal.example.org", "other.example.org:8443"}})
	r := dialRaw(t, s.url, signal.PathHost)
	r.send(signed(signaltest.NewKey(t), serverName(s.url), r.challenge().Nonce))
	r.expectGoodbye(signal.CodeWrongServer)

	for name, ok := range map[string]bool{
		"signal.example.org":      true,
		"signal.example.org:4000": true, // a port forwarded to this one
		"other.example.org:8443":  true,
		"other.example.org":       false,
		"evil.example":            false,
		"signal.example.org.evil": false,
	} {
		r := dialRaw(t, s.url, signal.PathHost)
		r.send(signed(signaltest.NewKey(t), name, r.challenge().Nonce))
		_, ready := r.receive().(*signal.ReadyMsg)
		if ready != ok {
			t.Errorf("registered as %s: %v, want %v", name, ready, ok)
		}
	}
}

func TestDisorderBeforeRegistration(t *testing.T) {
	s := start(t, server.Config{})
	nonce := [32]byte{}
	for name, b := range map[string][]byte{
		"data":       (&signal.DataMsg{Pipe: 1, Payload: []byte("x")}).Append(nil),
		"close":      (&signal.CloseMsg{Pipe: 1}).Append(nil),
		"proof":      (&signal.ProveMsg{Name: "x", Proof: []byte("x")}).Append(nil),
		"ready":      (&signal.ReadyMsg{}).Append(nil),
		"challenge":  (&signal.ChallengeMsg{Nonce: nonce}).Append(nil),
		"goodbye":    (&signal.GoodbyeMsg{Code: 1}).Append(nil),
		"empty":      {},
		"unknown":    {0x7f, 1, 2, 3},
		"too long":   append(signed(signaltest.NewKey(t), serverName(s.url), nonce).Append(nil), make([]byte, 400)...),
		"far beyond": make([]byte, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, s.url, signal.PathHost)
			r.challenge()
			r.sendBytes(b)
			r.expectGoodbye(signal.CodeProtocol)
		})
	}
	t.Run("text", func(t *testing.T) {
		r := dialRaw(t, s.url, signal.PathHost)
		r.challenge()
		if err := r.ws.Write(signaltest.Context(t), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		r.expectGoodbye(signal.CodeProtocol)
	})
}

func TestDisorderOfHosts(t *testing.T) {
	s := start(t, server.Config{})
	for name, b := range map[string][]byte{
		"register again": signed(signaltest.NewKey(t), "x", [32]byte{}).Append(nil),
		"open":           (&signal.OpenMsg{Pipe: 1}).Append(nil),
		"empty data":     {0x10, 0, 0, 0, 1},
		"oversized":      append([]byte{0x10, 0, 0, 0, 1}, make([]byte, signal.MaxPayload+1)...),
		"far beyond":     append([]byte{0x10, 0, 0, 0, 1}, make([]byte, 200_000)...),
	} {
		t.Run(name, func(t *testing.T) {
			r := registerRaw(t, s.url, signaltest.NewKey(t))
			r.sendBytes(b)
			r.expectGoodbye(signal.CodeProtocol)
		})
	}
}

func TestDisorderOfGuests(t *testing.T) {
	s := start(t, server.Config{})
	reg := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
	for name, b := range map[string][]byte{
		"another's pipe": (&signal.DataMsg{Pipe: 1, Payload: []byte("x")}).Append(nil),
		"close another":  (&signal.CloseMsg{Pipe: 1}).Append(nil),
		"open":           (&signal.OpenMsg{Pipe: 1}).Append(nil),
		"register":       signed(signaltest.NewKey(t), serverName(s.url), [32]byte{}).Append(nil),
		"garbage":        {0xff, 0xff},
		"oversized":      append([]byte{0x10, 0, 0, 0, 0}, make([]byte, signal.MaxPayload+1)...),
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, s.url, signal.PathJoin+reg.Info().Room.String())
			if _, ok := r.receive().(*signal.ReadyMsg); !ok {
				t.Fatal("not ready")
			}
			host := signaltest.Accept(t, reg)
			r.sendBytes(b)
			if m, ok := r.receive().(*signal.CloseMsg); !ok || m.Reason != signal.ReasonMalformed {
				t.Errorf("the guest was told %#v", m)
			}
			var perr *signal.PipeError
			if _, err := host.Read(make([]byte, 1)); !errors.As(err, &perr) || perr.Reason != signal.ReasonMalformed {
				t.Errorf("the host was told %v", err)
			}
		})
	}
	// The room and its host are none the worse for it.
	g, h := signaltest.Pair(t, s.url, reg)
	signaltest.Exchange(t, g, h, []byte("hello"))
}

// A guest that never reads loses its pipe; the host and its other guests do
// not notice.
func TestGuestThatNeverReads(t *testing.T) {
	s := start(t, server.Config{Limits: server.Limits{PipeBytes: 64 << 20, PipeQueue: 64 << 10}})
	reg := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
	stuck := dialRaw(t, s.url, signal.PathJoin+reg.Info().Room.String())
	toStuck := signaltest.Accept(t, reg)
	guest, toGuest := signaltest.Pair(t, s.url, reg)

	flood := make(chan error, 1)
	go func() {
		b := make([]byte, 32<<10)
		for {
			if _, err := toStuck.Write(b); err != nil {
				flood <- err
				return
			}
		}
	}()
	signaltest.Exchange(t, guest, toGuest, signaltest.RandomBytes(10_000))
	signaltest.Exchange(t, toGuest, guest, signaltest.RandomBytes(10_000))
	var perr *signal.PipeError
	if err := <-flood; !errors.As(err, &perr) || perr.Reason != signal.ReasonOverflow {
		t.Errorf("the flood ended with %v", err)
	}
	signaltest.Exchange(t, toGuest, guest, signaltest.RandomBytes(10_000))
	_ = stuck.ws.CloseNow()
}

// A host that never reads is cut off; other rooms do not notice, and its
// guests learn it.
func TestHostThatNeverReads(t *testing.T) {
	s := start(t, server.Config{Limits: server.Limits{PipeBytes: 1 << 30, Message: 200 * time.Millisecond}})
	key := signaltest.NewKey(t)
	registerRaw(t, s.url, key)
	flooder := signaltest.Dial(t, s.url, signaltest.RoomOf(key), nil)

	other := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
	guest, host := signaltest.Pair(t, s.url, other)

	b := make([]byte, 32<<10)
	var err error
	for err == nil {
		signaltest.Exchange(t, guest, host, b[:100])
		_, err = flooder.Write(b)
	}
	if !isPipeError(err, signal.ReasonLost) {
		t.Errorf("the guest of the stuck host was told %v", err)
	}
	waitFor(t, func() bool { return s.Stats().Rooms == 1 })
	signaltest.Exchange(t, host, guest, signaltest.RandomBytes(10_000))
}

func isPipeError(err error, reason signal.Reason) bool {
	var perr *signal.PipeError
	return errors.As(err, &perr) && perr.Reason == reason
}

func TestQuota(t *testing.T) {
	s := start(t, server.Config{Limits: server.Limits{PipeBytes: 50_000}})
	reg := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)

	// Our own clients stop by themselves.
	guest, host := signaltest.Pair(t, s.url, reg)
	signaltest.Exchange(t, guest, host, signaltest.RandomBytes(50_000))
	signaltest.Exchange(t, host, guest, signaltest.RandomBytes(50_000)) // directions count separately
	for _, c := range []net.Conn{guest, host} {
		if _, err := c.Write([]byte("x")); !isPipeError(err, signal.ReasonQuota) {
			t.Errorf("one byte too many: %v", err)
		}
	}

	tooMuch := make([]byte, 12_501)
	t.Run("guest", func(t *testing.T) {
		guest := dialRaw(t, s.url, signal.PathJoin+reg.Info().Room.String())
		guest.receive()
		host := signaltest.Accept(t, reg)
		for range 4 {
			guest.send(&signal.DataMsg{Payload: tooMuch})
		}
		if m, ok := guest.receive().(*signal.CloseMsg); !ok || m.Reason != signal.ReasonQuota {
			t.Errorf("the guest was told %#v", m)
		}
		if n, err := io.Copy(io.Discard, host); !isPipeError(err, signal.ReasonQuota) || n > 50_000 {
			t.Errorf("the host got %d bytes, %v", n, err)
		}
	})
	t.Run("host", func(t *testing.T) {
		key := signaltest.NewKey(t)
		host := registerRaw(t, s.url, key)
		guest := signaltest.Dial(t, s.url, signaltest.RoomOf(key), nil)
		open := host.receive().(*signal.OpenMsg)
		for range 4 {
			host.send(&signal.DataMsg{Pipe: open.Pipe, Payload: tooMuch})
		}
		if m, ok := host.receive().(*signal.CloseMsg); !ok || *m != (signal.CloseMsg{Pipe: open.Pipe, Reason: signal.ReasonQuota}) {
			t.Errorf("the host was told %#v", m)
		}
		if n, err := io.Copy(io.Discard, guest); !isPipeError(err, signal.ReasonQuota) || n > 50_000 {
			t.Errorf("the guest got %d bytes, %v", n, err)
		}
	})
}

// What a host sends beside its pipes costs it its connection, not the server.
func TestStrayFlood(t *testing.T) {
	s := start(t, server.Config{})
	t.Run("data for no pipe", func(t *testing.T) {
		r := registerRaw(t, s.url, signaltest.NewKey(t))
		b := (&signal.DataMsg{Pipe: 77, Payload: make([]byte, signal.MaxPayload)}).Append(nil)
		for range 1000 {
			if r.ws.Write(signaltest.Context(t), websocket.MessageBinary, b) != nil {
				break
			}
		}
		r.expectGoodbye(signal.CodeRateLimited)
	})
	t.Run("pings", func(t *testing.T) {
		r := registerRaw(t, s.url, signaltest.NewKey(t))
		ctx := r.ws.CloseRead(context.Background())
		for i := 0; ctx.Err() == nil; i++ {
			if i > 20_000 {
				t.Fatal("20,000 pings at once were answered")
			}
			_ = r.ws.Ping(ctx)
		}
	})
}

// Joiners of one room, as many and as fast as they can, do not keep others from
// being met.
func TestJoinerFlood(t *testing.T) {
	s := start(t, server.Config{Limits: server.Limits{
		AddressRate: server.Rate{PerSecond: 1e6, Burst: 1e6},
		RoomRate:    server.Rate{PerSecond: 5, Burst: 60},
	}})
	besieged := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
	other := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)

	ctx, cancel := context.WithCancel(signaltest.Context(t))
	defer cancel()
	refused := make(chan error, 4)
	for range cap(refused) {
		go func() {
			var last error
			for ctx.Err() == nil {
				c, _, err := signal.Dial(ctx, s.url, besieged.Info().Room, nil)
				if err == nil {
					_ = c.Close()
				} else if ctx.Err() == nil {
					last = err
				}
			}
			refused <- last
		}()
	}
	for range 50 {
		guest, host := signaltest.Pair(t, s.url, other)
		signaltest.Exchange(t, guest, host, signaltest.RandomBytes(1000))
		_ = guest.Close()
	}
	waitFor(t, func() bool { return s.Stats().Refused[signal.CodeRateLimited] > 100 })
	cancel()
	for range cap(refused) {
		if err := <-refused; !errors.Is(err, signal.ErrRateLimited) {
			t.Errorf("a flooder was told %v", err)
		}
	}
}

// Whatever a guest sends arrives at the host as it is, however it is cut.
func TestTinyMessages(t *testing.T) {
	s := start(t, server.Config{})
	reg := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
	guest, host := signaltest.Pair(t, s.url, reg)
	want := signaltest.RandomBytes(3000)
	for _, c := range [][2]net.Conn{{guest, host}, {host, guest}} {
		go func() {
			for i := range want {
				_, _ = c[0].Write(want[i : i+1])
			}
		}()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c[1], got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("3000 messages of one byte: %v", err)
		}
	}
}
