package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

const memAddr = "192.0.2.1:80"

// inBubble runs f with a fake clock, and a server on an in-memory network.
func inBubble(t *testing.T, config server.Config, f func(t *testing.T, n *memnet.Net, s *testServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		f(t, n, startOn(t, config, n.Listen(memAddr), "ws://192.0.2.1"))
	})
}

// from are options of a client at ip.
func from(n *memnet.Net, ip string) *signal.Options {
	return &signal.Options{DialContext: n.DialFrom(ip)}
}

func TestIdleGuest(t *testing.T) {
	limits := server.Limits{GuestLifetime: time.Hour}
	inBubble(t, server.Config{Limits: limits}, func(t *testing.T, n *memnet.Net, s *testServer) {
		reg := signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		guest := signaltest.Dial(t, s.url, reg.Info().Room, from(n, "192.0.2.10"))
		host := signaltest.Accept(t, reg)

		// A byte in either direction counts.
		for range 3 {
			time.Sleep(100 * time.Second)
			signaltest.Exchange(t, guest, host, []byte("x"))
			time.Sleep(100 * time.Second)
			signaltest.Exchange(t, host, guest, []byte("x"))
		}
		// Only half of the silence that is allowed has passed, twice.
		start := time.Now()
		_ = guest.SetReadDeadline(time.Time{})
		if _, err := guest.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonIdle) {
			t.Errorf("the guest was told %v", err)
		}
		if d := time.Since(start); d != 2*time.Minute {
			t.Errorf("a pipe may be silent for %v, want 2m", d)
		}
		_ = host.SetReadDeadline(time.Time{})
		if _, err := host.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonIdle) {
			t.Errorf("the host was told %v", err)
		}
	})
}

func TestLifetimeOfAPipe(t *testing.T) {
	inBubble(t, server.Config{}, func(t *testing.T, n *memnet.Net, s *testServer) {
		reg := signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		start := time.Now()
		guest := signaltest.Dial(t, s.url, reg.Info().Room, from(n, "192.0.2.10"))
		host := signaltest.Accept(t, reg)
		go func() {
			for {
				time.Sleep(30 * time.Second)
				if _, err := host.Write([]byte("x")); err != nil {
					return
				}
			}
		}()
		if _, err := io.Copy(io.Discard, guest); !isPipeError(err, signal.ReasonLifetime) {
			t.Errorf("the guest was told %v", err)
		}
		if d := time.Since(start); d != 10*time.Minute {
			t.Errorf("a pipe may last %v, want 10m", d)
		}
		time.Sleep(time.Minute) // the host's writer notices
	})
}

// A host that pings stays for ever, one whose network is gone does not.
func TestIdleHost(t *testing.T) {
	inBubble(t, server.Config{}, func(t *testing.T, n *memnet.Net, s *testServer) {
		opts := from(n, "192.0.2.9")
		reg := signaltest.Register(t, s.url, signaltest.NewKey(t), opts)
		time.Sleep(24 * time.Hour)
		if st := s.Stats(); st.Rooms != 1 {
			t.Fatal("a host that pings was forgotten")
		}
		select {
		case <-reg.Done():
			t.Fatal("the registration ended")
		default:
		}

		silent, err := opts.DialContext(t.Context(), "tcp", memAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		start := time.Now()
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a connection that says nothing: %v", err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("a connection may say nothing for %v, want 10s", d)
		}
	})
}

// A client that sends its request, or its registration, byte by byte, or stops
// in the middle.
func TestSlowClients(t *testing.T) {
	upgrade := "GET /v1/host HTTP/1.1\r\nHost: 192.0.2.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Protocol: " + signal.Subprotocol + "\r\n\r\n"
	for name, c := range map[string]struct {
		say  string
		slow string
	}{
		"headers":         {"", "GET / HTTP/1.1\r\n" + upgrade},
		"registration":    {upgrade, "\x82\xf1mask" + string(make([]byte, 113))},
		"fragments":       {upgrade, "\x02\x81mask.\x00\x81mask.\x00\x81mask.\x00\x81mask.\x00\x81mask.\x00\x81mask."},
		"websocket pings": {upgrade, "\x89\x80mask\x89\x80mask\x89\x80mask\x89\x80mask\x89\x80mask\x89\x80mask"},
		"silence":         {upgrade, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, server.Config{}, func(t *testing.T, n *memnet.Net, s *testServer) {
				conn, err := n.DialFrom("192.0.2.9")(t.Context(), "tcp", memAddr)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				start := time.Now()
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					_, _ = io.Copy(io.Discard, conn)
				}()
				_, _ = io.WriteString(conn, c.say)
				go func() {
					for i := range c.slow {
						time.Sleep(1900 * time.Millisecond)
						if _, err := io.WriteString(conn, c.slow[i:i+1]); err != nil {
							return
						}
					}
				}()
				<-gone
				// The deadline, and at most the time to take leave.
				if d := time.Since(start); d < 10*time.Second || d > 20*time.Second {
					t.Errorf("a slow client was cut off after %v", d)
				}
				time.Sleep(3 * time.Second) // its writer notices
				if st := s.Stats(); st.Connections != 0 {
					t.Errorf("%d connections left", st.Connections)
				}
			})
		})
	}
}

func TestAddressLimits(t *testing.T) {
	limits := server.Limits{AddressConnections: 3, AddressRate: server.Rate{PerSecond: 1, Burst: 10}}
	inBubble(t, server.Config{Limits: limits}, func(t *testing.T, n *memnet.Net, s *testServer) {
		try := func(ip string) error {
			reg, err := signal.Register(t.Context(), s.url, signaltest.NewKey(t), from(n, ip))
			if err == nil {
				t.Cleanup(func() { _ = reg.Close() })
			}
			return err
		}
		for i := range 3 {
			if err := try("192.0.2.9"); err != nil {
				t.Errorf("connection %d of 3: %v", i, err)
			}
		}
		if err := try("192.0.2.9"); !errors.Is(err, signal.ErrRateLimited) {
			t.Errorf("connection 4 of 3: %v", err)
		}
		if err := try("192.0.2.10"); err != nil {
			t.Errorf("another address: %v", err)
		}
		// An IPv6 host has a whole /64.
		for i := range 4 {
			err := try(fmt.Sprintf("2001:db8::%d", i+1))
			if i < 3 && err != nil || i == 3 && !errors.Is(err, signal.ErrRateLimited) {
				t.Errorf("address %d of a /64: %v", i, err)
			}
		}
		if err := try("2001:db8:0:1::1"); err != nil {
			t.Errorf("another /64: %v", err)
		}
	})
}

func TestAddressRate(t *testing.T) {
	limits := server.Limits{AddressRate: server.Rate{PerSecond: 1, Burst: 5}}
	inBubble(t, server.Config{Limits: limits}, func(t *testing.T, n *memnet.Net, s *testServer) {
		room := signal.Room{1}
		try := func(ip string) error {
			_, _, err := signal.Dial(t.Context(), s.url, room, from(n, ip))
			return err
		}
		for range 5 {
			if err := try("192.0.2.9"); !errors.Is(err, signal.ErrNoRoom) {
				t.Errorf("within the rate: %v", err)
			}
		}
		err := try("192.0.2.9")
		var bye *signal.GoodbyeError
		if !errors.As(err, &bye) || bye.Code != signal.CodeRateLimited || bye.Retry != time.Second {
			t.Errorf("beyond the rate: %#v", err)
		}
		if err := try("192.0.2.10"); !errors.Is(err, signal.ErrNoRoom) {
			t.Errorf("another address: %v", err)
		}
		time.Sleep(time.Second)
		if err := try("192.0.2.9"); !errors.Is(err, signal.ErrNoRoom) {
			t.Errorf("a second later: %v", err)
		}
	})
}

func TestServerIsFull(t *testing.T) {
	inBubble(t, server.Config{Limits: server.Limits{Connections: 4, Rooms: 2}}, func(t *testing.T, n *memnet.Net, s *testServer) {
		key := signaltest.NewKey(t)
		signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		reg := signaltest.Register(t, s.url, key, from(n, "192.0.2.9"))
		if _, err := signal.Register(t.Context(), s.url, signaltest.NewKey(t), from(n, "192.0.2.10")); !errors.Is(err, signal.ErrServerFull) {
			t.Errorf("third room of two: %v", err)
		}
		synctest.Wait()
		signaltest.Dial(t, s.url, reg.Info().Room, from(n, "192.0.2.10"))
		signaltest.Dial(t, s.url, reg.Info().Room, from(n, "192.0.2.10"))
		if _, _, err := signal.Dial(t.Context(), s.url, reg.Info().Room, from(n, "192.0.2.11")); !errors.Is(err, signal.ErrServerFull) {
			t.Errorf("fifth connection of four: %v", err)
		}
		// Sockets that ask for nothing are limited too: 4, and a quarter more.
		half, err := n.DialFrom("192.0.2.12")(t.Context(), "tcp", memAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = half.Close() }()
		tooMany, err := n.DialFrom("192.0.2.12")(t.Context(), "tcp", memAddr)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := tooMany.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) > 0 {
			t.Errorf("one connection too many: %v after %v", err, time.Since(start))
		}
		_ = tooMany.Close()
	})
}

// A host whose machine vanished without a word makes room for itself when it
// comes back, and its guests' pipes are not held up by the dead connection.
func TestSuperseded(t *testing.T) {
	inBubble(t, server.Config{}, func(t *testing.T, n *memnet.Net, s *testServer) {
		ctx, cancel := context.WithCancel(t.Context())
		states := make(chan signal.State, 100)
		l, err := signal.NewListener(signaltest.NewKey(t), []string{s.url, "ws://alias.example:80"}, &signal.Options{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return n.DialFrom("192.0.2.9")(ctx, network, memAddr)
			},
		}, func(s signal.State) { states <- s })
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		time.Sleep(time.Second)
		// One of the two names stands by for the other; they do not fight.
		phases := map[string]signal.Phase{}
		changes := 0
		drain := func() {
			for len(states) > 0 {
				st := <-states
				phases[st.URL] = st.Phase
				changes++
			}
		}
		drain()
		count := map[signal.Phase]int{}
		for _, p := range phases {
			count[p]++
		}
		if count[signal.PhaseRegistered] != 1 || count[signal.PhaseStandby] != 1 {
			t.Fatalf("phases %v", phases)
		}
		changes = 0
		time.Sleep(4 * time.Minute)
		if drain(); changes != 0 {
			t.Errorf("%d changes of state while nothing happened", changes)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
