package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// Pipes may finish what they have begun; hosts are told at once, and when to
// come back.
func TestShutdownLetsPipesFinish(t *testing.T) {
	inBubble(t, server.Config{}, func(t *testing.T, n *memnet.Net, s *testServer) {
		idle := signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		busy := signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		guest := signaltest.Dial(t, s.url, busy.Info().Room, from(n, "192.0.2.10"))
		host := signaltest.Accept(t, busy)

		start := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- s.stop() }()
		synctest.Wait()

		var byes [2]*signal.GoodbyeError
		for i, reg := range []*signal.Registration{idle, busy} {
			_, err := reg.Accept(t.Context())
			if !errors.As(err, &byes[i]) || !errors.Is(err, signal.ErrShuttingDown) {
				t.Fatalf("a host was told %v", err)
			}
			if byes[i].Retry < time.Second || byes[i].Retry > 2100*time.Millisecond {
				t.Errorf("a host is to come back in %v", byes[i].Retry)
			}
		}
		if _, _, err := signal.Dial(t.Context(), s.url, busy.Info().Room, from(n, "192.0.2.11")); !errors.Is(err, signal.ErrUnreachable) {
			t.Errorf("a new guest: %v", err) // the listener is closed
		}
		select {
		case <-idle.Done():
		default:
			t.Error("a host without guests is still connected")
		}
		time.Sleep(time.Second)
		signaltest.Exchange(t, guest, host, []byte("still here"))
		signaltest.Exchange(t, host, guest, []byte("so am I"))
		_ = guest.Close()
		if _, err := host.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the host's pipe ended with %v", err)
		}
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("the server went on for %v after the last pipe had ended", d-time.Second)
		}
	})
}

func TestShutdownCutsWhatDoesNotFinish(t *testing.T) {
	inBubble(t, server.Config{}, func(t *testing.T, n *memnet.Net, s *testServer) {
		reg := signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		guest := signaltest.Dial(t, s.url, reg.Info().Room, from(n, "192.0.2.10"))
		// A client in the middle of its handshake is nobody to wait for.
		half, err := n.DialFrom("192.0.2.9")(t.Context(), "tcp", memAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = half.Close() }()
		start := time.Now()
		if err := s.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(start); d < 3*time.Second || d > 5*time.Second {
			t.Errorf("Run ended after %v, want 3s", d)
		}
		if _, err := guest.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonShutdown) {
			t.Errorf("the guest was told %v", err)
		}
	})
}

// Without its own listener the server still refuses politely, and Shutdown
// ends within its context.
func TestShutdownOfAHandler(t *testing.T) {
	inBubble(t, server.Config{Limits: server.Limits{Drain: time.Hour}}, func(t *testing.T, n *memnet.Net, s *testServer) {
		reg := signaltest.Register(t, s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		signaltest.Dial(t, s.url, reg.Info().Room, from(n, "192.0.2.10"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		shut := make(chan error, 1)
		go func() { shut <- s.Shutdown(ctx) }()
		synctest.Wait()

		_, err := signal.Register(t.Context(), s.url, signaltest.NewKey(t), from(n, "192.0.2.9"))
		var bye *signal.GoodbyeError
		if !errors.As(err, &bye) || bye.Code != signal.CodeShuttingDown || bye.Retry == 0 {
			t.Errorf("a new host was told %v", err)
		}
		tr := &http.Transport{DialContext: n.DialFrom("192.0.2.9"), DisableKeepAlives: true}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://192.0.2.1/healthz", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("healthz says %d", resp.StatusCode)
		}
		if err := <-shut; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown returned %v", err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown: %v", err)
		}
	})
}

func TestRunReportsALostListener(t *testing.T) {
	l, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := server.New(server.Config{}).Run(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if _, err := server.Listen(t.Context(), "300.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "300.0.0.1") {
		t.Errorf("Listen: %v", err)
	}
}

func TestTLS(t *testing.T) {
	l, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "wss://" + l.Addr().String()
	startOn(t, server.Config{TLS: testTLS().server}, l, url)
	opts := &signal.Options{TLS: testTLS().client}
	reg := signaltest.Register(t, url, signaltest.NewKey(t), opts)
	guest := signaltest.Dial(t, url, reg.Info().Room, opts)
	signaltest.Exchange(t, guest, signaltest.Accept(t, reg), signaltest.RandomBytes(30_000))

	if _, err := signal.Register(signaltest.Context(t), url, signaltest.NewKey(t), nil); !errors.Is(err, signal.ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate that nobody vouches for: %v", err)
	}
	if _, err := signal.Register(signaltest.Context(t), "ws://"+l.Addr().String(), signaltest.NewKey(t), nil); !errors.Is(err, signal.ErrNotASignalServer) {
		t.Errorf("without TLS: %v", err)
	}
}
