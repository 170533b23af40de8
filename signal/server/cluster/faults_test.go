package cluster_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/server/cluster"
	"github.com/pairterm/pairterm/signal/signaltest"
)

func readyz(t *testing.T, r *replica) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http" + strings.TrimPrefix(r.url, "ws") + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Without NATS every replica serves its own rooms, and says that it is cut off.
// When NATS is back, everything is as before; who registered meanwhile has
// the room.
func TestNATSGoneAndBack(t *testing.T) {
	t.Parallel()
	first := startNATS(t)
	port := first.Addr().(*net.TCPAddr).Port
	rs := three(t, first.ClientURL(), server.Limits{})
	stays, moves := signaltest.NewKey(t), signaltest.NewKey(t)
	reg, old := register(t, rs[0], stays), register(t, rs[0], moves)
	room := reg.Info().Room
	localGuest, localHost := pair(t, rs[0], reg)
	awayGuest, awayHost := pair(t, rs[1], reg)
	for _, r := range rs {
		if got := readyz(t, r); got != "ok" {
			t.Errorf("/readyz says %q", got)
		}
	}

	first.Shutdown()
	first.WaitForShutdown()
	for _, r := range rs {
		waitFor(t, func() bool { return !r.cluster.Ready() })
		if got := readyz(t, r); got != "cut off from the other servers" {
			t.Errorf("/readyz says %q", got)
		}
		if !r.log.has("connection to NATS lost") {
			t.Error("the log does not say that the connection to NATS is lost")
		}
	}
	for _, c := range []io.Reader{awayGuest, awayHost} {
		if _, err := c.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonLost) {
			t.Errorf("a pipe between replicas ended with %v", err)
		}
	}
	signaltest.Exchange(t, localGuest, localHost, []byte("still here"))
	signaltest.Exchange(t, localHost, localGuest, []byte("so am I"))
	g, h := pair(t, rs[0], reg)
	signaltest.Exchange(t, g, h, []byte("a new one"))
	if _, _, err := signal.Dial(signaltest.Context(t), rs[1].url, room, nil); !errors.Is(err, signal.ErrDetached) {
		t.Errorf("a guest whose host may be elsewhere: %v", err)
	}
	// A host comes to another replica; the one that it was at cannot know.
	fresh := register(t, rs[1], moves)
	alone := register(t, rs[2], signaltest.NewKey(t))

	natsOn(t, natsserver.Options{Port: port})
	for _, r := range rs {
		waitFor(t, func() bool { return r.cluster.Ready() && r.cluster.Stats().Peers == 2 })
		if got := readyz(t, r); got != "ok" {
			t.Errorf("/readyz says %q", got)
		}
	}
	if _, err := old.Accept(signaltest.Context(t)); !errors.Is(err, signal.ErrReplaced) {
		t.Errorf("the registration from before ended with %v", err)
	}
	for _, r := range rs {
		for _, reg := range []*signal.Registration{reg, fresh, alone} {
			g, h := pair(t, r, reg)
			signaltest.Exchange(t, g, h, []byte("hello"))
		}
	}
	signaltest.Exchange(t, localGuest, localHost, []byte("still here"))
}

// A replica that starts before NATS does serves what it can.
func TestNATSComesLater(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	url := nats.ClientURL()
	port := nats.Addr().(*net.TCPAddr).Port
	nats.Shutdown()
	nats.WaitForShutdown()

	a, b := start(t, url, server.Limits{}), start(t, url, server.Limits{})
	reg := register(t, a, signaltest.NewKey(t))
	g, h := pair(t, a, reg)
	signaltest.Exchange(t, g, h, []byte("hello"))
	if got := readyz(t, b); got != "cut off from the other servers" {
		t.Errorf("/readyz says %q", got)
	}
	waitFor(t, func() bool { return b.log.has("cannot connect to NATS") })

	natsOn(t, natsserver.Options{Port: port})
	waitFor(t, func() bool { return a.cluster.Stats().Peers == 1 && b.cluster.Stats().Peers == 1 })
	g, h = pair(t, b, reg)
	signaltest.Exchange(t, g, h, []byte("hello"))
}

// Whoever else is in NATS can say what he likes: he is nobody.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	nats1 := startNATS(t)
	rs := three(t, nats1.ClientURL(), server.Limits{})
	reg := register(t, rs[0], signaltest.NewKey(t))

	evil, err := nats.Connect(nats1.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer evil.Close()
	heard := make(chan *nats.Msg, 10_000)
	if _, err := evil.ChanSubscribe(">", heard); err != nil {
		t.Fatal(err)
	}
	if err := evil.Flush(); err != nil {
		t.Fatal(err)
	}
	guest, host := pair(t, rs[1], reg)
	signaltest.Exchange(t, guest, host, []byte("a word that nobody else hears"))
	signaltest.Exchange(t, host, guest, []byte("nor the answer that is sent"))

	// Everything that he has heard, once more, elsewhere, damaged, and garbage.
	var subjects []string
	var said []*nats.Msg
	ofAPipe := 0 // join, accept, open twice, and two words
	for ofAPipe < 6 {
		select {
		case m := <-heard:
			said = append(said, m)
			subjects = append(subjects, m.Subject)
			if !strings.HasSuffix(m.Subject, ".beat") {
				ofAPipe++
			}
			if strings.Contains(string(m.Data), "nobody else hears") || strings.Contains(m.Subject, reg.Info().Room.String()) {
				t.Errorf("%s shows what it must not: %q", m.Subject, m.Data)
			}
		case <-signaltest.Context(t).Done():
			t.Fatalf("he has heard %d messages of a pipe, want 6", ofAPipe)
		}
	}
	for _, m := range said {
		publish := func(subject string, b []byte) {
			if err := evil.Publish(subject, b); err != nil {
				t.Fatal(err)
			}
		}
		publish(m.Subject, m.Data)
		publish(m.Subject, m.Data[:len(m.Data)/2])
		publish(m.Subject, append([]byte{1}, m.Data...))
		publish(m.Subject, nil)
		publish(m.Subject, signaltest.RandomBytes(100))
		publish(m.Subject, make([]byte, 100_000))
		for _, s := range subjects {
			publish(s, m.Data)
		}
	}
	if err := evil.Flush(); err != nil {
		t.Fatal(err)
	}
	// He has claimed the room, joined it, opened and closed its pipes.
	waitFor(t, func() bool {
		r := rs[0].cluster.Stats().Refused
		return r["forged"] > 0 && r["replayed"] > 0
	})
	signaltest.Exchange(t, guest, host, []byte("hello"))
	signaltest.Exchange(t, host, guest, []byte("hello"))
	for _, r := range rs {
		g, h := pair(t, r, reg)
		signaltest.Exchange(t, g, h, []byte("hello"))
	}
	if !rs[0].log.has("somebody without this cluster's secret") {
		t.Error("the log says nothing of it")
	}
	if n := rs[0].cluster.Stats().Pipes; n != 3 {
		t.Errorf("the host's replica has %d pipes to others, want 3", n)
	}
}

// A replica with another secret is not one.
func TestOtherSecret(t *testing.T) {
	t.Parallel()
	url := startNATS(t).ClientURL()
	a := start(t, url, server.Limits{})
	o := optionsFor(url)
	o.Secret = []byte("another secret")
	b := startWith(t, o, server.Config{})
	waitFor(t, func() bool { return a.cluster.Ready() && b.cluster.Ready() })
	reg := register(t, a, signaltest.NewKey(t))
	if _, _, err := signal.Dial(signaltest.Context(t), b.url, reg.Info().Room, nil); !errors.Is(err, signal.ErrNoRoom) {
		t.Errorf("a guest at a replica with another secret: %v", err)
	}
	waitFor(t, func() bool { return a.log.has("another --nats-secret-file") && b.log.has("another --nats-secret-file") })
	if a.cluster.Stats().Peers+b.cluster.Stats().Peers != 0 {
		t.Error("they count as replicas of one cluster")
	}
}

// Two clusters of other names in one NATS do not meet.
func TestOtherName(t *testing.T) {
	t.Parallel()
	url := startNATS(t).ClientURL()
	a := start(t, url, server.Limits{})
	o := optionsFor(url)
	o.Name = "staging"
	b := startWith(t, o, server.Config{})
	waitFor(t, func() bool { return a.cluster.Ready() && b.cluster.Ready() })
	reg := register(t, a, signaltest.NewKey(t))
	if _, _, err := signal.Dial(signaltest.Context(t), b.url, reg.Info().Room, nil); !errors.Is(err, signal.ErrNoRoom) {
		t.Errorf("a guest at a replica of another cluster: %v", err)
	}
	if st := b.cluster.Stats(); st.Refused["forged"] != 0 || st.Peers != 0 {
		t.Errorf("it heard of the other cluster: %+v", st)
	}
}

// A replica that shuts down lets its pipes to others finish, whichever end it
// has; its hosts are told to come back soon, since others take them.
func TestShutdown(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{Spread: 4 * time.Second, Drain: 10 * time.Second})
	hostHere, hostThere := register(t, rs[0], signaltest.NewKey(t)), register(t, rs[1], signaltest.NewKey(t))
	g1, h1 := pair(t, rs[1], hostHere)
	g2, h2 := pair(t, rs[0], hostThere)
	var wg sync.WaitGroup
	wg.Go(rs[0].stop)
	_, err := hostHere.Accept(signaltest.Context(t))
	var bye *signal.GoodbyeError
	if !errors.As(err, &bye) || !errors.Is(err, signal.ErrShuttingDown) || bye.Retry > time.Second {
		t.Errorf("the host was told %v, to come back in %v", err, bye.Retry)
	}
	for _, p := range [][2]io.ReadWriteCloser{{g1, h1}, {g2, h2}} {
		for i := range 2 {
			if _, err := p[i].Write([]byte("last words")); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(p[1-i], make([]byte, 10)); err != nil {
				t.Error(err)
			}
		}
		_ = p[0].Close()
		if _, err := p[1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the pipe ended with %v", err)
		}
	}
	wg.Wait()
	for _, r := range rs[1:] {
		waitFor(t, func() bool { return r.log.has("replica is leaving") })
		if r.log.has("replica lost") {
			t.Error("a replica that has left counts as lost")
		}
	}
	g, h := pair(t, rs[2], hostThere)
	signaltest.Exchange(t, g, h, []byte("hello"))
}

// Pipes that do not finish are ended.
func TestShutdownCuts(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{Drain: 100 * time.Millisecond})
	hostHere, hostThere := register(t, rs[0], signaltest.NewKey(t)), register(t, rs[1], signaltest.NewKey(t))
	g1, _ := pair(t, rs[1], hostHere)
	_, h2 := pair(t, rs[0], hostThere)
	rs[0].stop()
	for _, c := range []io.Reader{g1, h2} {
		if _, err := c.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonShutdown) {
			t.Errorf("the other end was told %v", err)
		}
	}
}

// While a host is on its way from one replica to another its guests wait.
func TestGuestWaitsForHost(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{})
	key := signaltest.NewKey(t)
	room := signal.RoomOf(signal.Pin(key.Public().(ed25519.PublicKey)))
	register(t, rs[0], key)
	rs[0].stop()
	met := make(chan error, 1)
	go func() {
		c, _, err := signal.Dial(signaltest.Context(t), rs[1].url, room, nil)
		if err == nil {
			_ = c.Close()
		}
		met <- err
	}()
	waitFor(t, func() bool { return rs[1].Stats().Connections == 1 }) // it waits
	register(t, rs[2], key)
	if err := <-met; err != nil {
		t.Errorf("the guest: %v", err)
	}
	// Not for ever, and not those who know of no room.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, _, err := signal.Dial(ctx, rs[1].url, signal.Room{1}, &signal.Options{Timeout: 20 * time.Second}); !errors.Is(err, signal.ErrNoRoom) {
		t.Errorf("a room that nobody opens: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []cluster.NATS{
		{},
		{URLs: []string{"http://127.0.0.1"}},
		{URLs: []string{"nats://127.0.0.1"}, CredsFile: "missing"},
		{URLs: []string{"nats://127.0.0.1"}, NKeyFile: "missing"},
		{URLs: []string{"nats://127.0.0.1"}, CAFile: "missing"},
		{URLs: []string{"nats://127.0.0.1"}, CAFile: "faults_test.go"},
		{URLs: []string{"nats://127.0.0.1"}, CertFile: "missing", KeyFile: "missing"},
		{URLs: []string{"nats://127.0.0.1"}, User: "u", Password: func() (string, error) { return "", errors.New("no") }},
	} {
		if err := o.Check(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := cluster.New(cluster.Options{Name: "a.b"}); err == nil {
		t.Error("a name that is no token is taken")
	}
}

// hanging is a way to NATS that can be made to swallow everything.
type hanging struct {
	l    net.Listener
	hang atomic.Bool

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func newHanging(t *testing.T, to string) *hanging {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hanging{l: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			h.mu.Lock()
			h.conns = append(h.conns, c, s)
			h.mu.Unlock()
			wg.Go(func() { h.pass(c, s) })
			wg.Go(func() { h.pass(s, c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.cut()
		wg.Wait()
	})
	return h
}

func (h *hanging) pass(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			_ = to.Close()
			return
		}
		if !h.hang.Load() {
			_, _ = to.Write(b[:n])
		}
	}
}

func (h *hanging) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		_ = c.Close()
	}
	h.conns = nil
}

// A NATS that hangs is as one that is gone: it is noticed, and local rooms go on,
// new ones included.
func TestNATSHangs(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	way := newHanging(t, s.Addr().String())
	a, b := start(t, "nats://"+way.l.Addr().String(), server.Limits{}), start(t, s.ClientURL(), server.Limits{})
	waitFor(t, func() bool { return a.cluster.Stats().Peers == 1 && b.cluster.Stats().Peers == 1 })
	reg := register(t, a, signaltest.NewKey(t))
	guest, host := pair(t, b, reg)

	way.hang.Store(true)
	local := register(t, a, signaltest.NewKey(t))
	g, h := pair(t, a, local)
	signaltest.Exchange(t, g, h, []byte("hello"))
	for _, c := range []net.Conn{guest, host} {
		if _, err := c.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonLost) {
			t.Errorf("a pipe over NATS ended with %v", err)
		}
	}
	waitFor(t, func() bool { return !a.cluster.Ready() })
	signaltest.Exchange(t, h, g, []byte("hello"))

	way.hang.Store(false)
	way.cut()
	waitFor(t, func() bool { return a.cluster.Ready() && a.cluster.Stats().Peers == 1 && b.cluster.Stats().Peers == 1 })
	for _, reg := range []*signal.Registration{reg, local} {
		g, h := pair(t, b, reg)
		signaltest.Exchange(t, g, h, []byte("hello"))
	}
}

// NATS may be a cluster too: replicas at different servers of it meet, and move
// on when theirs is gone.
func TestNATSCluster(t *testing.T) {
	t.Parallel()
	var servers []*natsserver.Server
	var routes []*url.URL
	var urls []string
	for range 3 {
		s := natsOn(t, natsserver.Options{
			Port: -1, Routes: slices.Clone(routes),
			Cluster: natsserver.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: -1},
		})
		servers = append(servers, s)
		routes = append(routes, &url.URL{Scheme: "nats", Host: s.ClusterAddr().String()})
		urls = append(urls, s.ClientURL())
	}
	waitFor(t, func() bool {
		return servers[0].NumRoutes() > 0 && servers[1].NumRoutes() > 0 && servers[2].NumRoutes() > 0
	})
	a, b, c := start(t, urls[0], server.Limits{}), start(t, urls[1], server.Limits{}), start(t, urls[2], server.Limits{})
	for _, r := range []*replica{a, b, c} {
		waitFor(t, func() bool { return r.cluster.Stats().Peers == 2 })
	}
	key := signaltest.NewKey(t)
	first := register(t, a, key)
	meet := func(r *replica, reg *signal.Registration) {
		t.Helper()
		// Servers of NATS tell each other who listens, in their own time.
		var guest net.Conn
		waitFor(t, func() bool {
			var err error
			guest, _, err = signal.Dial(signaltest.Context(t), r.url, reg.Info().Room, nil)
			return err == nil
		})
		defer func() { _ = guest.Close() }()
		host, err := reg.Accept(signaltest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		signaltest.Exchange(t, guest, host, []byte("hello"))
	}
	for _, r := range []*replica{a, b, c} {
		meet(r, first)
	}
	second := register(t, b, key)
	if _, err := first.Accept(signaltest.Context(t)); !errors.Is(err, signal.ErrReplaced) {
		t.Errorf("the first registration ended with %v", err)
	}
	// NATS has told it of the others.
	servers[2].Shutdown()
	waitFor(t, func() bool {
		return c.cluster.Stats().Connects == 2 && c.cluster.Ready() && c.cluster.Stats().Peers == 2
	})
	for _, r := range []*replica{a, b, c} {
		meet(r, second)
	}
}
