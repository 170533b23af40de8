//go:build unix

package cluster_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// Pipes to a replica that is killed end at once if anybody says something, and
// soon if nobody does; also if it is only stopped, and NATS takes it for alive.
func TestHalfOpenPipes(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			nats := startNATS(t).ClientURL()
			a := start(t, nats, server.Limits{})
			b := startChild(t, nats, "127.0.0.1:0")
			waitFor(t, func() bool { return a.cluster.Stats().Peers == 1 })
			here := register(t, a, signaltest.NewKey(t))
			there, err := signal.Register(signaltest.Context(t), b.url, signaltest.NewKey(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = there.Close() }()
			guestOf := func(reg *signal.Registration, url string) (g, h net.Conn) {
				t.Helper()
				g, _, err := signal.Dial(signaltest.Context(t), url, reg.Info().Room, nil)
				if err != nil {
					t.Fatal(err)
				}
				if h, err = reg.Accept(signaltest.Context(t)); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _, _ = g.Close(), h.Close() })
				signaltest.Exchange(t, g, h, []byte("hello"))
				return g, h
			}
			_, h := guestOf(here, b.url)
			g, _ := guestOf(there, a.url)

			b.signal(sig)
			for _, c := range []net.Conn{h, g} {
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := c.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonLost) {
					t.Errorf("the pipe ended with %v", err)
				}
			}
			if st := a.Stats(); st.Guests != 0 || st.Cluster.Pipes != 0 || st.Cluster.Lost != 1 {
				t.Errorf("left behind: %+v %+v", st, st.Cluster)
			}
			b.end(syscall.SIGKILL)
		})
	}
}

// signal sends a signal.
func (c *child) signal(sig syscall.Signal) {
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}
