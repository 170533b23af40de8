package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// testServer is a server on loopback, run by Run until the test ends.
type testServer struct {
	*server.Server
	url  string
	stop func() error // ends Run and returns what it returned
}

func start(t testing.TB, config server.Config) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, config, l, "ws://"+l.Addr().String())
}

func startOn(t testing.TB, config server.Config, l net.Listener, url string) *testServer {
	t.Helper()
	s := server.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		st := s.Stats()
		if st.Connections != 0 || st.Rooms != 0 || st.Guests != 0 || st.QueuedBytes != 0 {
			t.Errorf("left behind after Run: %+v", st)
		}
	})
	return &testServer{Server: s, url: url, stop: stop}
}

func TestPipe(t *testing.T) {
	s := start(t, server.Config{STUN: server.STUN{Ports: []uint16{3478, 3479}}})
	key := signaltest.NewKey(t)
	reg := signaltest.Register(t, s.url, key, nil)

	info := reg.Info()
	if info.Room != signaltest.RoomOf(key) || info.Server != s.url || info.PipeBytes != 256<<10 || info.Guests != 128 {
		t.Errorf("info %+v", info)
	}
	if len(info.STUN) != 2 || info.STUN[0] != "127.0.0.1:3478" || info.STUN[1] != "127.0.0.1:3479" {
		t.Errorf("STUN %q", info.STUN)
	}

	guest, host := signaltest.Pair(t, s.url, reg)
	for _, n := range []int{1, 1000, signal.MaxPayload, signal.MaxPayload + 1, 60_000} {
		signaltest.Exchange(t, guest, host, signaltest.RandomBytes(n))
		signaltest.Exchange(t, host, guest, signaltest.RandomBytes(n))
	}
	if a, ok := host.RemoteAddr().(signal.Addr); !ok || a.Pipe != 1 || a.Source == 0 {
		t.Errorf("the guest's address is %#v", host.RemoteAddr())
	}

	// What is written before a close arrives, then the end.
	for _, c := range [][2]net.Conn{{guest, host}} {
		if _, err := c[0].Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		if err := c[0].Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c[1])
		if err != nil || string(got) != "last words" {
			t.Errorf("the other end read %q, %v", got, err)
		}
		if _, err := c[1].Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write to a closed pipe: %v", err)
		}
	}
	guest, host = signaltest.Pair(t, s.url, reg)
	_, _ = host.Write([]byte("last words"))
	_ = host.Close()
	if got, err := io.ReadAll(guest); err != nil || string(got) != "last words" {
		t.Errorf("the guest read %q, %v", got, err)
	}
	if _, err := host.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of a connection that was closed here: %v", err)
	}
}

func TestManyGuests(t *testing.T) {
	s := start(t, server.Config{})
	reg := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
	const guests = 40
	var wg sync.WaitGroup
	for range guests {
		wg.Go(func() {
			c, _, err := signal.Dial(signaltest.Context(t), s.url, reg.Info().Room, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			b := signaltest.RandomBytes(20_000)
			go func() { _, _ = c.Write(b) }()
			got := make([]byte, len(b))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, b) {
				t.Errorf("echo of %d bytes: %v", len(b), err)
			}
		})
		wg.Go(func() {
			c, err := reg.Accept(signaltest.Context(t))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		})
	}
	wg.Wait()
}

func TestRefusals(t *testing.T) {
	limits := server.Limits{Guests: 2}
	s := start(t, server.Config{Limits: limits, AllowHost: func(r signal.Room) bool { return r[0] != 0 || r[1] != 0 }})
	reg := signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
	room := reg.Info().Room

	if _, _, err := signal.Dial(signaltest.Context(t), s.url, signal.Room{1}, nil); !errors.Is(err, signal.ErrNoRoom) {
		t.Errorf("a room that nobody opened: %v", err)
	}
	signaltest.Dial(t, s.url, room, nil)
	guest := signaltest.Dial(t, s.url, room, nil)
	if _, _, err := signal.Dial(signaltest.Context(t), s.url, room, nil); !errors.Is(err, signal.ErrRoomFull) {
		t.Errorf("third guest of two: %v", err)
	}
	_ = guest.Close()
	waitFor(t, func() bool { return s.Stats().Guests == 1 })
	signaltest.Dial(t, s.url, room, nil) // there is a place again

	_ = reg.Close()
	waitFor(t, func() bool { return s.Stats().Rooms == 0 })
	if _, _, err := signal.Dial(signaltest.Context(t), s.url, room, nil); !errors.Is(err, signal.ErrNoRoom) {
		t.Errorf("a room whose host has left: %v", err)
	}
}

// waitFor waits for what another goroutine or the kernel is about to do.
func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAllowHost(t *testing.T) {
	mine := signaltest.NewKey(t)
	s := start(t, server.Config{AllowHost: func(r signal.Room) bool { return r == signaltest.RoomOf(mine) }})
	signaltest.Register(t, s.url, mine, nil)
	if _, err := signal.Register(signaltest.Context(t), s.url, signaltest.NewKey(t), nil); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("a stranger's room on an embedded server: %v", err)
	}
}

func TestReplaced(t *testing.T) {
	s := start(t, server.Config{})
	key := signaltest.NewKey(t)
	first := signaltest.Register(t, s.url, key, nil)
	guest, host := signaltest.Pair(t, s.url, first)
	second := signaltest.Register(t, s.url, key, nil)
	if _, err := first.Accept(signaltest.Context(t)); !errors.Is(err, signal.ErrReplaced) {
		t.Errorf("the first registration ended with %v", err)
	}
	if _, err := host.Read(make([]byte, 1)); !errors.Is(err, signal.ErrReplaced) {
		t.Errorf("the first host's pipe ended with %v", err)
	}
	var perr *signal.PipeError
	if _, err := guest.Read(make([]byte, 1)); !errors.As(err, &perr) || perr.Reason != signal.ReasonLost {
		t.Errorf("the guest's pipe ended with %v", err)
	}
	g, h := signaltest.Pair(t, s.url, second)
	signaltest.Exchange(t, g, h, []byte("hello"))
	if st := s.Stats(); st.Rooms != 1 {
		t.Errorf("%d rooms, want 1", st.Rooms)
	}
}

func TestHTTP(t *testing.T) {
	s := start(t, server.Config{})
	base := "http" + strings.TrimPrefix(s.url, "ws")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/", 200, "--signal " + s.url},
		{"/healthz", 200, "ok"},
		{"/v2/host", 404, "protocol v1"},
		{"/v1/host", 400, "protocol violated"}, // no WebSocket handshake
		{"/v1/join/xyz", 404, "no such room"},
	} {
		resp, err := client.Get(base + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.body) {
			t.Errorf("GET %s: %d %q, want %d with %q", c.path, resp.StatusCode, body, c.status, c.body)
		}
		if resp.Header.Get(signal.HeaderServer) != signal.Version {
			t.Errorf("GET %s: no %s header", c.path, signal.HeaderServer)
		}
	}
}

func TestBrowsersOfOtherSitesAreRefused(t *testing.T) {
	s := start(t, server.Config{})
	req, _ := http.NewRequest(http.MethodGet, "http"+strings.TrimPrefix(s.url, "ws")+signal.PathHost, nil)
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": signal.Subprotocol,
		"Origin": "https://evil.example",
	} {
		req.Header.Set(k, v)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", resp.StatusCode)
	}
}

// Behind a reverse proxy with a path of its own, and somebody else's HTTP server.
func TestPathPrefix(t *testing.T) {
	s := server.New(server.Config{})
	ts := httptest.NewServer(http.StripPrefix("/tools/signal", s))
	url := "ws" + strings.TrimPrefix(ts.URL, "http") + "/tools/signal/"
	reg := signaltest.Register(t, url, signaltest.NewKey(t), nil)
	guest, host := signaltest.Pair(t, url, reg)
	signaltest.Exchange(t, guest, host, []byte("hello"))
	if got := reg.Info().Server + "/"; got != url {
		t.Errorf("the server is %q to its host, want %q", got, url)
	}
	ts.Close() // does not know of connections that became WebSockets
	if err := s.Shutdown(signaltest.Context(t)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := reg.Accept(signaltest.Context(t)); !errors.Is(err, signal.ErrShuttingDown) {
		t.Errorf("the host was told %v", err)
	}
}
