package signal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer runs a real server at ip:80 of n until stop is called, or the
// test ends.
func startServer(t testing.TB, n *memnet.Net, ip string) (url string, stop func()) {
	t.Helper()
	l := n.Listen(ip + ":80")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.New(server.Config{}).Run(ctx, l) }()
	stop = func() {
		if ctx.Err() != nil {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return "ws://" + ip, stop
}

func from(n *memnet.Net, ip string) *signal.Options {
	return &signal.Options{DialContext: n.DialFrom(ip)}
}

// answering is an HTTP server that answers everything with h.
func answering(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

// saying is a WebSocket server that runs f for each connection.
func saying(t testing.TB, f func(ctx context.Context, ws *websocket.Conn)) string {
	t.Helper()
	return answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(signal.HeaderServer, signal.Version)
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{signal.Subprotocol}})
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		f(r.Context(), ws)
	})
}

func send(ctx context.Context, ws *websocket.Conn, m signal.Message) {
	_ = ws.Write(ctx, websocket.MessageBinary, m.Append(nil))
}

func TestWhatIsThere(t *testing.T) {
	status := func(code int, headers ...string) string {
		return answering(t, func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
		})
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	banner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = banner.Close() }()
	go func() {
		for {
			c, err := banner.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n")
			_ = c.Close()
		}
	}()

	for name, c := range map[string]struct {
		url   string
		want  error
		words string
	}{
		"nothing":            {"ws://" + closed.Addr().String(), signal.ErrUnreachable, "refused"},
		"no such name":       {"ws://nowhere.invalid", signal.ErrUnreachable, "nowhere.invalid"},
		"an SSH server":      {"ws://" + banner.Addr().String(), signal.ErrNotASignalServer, ""},
		"a web site":         {status(200), signal.ErrNotASignalServer, "200"},
		"a web site, 404":    {status(404), signal.ErrNotASignalServer, "404"},
		"a redirect":         {status(301, "Location", "https://example.org/\u202e"), signal.ErrNotASignalServer, "redirects"},
		"a proxy, down":      {status(502), signal.ErrUnreachable, "502"},
		"a proxy, limiting":  {status(429), signal.ErrRateLimited, ""},
		"a newer server":     {status(404, signal.HeaderServer, "v2, v3"), signal.ErrVersion, ""},
		"old and new server": {status(404, signal.HeaderServer, "v1, v2", signal.HeaderCode, "7"), signal.ErrNoRoom, ""},
		"our server, odd":    {status(500, signal.HeaderServer, "v1"), signal.ErrProtocol, "500"},
		"another WebSocket": {answering(t, func(w http.ResponseWriter, r *http.Request) {
			if ws, err := websocket.Accept(w, r, nil); err == nil {
				_ = ws.CloseNow()
			}
		}), signal.ErrNotASignalServer, ""},
		"garbage": {saying(t, func(ctx context.Context, ws *websocket.Conn) {
			_ = ws.Write(ctx, websocket.MessageBinary, []byte("hello"))
		}), signal.ErrNotASignalServer, ""},
		"text": {saying(t, func(ctx context.Context, ws *websocket.Conn) {
			_ = ws.Write(ctx, websocket.MessageText, []byte("hello"))
		}), signal.ErrNotASignalServer, ""},
		"too much": {saying(t, func(ctx context.Context, ws *websocket.Conn) {
			_ = ws.Write(ctx, websocket.MessageBinary, make([]byte, 100_000))
		}), signal.ErrNotASignalServer, ""},
		"disorder": {saying(t, func(ctx context.Context, ws *websocket.Conn) {
			send(ctx, ws, &signal.OpenMsg{Pipe: 1})
		}), signal.ErrNotASignalServer, ""},
		"another room": {saying(t, func(ctx context.Context, ws *websocket.Conn) {
			send(ctx, ws, &signal.ReadyMsg{Room: signal.Room{66}})
		}), signal.ErrProtocol, "42"},
		"goodbye": {saying(t, func(ctx context.Context, ws *websocket.Conn) {
			send(ctx, ws, &signal.GoodbyeMsg{Code: signal.CodeNotAllowed, Text: "members only"})
		}), signal.ErrNotAllowed, "members only"},
		"an end": {saying(t, func(context.Context, *websocket.Conn) {}), signal.ErrUnreachable, ""},
		"no URL": {"ftp://example.org", nil, "ws"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := signal.Dial(signaltest.Context(t), c.url, signal.Room{1}, nil)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("a guest finds %q: want %v with %q", err, c.want, c.words)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("the error %q would do something to a terminal", err)
			}
			_, err = signal.Register(signaltest.Context(t), c.url, signaltest.NewKey(t), nil)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) && name != "another room" {
				t.Errorf("a host finds %q: want %v with %q", err, c.want, c.words)
			}
		})
	}
}

// A server that accepts and then says nothing costs the timeout, no more.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		l := n.Listen("192.0.2.1:80")
		defer func() { _ = l.Close() }()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, c) }()
			}
		}()
		for name, f := range map[string]func(ctx context.Context) error{
			"guest": func(ctx context.Context) error {
				_, _, err := signal.Dial(ctx, "ws://192.0.2.1", signal.Room{}, from(n, "192.0.2.9"))
				return err
			},
			"host": func(ctx context.Context) error {
				_, err := signal.Register(ctx, "ws://192.0.2.1", signaltest.NewKey(t), from(n, "192.0.2.9"))
				return err
			},
		} {
			start := time.Now()
			if err := f(t.Context()); !errors.Is(err, signal.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("%s: gave up after %v", name, d)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := f(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, cancelled: %v", name, err)
			}
		}
	})
}

// pair is a guest's pipe and the host's end of it.
func pair(t testing.TB, n *memnet.Net, url string) (guest, host net.Conn, reg *signal.Registration) {
	t.Helper()
	reg, err := signal.Register(t.Context(), url, signaltest.NewKey(t), from(n, "192.0.2.9"))
	if err != nil {
		t.Fatal(err)
	}
	guest, _, err = signal.Dial(t.Context(), url, reg.Info().Room, from(n, "192.0.2.10"))
	if err != nil {
		t.Fatal(err)
	}
	if host, err = reg.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = guest.Close()
		_ = host.Close()
		_ = reg.Close()
	})
	return guest, host, reg
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		url, _ := startServer(t, n, "192.0.2.1")
		guest, host, _ := pair(t, n, url)
		for _, c := range [][2]net.Conn{{guest, host}, {host, guest}} {
			a, b := c[0], c[1]
			read := func() (time.Duration, error) {
				start := time.Now()
				_, err := a.Read(make([]byte, 9))
				return time.Since(start), err
			}
			expect := func(what string, want time.Duration) {
				t.Helper()
				if d, err := read(); d != want || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: %v after %v, want a timeout after %v", what, err, d, want)
				}
			}
			_ = a.SetReadDeadline(time.Now().Add(5 * time.Second))
			expect("deadline", 5*time.Second)
			expect("passed deadline", 0)
			_ = a.SetDeadline(time.Now().Add(time.Second))
			expect("moved deadline", time.Second)
			synctest.Wait() // the other timer of this instant
			if _, err := a.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write: %v", err)
			}

			// Moved while someone waits: later, earlier, away.
			_ = a.SetDeadline(time.Now().Add(time.Second))
			go func() {
				time.Sleep(500 * time.Millisecond)
				_ = a.SetReadDeadline(time.Now().Add(2 * time.Second))
			}()
			expect("put off", 2500*time.Millisecond)
			_ = a.SetReadDeadline(time.Now().Add(time.Hour))
			go func() {
				time.Sleep(time.Second)
				_ = a.SetReadDeadline(time.Now())
			}()
			expect("brought forward", time.Second)
			_ = a.SetDeadline(time.Now().Add(time.Second))
			go func() {
				time.Sleep(500 * time.Millisecond)
				_ = a.SetDeadline(time.Time{})
				time.Sleep(time.Minute)
				_, _ = b.Write([]byte("x"))
			}()
			if d, err := read(); err != nil || d != time.Minute+500*time.Millisecond {
				t.Errorf("removed deadline: %v after %v", err, d)
			}
		}
	})
}

func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		url, _ := startServer(t, n, "192.0.2.1")
		guest, host, reg := pair(t, n, url)
		errs := make(chan error, 4)
		read := func(c net.Conn) {
			_, err := c.Read(make([]byte, 1))
			errs <- err
		}
		go read(host)
		go read(host) // both readers wake up
		synctest.Wait()
		if err := host.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := host.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("read during close: %v", err)
			}
		}
		if _, err := guest.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the guest's end: %v", err)
		}

		go func() {
			_, err := reg.Accept(t.Context())
			errs <- err
		}()
		go read(guest)
		synctest.Wait()
		start := time.Now()
		if err := guest.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := guest.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		<-errs // io.EOF or closed: who was first
		_ = reg.Close()
		_ = reg.Close()
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept during close: %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("closing took %v", d)
		}
	})
}

// One guest that is not read from loses its pipe; the others go on.
func TestSlowSibling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		url, _ := startServer(t, n, "192.0.2.1")
		slow, _, reg := pair(t, n, url)
		guest, _, err := signal.Dial(t.Context(), url, reg.Info().Room, from(n, "192.0.2.11"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = guest.Close() }()
		host, err := reg.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = slow.Write(make([]byte, 8<<10)) // nobody reads it
			synctest.Wait()
		}
		var perr *signal.PipeError
		if !errors.As(err, &perr) || perr.Reason != signal.ReasonOverflow {
			t.Errorf("the slow pipe ended with %v", err)
		}
		_, _ = guest.Write([]byte("x"))
		if k, err := host.Read(make([]byte, 9)); k != 1 || err != nil {
			t.Errorf("its sibling: %d bytes, %v", k, err)
		}
	})
}

// The server vanishes without a word: the host notices by its pings.
func TestServerVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		url, _ := startServer(t, n, "192.0.2.1")
		opts, freeze := freezable(n, "192.0.2.9")
		reg, err := signal.Register(t.Context(), url, signaltest.NewKey(t), opts)
		if err != nil {
			t.Fatal(err)
		}
		guestOpts, freezeGuest := freezable(n, "192.0.2.10")
		guest, _, err := signal.Dial(t.Context(), url, reg.Info().Room, guestOpts)
		if err != nil {
			t.Fatal(err)
		}
		freezeGuest()
		start := time.Now()
		_ = guest.Close()
		if d := time.Since(start); d != time.Second {
			t.Errorf("closing a dead pipe took %v", d)
		}
		if _, err := reg.Accept(t.Context()); err != nil {
			t.Fatal(err)
		}

		time.Sleep(10 * time.Minute)
		freeze()
		start = time.Now()
		if _, err := reg.Accept(t.Context()); !errors.Is(err, signal.ErrLost) || errors.Is(err, net.ErrClosed) {
			t.Errorf("the registration ended with %v", err)
		}
		if d := time.Since(start); d > 45*time.Second {
			t.Errorf("the host noticed after %v", d)
		}
		_ = reg.Close()
	})
}

// freezable are options of a client whose connection can be made to go nowhere.
func freezable(n *memnet.Net, ip string) (opts *signal.Options, freeze func()) {
	frozen := make(chan struct{})
	dial := n.DialFrom(ip)
	return &signal.Options{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &freezing{Conn: c, frozen: frozen}, nil
	}}, func() { close(frozen) }
}

// freezing is a connection whose writes go nowhere once it is frozen.
type freezing struct {
	net.Conn
	frozen chan struct{}
}

func (c *freezing) Write(b []byte) (int, error) {
	select {
	case <-c.frozen:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

// A hostile server cannot make a client hold much, or go on with nonsense.
func TestHostileServer(t *testing.T) {
	key := signaltest.NewKey(t)
	registered := func(f func(ctx context.Context, ws *websocket.Conn)) string {
		return saying(t, func(ctx context.Context, ws *websocket.Conn) {
			send(ctx, ws, &signal.ChallengeMsg{})
			_, _, _ = ws.Read(ctx)
			send(ctx, ws, &signal.ReadyMsg{Room: signaltest.RoomOf(key)})
			f(ctx, ws)
		})
	}
	for name, f := range map[string]func(ctx context.Context, ws *websocket.Conn){
		"pipes in disorder": func(ctx context.Context, ws *websocket.Conn) {
			send(ctx, ws, &signal.OpenMsg{Pipe: 2})
			send(ctx, ws, &signal.OpenMsg{Pipe: 2})
		},
		"pipe 0": func(ctx context.Context, ws *websocket.Conn) { send(ctx, ws, &signal.OpenMsg{}) },
		"second ready": func(ctx context.Context, ws *websocket.Conn) {
			send(ctx, ws, &signal.ReadyMsg{Room: signaltest.RoomOf(key)})
		},
		"garbage": func(ctx context.Context, ws *websocket.Conn) {
			_ = ws.Write(ctx, websocket.MessageBinary, []byte{0x10, 0})
		},
		"too long": func(ctx context.Context, ws *websocket.Conn) {
			_ = ws.Write(ctx, websocket.MessageBinary, append([]byte{0x10, 0, 0, 0, 1}, make([]byte, 1<<20)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg, err := signal.Register(signaltest.Context(t), registered(func(ctx context.Context, ws *websocket.Conn) {
				f(ctx, ws)
				_, _, _ = ws.Read(ctx)
			}), key, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = reg.Close() }()
			for err == nil {
				_, err = reg.Accept(signaltest.Context(t))
			}
			if !errors.Is(err, signal.ErrProtocol) {
				t.Errorf("the registration ended with %v", err)
			}
		})
	}

	t.Run("pipes without end", func(t *testing.T) {
		refused := make(chan int, 1)
		reg, err := signal.Register(signaltest.Context(t), registered(func(ctx context.Context, ws *websocket.Conn) {
			go func() {
				for i := range uint32(3000) {
					send(ctx, ws, &signal.OpenMsg{Pipe: i + 1})
				}
			}()
			n := 0
			for n < 3000-64 {
				_, b, err := ws.Read(ctx)
				if err != nil {
					break
				}
				if m, err := signal.Decode(b); err == nil {
					if c, ok := m.(*signal.CloseMsg); ok && c.Reason == signal.ReasonRefused {
						n++
					}
				}
			}
			refused <- n
		}), key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := <-refused; n != 3000-64 {
			t.Errorf("of 3000 guests that nobody accepts %d were refused, want all but 64", n)
		}
		_ = reg.Close()
	})

	t.Run("bytes without end", func(t *testing.T) {
		overflow := make(chan error, 1)
		url := saying(t, func(ctx context.Context, ws *websocket.Conn) {
			send(ctx, ws, &signal.ReadyMsg{PipeBytes: 1<<32 - 1})
			go func() {
				for ws.Write(ctx, websocket.MessageBinary, (&signal.DataMsg{Payload: make([]byte, 16<<10-5)}).Append(nil)) == nil {
				}
			}()
			_, b, err := ws.Read(ctx)
			if err != nil {
				overflow <- err
			} else if m, err := signal.Decode(b); err != nil || *m.(*signal.CloseMsg) != (signal.CloseMsg{Reason: signal.ReasonOverflow}) {
				overflow <- fmt.Errorf("%#v, %w", m, err)
			} else {
				overflow <- nil
			}
		})
		c, _, err := signal.Dial(signaltest.Context(t), url, signal.Room{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-overflow; err != nil {
			t.Errorf("the server was told %v", err)
		}
		if n, err := io.Copy(io.Discard, c); n > 1<<20 || err == nil {
			t.Errorf("%d bytes were buffered, %v", n, err)
		}
		_ = c.Close()
	})
}
