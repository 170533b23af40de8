package cluster_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/server/cluster"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// What a replica in a process of its own is told by its environment: where NATS
// is, and what to listen on.
const (
	childEnv  = "PAIRTERM_TEST_CLUSTER_NATS"
	listenEnv = "PAIRTERM_TEST_CLUSTER_LISTEN"
)

// serveChild is a replica until standard input ends. To every line it answers how
// many bytes of heap and stacks it uses.
func serveChild(natsURL string) {
	l, err := net.Listen("tcp", os.Getenv(listenEnv))
	if err != nil {
		panic(err)
	}
	c, err := cluster.New(optionsFor(natsURL))
	if err != nil {
		panic(err)
	}
	s := server.New(server.Config{Cluster: c, Limits: roomy()})
	ctx, cancel := context.WithCancel(context.Background())
	leave, left := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx, l) })
	wg.Go(func() { _ = c.Run(leave) })
	for !c.Ready() {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(m.HeapInuse + m.StackInuse)
	}
	cancel()
	left()
	wg.Wait()
}

// roomy are limits that do not get in the way of clients that all have one
// address.
func roomy() server.Limits {
	return server.Limits{
		AddressConnections: 1 << 20,
		AddressRate:        server.Rate{PerSecond: 1e9, Burst: 1e9},
		RoomRate:           server.Rate{PerSecond: 1e9, Burst: 1e9},
		Guests:             1 << 14,
		AddressGuests:      1 << 14,
	}
}

// child is a replica in a process of its own.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	url string
}

// startChild starts one, at an address that may be that of one that is gone.
func startChild(t testing.TB, natsURL, listen string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+natsURL, listenEnv+"="+listen)
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.end(syscall.SIGKILL) })
	c.out = bufio.NewReader(out)
	line, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the replica does not start: %v", err)
	}
	c.url = "ws://" + strings.TrimSpace(line)
	return c
}

// end sends a signal and waits for the end.
func (c *child) end(sig syscall.Signal) {
	if c.cmd.ProcessState != nil {
		return
	}
	_ = c.cmd.Process.Signal(sig)
	_ = c.cmd.Wait()
	_ = c.in.Close()
}

func (c *child) addr() string { return strings.TrimPrefix(c.url, "ws://") }

// Three replicas are killed one after another, each started again before the
// next, while guests join all the time and wherever there is somebody. A host
// that was at the one that died is back at another at once. No guest whose own
// replica lives finds no host.
func TestKilledOneAfterAnother(t *testing.T) {
	t.Parallel()
	nats := startNATS(t).ClientURL()
	rs := []*child{startChild(t, nats, "127.0.0.1:0"), startChild(t, nats, "127.0.0.1:0"), startChild(t, nats, "127.0.0.1:0")}
	urls := []string{rs[0].url, rs[1].url, rs[2].url}

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	const hosts = 6
	var rooms [hosts]signal.Room
	for i := range rooms {
		key := signaltest.NewKey(t)
		rooms[i] = signal.RoomOf(signal.Pin(key.Public().(ed25519.PublicKey)))
		l, err := signal.NewListener(key, urls, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = l.Run(ctx) })
		if err := l.WaitRegistered(signaltest.Context(t)); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { signaltest.Echo(ctx, l) })
	}
	meet := func(room signal.Room, urls ...string) error {
		return signaltest.Meet(ctx, room, []byte("hello"), urls...)
	}
	met := 0
	for round := range 6 {
		dead := round % 3
		var guests sync.WaitGroup
		var mu sync.Mutex
		for i := range 12 {
			guests.Go(func() {
				// Two replicas are there all the time. What is begun with a host that
				// is about to move may break, and guests know what to do then: once for
				// the replica that dies, and once more because its hosts come back to both
				// of the others and choose the later one.
				room, a, b := rooms[i%hosts], urls[(dead+1+i%2)%3], urls[(dead+2-i%2)%3]
				err := meet(room, a, b)
				for range 2 {
					if perr := (*signal.PipeError)(nil); errors.As(err, &perr) {
						err = meet(room, a, b)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("round %d, guest %d: %v", round, i, err)
				} else {
					met++
				}
			})
			if i == 5 {
				rs[dead].end(syscall.SIGKILL)
			}
		}
		guests.Wait()
		rs[dead] = startChild(t, nats, rs[dead].addr())
	}
	t.Logf("%d guests met their hosts", met)
}

// NATS dies and comes back while everybody is at work; so does a replica.
func TestNATSKilledDuringJoins(t *testing.T) {
	t.Parallel()
	s := natsOn(t, natsserver.Options{Port: -1})
	port := s.Addr().(*net.TCPAddr).Port
	rs := three(t, s.ClientURL(), roomy())
	reg := register(t, rs[0], signaltest.NewKey(t))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = reg.Close() }()
	wg.Go(func() { signaltest.Echo(context.Background(), reg) })
	join := func(r *replica) error {
		return signaltest.Meet(signaltest.Context(t), reg.Info().Room, []byte("hello"), r.url)
	}
	for range 3 {
		var guests sync.WaitGroup
		for i := range 30 {
			guests.Go(func() {
				if err := join(rs[i%3]); err != nil && i%3 == 0 {
					t.Errorf("a guest at its host's replica: %v", err)
				}
			})
			if i == 15 {
				s.Shutdown()
				s.WaitForShutdown()
			}
		}
		guests.Wait()
		s = natsOn(t, natsserver.Options{Port: port})
		for _, r := range rs {
			waitFor(t, func() bool { return r.cluster.Ready() && r.cluster.Stats().Peers == 2 })
		}
		for _, r := range rs {
			if err := join(r); err != nil {
				t.Errorf("a guest when NATS is back: %v", err)
			}
		}
	}
}
