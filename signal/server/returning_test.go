package server_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// Guests who come after a restart, and before their hosts, need not know.
func TestReturningHosts(t *testing.T) {
	inBubble(t, server.Config{Returning: 5 * time.Second}, func(t *testing.T, n *memnet.Net, s *testServer) {
		start := time.Now()
		type outcome struct {
			err  error
			at   time.Duration
			name string
		}
		outcomes := make(chan outcome, 10)
		knock := func(ctx context.Context, name string, room signal.Room) {
			go func() {
				c, _, err := signal.Dial(ctx, s.url, room, from(n, "192.0.2.10"))
				outcomes <- outcome{err, time.Since(start), name}
				if err == nil {
					_ = c.Close()
				}
			}()
		}
		expect := func(want string, at time.Duration, err error) {
			t.Helper()
			o := <-outcomes
			if o.name != want || o.at != at || !errors.Is(o.err, err) {
				t.Errorf("%s after %v: %v; want %s after %v: %v", o.name, o.at, o.err, want, at, err)
			}
		}
		key := signaltest.NewKey(t)
		knock(t.Context(), "of one who comes", signaltest.RoomOf(key))
		knock(t.Context(), "of nobody", signaltest.RoomOf(signaltest.NewKey(t)))
		impatient, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		knock(impatient, "impatient", signaltest.RoomOf(key))

		expect("impatient", time.Second, context.DeadlineExceeded)
		time.Sleep(time.Second)
		reg := signaltest.Register(t, s.url, key, from(n, "192.0.2.9"))
		expect("of one who comes", 2*time.Second, nil)
		_ = signaltest.Accept(t, reg).Close()
		expect("of nobody", 5*time.Second, signal.ErrNoRoom)
		knock(t.Context(), "of nobody, later", signaltest.RoomOf(signaltest.NewKey(t)))
		expect("of nobody, later", 5*time.Second, signal.ErrNoRoom)
	})
}

// Whoever waits for a host does not keep the server from ending.
func TestReturningHostsAndShutdown(t *testing.T) {
	inBubble(t, server.Config{Returning: 5 * time.Second}, func(t *testing.T, n *memnet.Net, s *testServer) {
		start := time.Now()
		told := make(chan error, 1)
		go func() {
			_, _, err := signal.Dial(t.Context(), s.url, signaltest.RoomOf(signaltest.NewKey(t)), from(n, "192.0.2.10"))
			told <- err
		}()
		synctest.Wait()
		if err := s.stop(); err != nil || time.Since(start) != 0 {
			t.Errorf("Run ended after %v: %v", time.Since(start), err)
		}
		if err := <-told; !errors.Is(err, signal.ErrShuttingDown) {
			t.Errorf("the guest was told %v", err)
		}
	})
}
