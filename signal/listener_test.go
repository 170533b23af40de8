package signal_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// history collects what a Listener reports.
type history struct {
	mu     sync.Mutex
	states []signal.State
}

func (h *history) add(s signal.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states = append(h.states, s)
}

func (h *history) take() []signal.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.states
	h.states = nil
	return s
}

func (h *history) count(p signal.Phase) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.states {
		if s.Phase == p {
			n++
		}
	}
	return n
}

// listen runs a Listener until stop is called, which returns what Run did.
func listen(t testing.TB, n *memnet.Net, key ed25519.PrivateKey, urls []string, h *history) (l *signal.Listener, stop func() error) {
	t.Helper()
	var report func(signal.State)
	if h != nil {
		report = h.add
	}
	l, err := signal.NewListener(key, urls, from(n, "192.0.2.9"), report)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return l, func() error {
		cancel()
		return <-ended
	}
}

// hello sends a word through a room, from a guest at url to the listener, and
// returns the URL at which the listener got it.
func hello(t testing.TB, n *memnet.Net, l *signal.Listener, url string, room signal.Room) string {
	t.Helper()
	guest, _, err := signal.Dial(t.Context(), url, room, from(n, "192.0.2.10"))
	if err != nil {
		t.Fatalf("dial %s: %v", url, err)
	}
	host, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = guest.Write([]byte("hello"))
	_ = guest.Close()
	if b, err := io.ReadAll(host); string(b) != "hello" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	_ = host.Close()
	return host.RemoteAddr().(signal.Addr).Server
}

func TestListenerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		key := signaltest.NewKey(t)
		var h history
		a, stopA := startServer(t, n, "192.0.2.1")
		b, stopB := startServer(t, n, "192.0.2.2")
		l, stop := listen(t, n, key, []string{a, b, a + "/"}, &h)
		if err := l.WaitRegistered(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.count(signal.PhaseRegistered); got != 2 {
			t.Fatalf("registered at %d servers, want 2", got)
		}
		for _, url := range []string{a, b} {
			if got := hello(t, n, l, url, signaltest.RoomOf(key)); got != url {
				t.Errorf("a guest at %s came over %s", url, got)
			}
		}

		// A server restarts: its hosts are told to come back within seconds.
		h.take()
		stopA()
		_, stopA = startServer(t, n, "192.0.2.1")
		hello(t, n, l, b, signaltest.RoomOf(key))
		time.Sleep(12 * time.Second)
		if got := h.count(signal.PhaseRegistered); got != 1 {
			t.Fatalf("registered %d times after the restart of a server, states %+v", got, h.take())
		}
		hello(t, n, l, a, signaltest.RoomOf(key))

		// Both are down for an hour: attempts become rare, and never stop.
		h.take()
		stopA()
		stopB()
		time.Sleep(time.Hour)
		if err := l.WaitRegistered(t.Context()); !errors.Is(err, signal.ErrUnreachable) {
			t.Errorf("WaitRegistered: %v", err)
		}
		attempts := h.count(signal.PhaseConnecting)
		if attempts < 2*60 || attempts > 2*60*5 {
			t.Errorf("%d attempts in an hour", attempts)
		}
		for _, s := range h.take() {
			if s.Phase == signal.PhaseWaiting && (s.Err == nil || s.Retry <= 0 || s.Retry > time.Minute) {
				t.Errorf("waiting: %+v", s)
			}
		}
		startServer(t, n, "192.0.2.2")
		time.Sleep(time.Minute)
		hello(t, n, l, b, signaltest.RoomOf(key))

		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := l.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after the end: %v", err)
		}
		if err := l.WaitRegistered(t.Context()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("WaitRegistered after the end: %v", err)
		}
	})
}

// mute is a connection of which the other end hears nothing any more, not even its
// end, once its network is down.
type mute struct {
	net.Conn
	down *atomic.Bool
}

func (c mute) Close() error {
	if c.down.Load() {
		return c.Conn.SetDeadline(time.Now())
	}
	return c.Conn.Close()
}

func (c mute) Write(b []byte) (int, error) {
	if c.down.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// A host whose network has changed without a word to its connections notices as soon
// as it is told to check. The guests that knocked in vain meanwhile are told at once.
func TestListenerCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		key := signaltest.NewKey(t)
		url, _ := startServer(t, n, "192.0.2.1")
		var (
			h       history
			down    = new(atomic.Bool) // the network of the connections made until now
			offline atomic.Bool
			conns   []net.Conn
		)
		opts := from(n, "192.0.2.9")
		dial := opts.DialContext
		opts.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if offline.Load() {
				return nil, errors.New("network is unreachable")
			}
			c, err := dial(ctx, network, addr)
			if err == nil {
				conns = append(conns, c)
			}
			return mute{c, down}, err
		}
		l, err := signal.NewListener(key, []string{url}, opts, h.add)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		if err := l.WaitRegistered(t.Context()); err != nil {
			t.Fatal(err)
		}

		// It moves to another network.
		down.Store(true)
		down = new(atomic.Bool)
		guest, _, err := signal.Dial(t.Context(), url, signaltest.RoomOf(key), from(n, "192.0.2.10"))
		if err != nil {
			t.Fatal(err)
		}
		h.take()
		l.Check()
		began := time.Now()
		if _, err := guest.Read(make([]byte, 1)); err == nil {
			t.Error("an answer out of nowhere")
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the guest was left in the dark for %v", took)
		}
		_ = guest.Close()
		synctest.Wait() // the guest may be told before the host registers anew
		if got := h.count(signal.PhaseRegistered); got != 1 {
			t.Errorf("registered %d times after the move", got)
		}
		hello(t, n, l, url, signaltest.RoomOf(key))

		// Nor does it wait for its next attempt when there is a network again.
		offline.Store(true)
		down.Store(true)
		down = new(atomic.Bool)
		l.Check()
		time.Sleep(time.Hour + 17*time.Second)
		offline.Store(false)
		h.take()
		l.Check()
		synctest.Wait()
		if got := h.count(signal.PhaseRegistered); got != 1 {
			t.Errorf("registered %d times when the network came back", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
}

// A second host with the same session key takes over, once.
func TestListenerIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		key := signaltest.NewKey(t)
		a, _ := startServer(t, n, "192.0.2.1")
		var h1, h2 history
		first, stopFirst := listen(t, n, key, []string{a}, &h1)
		if err := first.WaitRegistered(t.Context()); err != nil {
			t.Fatal(err)
		}
		second, stopSecond := listen(t, n, key, []string{a}, &h2)
		if _, err := first.Accept(t.Context()); !errors.Is(err, signal.ErrReplaced) {
			t.Errorf("the first accepts %v", err)
		}
		if err := stopFirst(); !errors.Is(err, signal.ErrReplaced) {
			t.Errorf("the first ended with %v", err)
		}
		time.Sleep(time.Hour)
		hello(t, n, second, a, signaltest.RoomOf(key))
		if got := h1.count(signal.PhaseRegistered) + h2.count(signal.PhaseRegistered); got != 2 {
			t.Errorf("%d registrations, want 2: they fought", got)
		}
		if got := h1.count(signal.PhaseReplaced); got != 1 {
			t.Errorf("replaced was reported %d times", got)
		}
		if err := stopSecond(); err != nil {
			t.Errorf("the second ended with %v", err)
		}
	})
}

// One of two servers that claims a replacement does not end the session at the
// other.
func TestListenerIsReplacedAtOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		key := signaltest.NewKey(t)
		a, _ := startServer(t, n, "192.0.2.1")
		b, _ := startServer(t, n, "192.0.2.2")
		l, stop := listen(t, n, key, []string{a, b}, nil)
		synctest.Wait()
		reg, err := signal.Register(t.Context(), a, key, from(n, "192.0.2.66"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		hello(t, n, l, b, signaltest.RoomOf(key))
		select {
		case <-reg.Done():
			t.Error("the other host was thrown out in turn")
		default:
		}
		_ = reg.Close()
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// Three names of one server: one registration, which another name takes over
// when it is lost.
func TestListenerAtOneServerUnderManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		key := signaltest.NewKey(t)
		// One server on three addresses.
		srv := server.New(server.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- srv.Run(ctx, n.Listen("192.0.2.1:80"), n.Listen("192.0.2.2:80"), n.Listen("192.0.2.3:80"))
		}()
		synctest.Wait()
		urls := []string{"ws://192.0.2.1", "ws://192.0.2.2", "ws://192.0.2.3"}
		var h history
		l, stop := listen(t, n, key, urls, &h)
		time.Sleep(10 * time.Second)
		if got := srv.Stats().Rooms; got != 1 {
			t.Fatalf("%d rooms", got)
		}
		before := srv.Stats().Registrations
		time.Sleep(4 * time.Minute)
		if got := srv.Stats().Registrations; got != before {
			t.Errorf("%d more registrations while nothing happened", got-before)
		}
		if before != 3 {
			t.Errorf("%d registrations before it was quiet", before)
		}
		for _, u := range urls {
			hello(t, n, l, u, signaltest.RoomOf(key))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestNewListener(t *testing.T) {
	for _, urls := range [][]string{nil, {"ftp://x"}, {"ws://good.example", "://"}} {
		if _, err := signal.NewListener(signaltest.NewKey(t), urls, nil, nil); err == nil {
			t.Errorf("a listener at %q", urls)
		}
	}
}
