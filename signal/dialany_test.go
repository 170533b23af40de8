package signal_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/signaltest"
)

func TestDialAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		empty, _ := startServer(t, n, "192.0.2.1")
		other, _ := startServer(t, n, "192.0.2.2")
		has, _ := startServer(t, n, "192.0.2.3")
		dead := "ws://192.0.2.99"
		hole := "ws://192.0.2.98" // accepts connections, never answers
		l := n.Listen("192.0.2.98:80")
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
		reg, err := signal.Register(t.Context(), has, signaltest.NewKey(t), from(n, "192.0.2.9"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reg.Close() }()
		go func() { // a host that takes no notice of guests that change their mind
			for {
				if _, err := reg.Accept(t.Context()); err != nil {
					return
				}
			}
		}()

		for name, c := range map[string]struct {
			urls []string
			took time.Duration
		}{
			"only":              {[]string{has}, 0},
			"first":             {[]string{has, dead, empty}, 0},
			"after a dead one":  {[]string{dead, has}, 0},
			"after empty ones":  {[]string{empty, other, has}, 0},
			"after a slow one":  {[]string{hole, has}, 150 * time.Millisecond},
			"after slow ones":   {[]string{hole, hole, has}, 300 * time.Millisecond},
			"with a broken URL": {[]string{"://", has}, 0},
			"twice":             {[]string{has, has}, 0},
		} {
			start := time.Now()
			conn, info, err := signal.DialAny(t.Context(), c.urls, reg.Info().Room, from(n, "192.0.2.10"))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if d := time.Since(start); d != c.took || info.Server != has {
				t.Errorf("%s: %s after %v", name, info.Server, d)
			}
			_ = conn.Close()
		}

		_, _, err = signal.DialAny(t.Context(), []string{dead, empty, hole}, reg.Info().Room, from(n, "192.0.2.10"))
		var failed *signal.DialError
		if !errors.As(err, &failed) || len(failed.Attempts) != 3 {
			t.Fatalf("nowhere: %v", err)
		}
		if best := failed.Best(); best.URL != empty || !errors.Is(best, signal.ErrNoRoom) {
			t.Errorf("the attempt that tells most: %v", best)
		}
		if !errors.Is(err, signal.ErrNoRoom) || !errors.Is(err, signal.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("what happened is not all in %v", err)
		}
		if s := err.Error(); !strings.Contains(s, dead) || !strings.Contains(s, empty) || !strings.Contains(s, hole) {
			t.Errorf("not all URLs are in %q", s)
		}

		if _, _, err := signal.DialAny(t.Context(), nil, signal.Room{}, nil); !errors.As(err, &failed) || failed.Best() != nil {
			t.Errorf("no URLs: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, _, err := signal.DialAny(ctx, []string{hole, hole}, signal.Room{}, from(n, "192.0.2.10")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled: %v", err)
		}
		if d := time.Since(start); d != 100*time.Millisecond {
			t.Errorf("cancelled after %v", d)
		}
	})
}

// Two servers that both have the room: one is taken, the other let go.
func TestDialAnyTakesOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Net)
		a, _ := startServer(t, n, "192.0.2.1")
		b, _ := startServer(t, n, "192.0.2.2")
		key := signaltest.NewKey(t)
		var conns []net.Conn
		l, run := listen(t, n, key, []string{a, b}, nil)
		defer run()
		for range 5 {
			guest, _, err := signal.DialAny(t.Context(), []string{a, b}, signaltest.RoomOf(key), from(n, "192.0.2.10"))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, guest)
			host, err := l.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(host, host) }()
			_, _ = guest.Write([]byte("hello"))
			if _, err := io.ReadFull(guest, make([]byte, 5)); err != nil {
				t.Error(err)
			}
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
}
