package cluster_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/server/cluster"
	"github.com/pairterm/pairterm/signal/signaltest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childEnv); url != "" {
		serveChild(url)
		return
	}
	goleak.VerifyTestMain(m)
}

// natsOn is a real NATS server on loopback, until the test ends. Port -1 is one
// that is free.
func natsOn(t testing.TB, opts natsserver.Options) *natsserver.Server {
	t.Helper()
	opts.Host, opts.NoLog, opts.NoSigs = "127.0.0.1", true, true
	s, err := natsserver.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func startNATS(t testing.TB) *natsserver.Server {
	t.Helper()
	return natsOn(t, natsserver.Options{Port: -1})
}

var testSecret = []byte("a secret of this test alone")

// replica is a signaling server that is part of a cluster.
type replica struct {
	*server.Server
	cluster *cluster.Cluster
	url     string
	log     *logBuffer
	stop    func() // ends it in good order
}

func start(t testing.TB, natsURL string, limits server.Limits) *replica {
	t.Helper()
	return startWith(t, optionsFor(natsURL), server.Config{Limits: limits})
}

func optionsFor(natsURL string) cluster.Options {
	return cluster.Options{NATS: cluster.NATS{URLs: []string{natsURL}}, Secret: testSecret}
}

func startWith(t testing.TB, opts cluster.Options, config server.Config) *replica {
	t.Helper()
	r := &replica{log: new(logBuffer)}
	opts.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.cluster, err = cluster.New(opts); err != nil {
		t.Fatal(err)
	}
	config.Cluster = r.cluster
	r.Server = server.New(config)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "ws://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	leave, left := context.WithCancel(context.Background())
	served, gone := make(chan error, 1), make(chan error, 1)
	go func() { served <- r.Run(ctx, l) }()
	go func() { gone <- r.cluster.Run(leave) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("server: %v", err)
		}
		left()
		if err := <-gone; err != nil {
			t.Errorf("cluster: %v", err)
		}
	})
	t.Cleanup(func() {
		r.stop()
		st := r.Stats()
		if st.Connections != 0 || st.Rooms != 0 || st.Guests != 0 || st.QueuedBytes != 0 || st.Cluster.Pipes != 0 {
			t.Errorf("left behind: %+v %+v", st, st.Cluster)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", r.url, r.log)
		}
	})
	return r
}

// three replicas that know of each other.
func three(t testing.TB, natsURL string, limits server.Limits) []*replica {
	t.Helper()
	rs := []*replica{start(t, natsURL, limits), start(t, natsURL, limits), start(t, natsURL, limits)}
	for _, r := range rs {
		waitFor(t, func() bool { return r.cluster.Stats().Peers == 2 })
	}
	return rs
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) has(s string) bool { return strings.Contains(l.String(), s) }

// waitFor waits for what another goroutine or the kernel is about to do.
func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		time.Sleep(time.Millisecond)
	}
}

func register(t testing.TB, r *replica, key ed25519.PrivateKey) *signal.Registration {
	t.Helper()
	return signaltest.Register(t, r.url, key, nil)
}

func dial(t testing.TB, r *replica, room signal.Room) net.Conn {
	t.Helper()
	return signaltest.Dial(t, r.url, room, nil)
}

// pair is a guest's pipe and the host's end of it.
func pair(t testing.TB, r *replica, reg *signal.Registration) (guest, host net.Conn) {
	t.Helper()
	return signaltest.Pair(t, r.url, reg)
}

func isPipeError(err error, reason signal.Reason) bool {
	var perr *signal.PipeError
	return errors.As(err, &perr) && perr.Reason == reason
}

// A host at one replica and a guest at another meet, whichever they are.
func TestMeet(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{})
	for i, at := range rs {
		reg := register(t, at, signaltest.NewKey(t))
		for j, from := range rs {
			guest, host := pair(t, from, reg)
			for _, n := range []int{1, 1000, signal.MaxPayload, signal.MaxPayload + 1, 60_000} {
				signaltest.Exchange(t, guest, host, signaltest.RandomBytes(n))
				signaltest.Exchange(t, host, guest, signaltest.RandomBytes(n))
			}
			if a, ok := host.RemoteAddr().(signal.Addr); !ok || a.Pipe != uint32(j+1) || a.Source == 0 {
				t.Errorf("%d from %d: the guest's address is %#v", i, j, host.RemoteAddr())
			}

			// What is written before a close arrives, then the end.
			for _, c := range [][2]net.Conn{{guest, host}} {
				if _, err := c[0].Write([]byte("last words")); err != nil {
					t.Fatal(err)
				}
				_ = c[0].Close()
				if got, err := io.ReadAll(c[1]); err != nil || string(got) != "last words" {
					t.Errorf("%d from %d: the other end read %q, %v", i, j, got, err)
				}
			}
		}
		guest, host := pair(t, rs[(i+1)%3], reg)
		_, _ = host.Write([]byte("last words"))
		_ = host.Close()
		if got, err := io.ReadAll(guest); err != nil || string(got) != "last words" {
			t.Errorf("the guest read %q, %v", got, err)
		}
	}
	for _, r := range rs {
		if _, _, err := signal.Dial(signaltest.Context(t), r.url, signal.Room{1}, nil); !errors.Is(err, signal.ErrNoRoom) {
			t.Errorf("a room that nobody opened: %v", err)
		}
	}
}

// A crowd of guests at all replicas, with hosts at all of them: everybody meets
// whom they came for, and nothing is lost between replicas.
func TestCrowd(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), roomy())
	var hosts, guests sync.WaitGroup
	defer hosts.Wait()
	rooms := make([]signal.Room, 9)
	for i := range rooms {
		reg := register(t, rs[i%3], signaltest.NewKey(t))
		rooms[i] = reg.Info().Room
		hosts.Go(func() { signaltest.Echo(context.Background(), reg) })
		defer func() { _ = reg.Close() }()
	}
	places := make(chan struct{}, 32)
	for i := range 600 {
		places <- struct{}{}
		guests.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := signaltest.Meet(ctx, rooms[i%9], signaltest.RandomBytes(10_000), rs[i/9%3].url); err != nil {
				t.Errorf("guest %d: %v", i, err)
			}
		})
	}
	guests.Wait()
	for _, r := range rs {
		st := r.cluster.Stats()
		for why, n := range st.Refused {
			if n != 0 {
				t.Errorf("%d messages were thrown away: %s", n, why)
			}
		}
		if st.Joins["found"] == 0 || st.Lost != 0 {
			t.Errorf("found %d, lost %d", st.Joins["found"], st.Lost)
		}
	}
}
