package peer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/ticket"
	"github.com/pairterm/pairterm/peer/tunnel"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// text is a toy of a shared state: all that was ever written. A diff is what
// came after.
type text struct {
	mu   sync.Mutex
	all  []byte
	subs map[chan<- struct{}]struct{}
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, p...)
	for s := range t.subs {
		select {
		case s <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.all)
}

func (t *text) Head() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return uint64(len(t.all))
}

func (t *text) Mark() (string, uint64) {
	s := t.String()
	return s, uint64(len(s))
}

func (t *text) Since(dst []byte, pos uint64, max int) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if pos > uint64(len(t.all)) {
		return dst, false
	}
	p := t.all[pos:]
	return append(dst, p[:min(len(p), max)]...), true
}

func (t *text) AppendDiff(dst []byte, from, to string) []byte {
	return append(dst, strings.TrimPrefix(to, from)...)
}

func (t *text) Subscribe(notify chan<- struct{}) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs[notify] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, notify)
	}
}

func (t *text) Held() bool { return false }

// page is what a guest makes of a text.
type page struct {
	mu      sync.Mutex
	changed sync.Cond
	got     string
}

func newPage() *page {
	p := &page{}
	p.changed.L = &p.mu
	return p
}

func (p *page) set(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = s
	p.changed.Broadcast()
}

func (p *page) Log(pos uint64, b []byte) { p.set(p.Mark() + string(b)) }

func (p *page) Frame(from string, base, pos uint64, diff []byte) (string, error) {
	p.set(from + string(diff))
	return p.Mark(), nil
}

func (p *page) Mark() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got
}

// typist collects what a guest types.
type typist struct {
	net    *network
	guest  peer.GuestInfo
	mu     sync.Mutex
	got    []byte
	size   string
	sizes  []string // in their order
	closed bool
}

func (t *typist) Keys(p []byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.got = append(t.got, p...)
	t.net.poke()
	return len(p)
}
func (t *typist) Interrupt(p []byte) { t.Keys(p) }
func (t *typist) Signals() bool      { return true }
func (t *typist) Dropped()           {}
func (t *typist) Resize(cols, rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = fmt.Sprintf("%dx%d", cols, rows)
	t.sizes = append(t.sizes, t.size)
	t.net.poke()
}
func (t *typist) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.net.poke()
}

func (t *typist) keys() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.got)
}

// network is a signaling server, a host at it, and whoever joins.
type network struct {
	t      testing.TB
	web    *httptest.Server
	server *server.Server
	ticket ticket.Ticket
	source *text
	host   *peer.Host[string]

	mu      sync.Mutex
	changed sync.Cond
	allowed map[string]keys.Role // by fingerprint
	typists []*typist
	events  []peer.Event
}

func (n *network) poke() {
	n.mu.Lock()
	n.changed.Broadcast()
	n.mu.Unlock()
}

// until waits for cond.
func (n *network) until(what string, cond func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (n *network) allow(id keys.Identity, role keys.Role) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.allowed[keys.Fingerprint(id.Public())] = role
}

func (n *network) authorize(_ context.Context, o tunnel.Offer, _ bool, _ func(string) error) (tunnel.Grant, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if role := n.allowed[keys.Fingerprint(o.Key)]; role != keys.RoleNone {
		return tunnel.Grant{Role: role}, nil
	}
	return tunnel.Grant{}, keys.ErrNotAllowed
}

func (n *network) observe(e peer.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

// count is how many events of type E have happened.
func count[E peer.Event](n *network) (events int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if _, ok := e.(E); ok {
			events++
		}
	}
	return events
}

// saw reports whether an event of type E has happened.
func saw[E peer.Event](n *network) bool { return count[E](n) > 0 }

func (n *network) typist(i int) *typist {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i >= len(n.typists) {
		return nil
	}
	return n.typists[i]
}

// newNetwork starts a server and a host; both end with the test.
func newNetwork(t testing.TB) *network {
	t.Helper()
	return newNetworkWith(t, link.Config{Loopback: link.LoopbackOnly})
}

// newNetworkWith does so for a host with links of the given kind.
func newNetworkWith(t testing.TB, cfg link.Config) *network {
	t.Helper()
	n := &network{t: t, allowed: map[string]keys.Role{}, source: &text{subs: map[chan<- struct{}]struct{}{}}}
	n.changed.L = &n.mu
	n.server = server.New(server.Config{Limits: server.Limits{
		AddressConnections: 200, AddressGuests: 100, AddressRate: server.Rate{PerSecond: 1000, Burst: 1000},
		RoomRate: server.Rate{PerSecond: 1000, Burst: 1000}, Guests: 100, Drain: time.Millisecond,
	}})
	n.web = httptest.NewServer(n.server)
	t.Cleanup(n.web.Close)
	t.Cleanup(func() { n.server.Shutdown(context.Background()) })

	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.ticket, err = ticket.New(signal.Pin(key.Public().(ed25519.PublicKey)), n.web.URL); err != nil {
		t.Fatal(err)
	}
	listener, err := signal.NewListener(key, []string{n.web.URL}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := link.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.host, err = peer.NewHost(peer.HostConfig[string]{
		Key: key, Authorize: n.authorize, Pipes: listener, Transport: transport, Source: n.source,
		NewInput: func(g peer.GuestInfo, ready func()) peer.GuestInput {
			n.mu.Lock()
			defer n.mu.Unlock()
			ty := &typist{net: n, guest: g}
			n.typists = append(n.typists, ty)
			return ty
		},
		History: func(from uint64) []byte { return bytes.Repeat(fmt.Appendf(nil, "since %d; ", from), 1000) },
		Info:    func() peer.Info { return peer.Info{Cols: 80, Rows: 24, User: "bob", Host: "box"} },
		Observe: n.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { listener.Run(ctx) })
	running.Go(func() {
		if err := n.host.Run(ctx); err != nil {
			t.Errorf("host: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		transport.Close()
	})
	wctx, done := context.WithTimeout(ctx, patience)
	defer done()
	if err := listener.WaitRegistered(wctx); err != nil {
		t.Fatal(err)
	}
	return n
}

func newIdentity(t testing.TB, comment string) keys.Identity {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.NewIdentity(signer, comment, "memory")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// guest is somebody who joins.
type guest struct {
	*peer.Guest[string]
	page *page
	stop context.CancelFunc
	end  chan struct{} // closed when Run has returned

	history chan string // what was before
	bye     peer.Goodbye
	err     error
}

func (n *network) newGuest(id keys.Identity) *guest {
	return n.newGuestWith(id, link.Config{Loopback: link.LoopbackOnly})
}

// newGuestWith is a guest whose links are made as cfg says.
func (n *network) newGuestWith(id keys.Identity, cfg link.Config) *guest {
	g := &guest{page: newPage(), end: make(chan struct{}), history: make(chan string, 1)}
	g.Guest = peer.NewGuest(peer.GuestConfig[string]{
		Ticket: n.ticket, Identities: []keys.Identity{id}, Sink: g.page,
		OnHistory: func(p []byte) { g.history <- string(p) },
		Link:      cfg,
	})
	return g
}

// join joins as the holder of id.
func (n *network) join(id keys.Identity) *guest {
	n.t.Helper()
	g := n.newGuest(id)
	n.run(g)
	return g
}

// run joins as g.
func (n *network) run(g *guest) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.Connect(ctx); err != nil {
		n.t.Fatalf("join: %v", err)
	}
	rctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	go func() {
		defer close(g.end)
		g.bye, g.err = g.Run(rctx)
	}()
	n.t.Cleanup(func() {
		stop()
		<-g.end
	})
}

func (n *network) allowedGuest(name string, role keys.Role) *guest {
	n.t.Helper()
	id := newIdentity(n.t, name)
	n.allow(id, role)
	return n.join(id)
}

func TestSession(t *testing.T) {
	n := newNetwork(t)
	n.source.Write([]byte("before; "))
	g := n.allowedGuest("alice", keys.RoleType)
	if p, info := g.Host(); info.User != "bob" || info.Cols != 80 || p.Role != keys.RoleType {
		t.Errorf("the guest knows %+v, %+v", p, info)
	}
	for _, from := range []uint64{0, 1 << 40} {
		if err := g.AskHistory(from); err != nil {
			t.Fatal(err)
		}
		if got := <-g.history; got != strings.Repeat(fmt.Sprintf("since %d; ", from), 1000) {
			t.Errorf("the guest has got %d bytes of history", len(got))
		}
	}
	n.source.Write([]byte("after"))
	n.until("the text at the guest", func() bool { return g.page.Mark() == "before; after" })
	if _, err := g.SendKeys(t.Context(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := g.SendResize(100, 30); err != nil {
		t.Fatal(err)
	}
	n.until("keys and size at the host", func() bool {
		ty := n.typist(0)
		return ty != nil && ty.keys() == "hello" && ty.size == "100x30"
	})
	gs := n.host.Guests()
	if len(gs) != 1 || gs[0].Name() != "alice" || !gs[0].Linked || gs[0].Cols != 100 || !strings.HasPrefix(gs[0].Path.Network, "udp") {
		t.Errorf("the host knows %+v", gs)
	}

	n.source.Write([]byte(", last words"))
	n.host.End(peer.Goodbye{Reason: peer.ReasonEnded, Status: 7})
	<-g.end
	if g.err != nil || g.bye != (peer.Goodbye{Reason: peer.ReasonEnded, Status: 7}) {
		t.Errorf("the guest's end: %+v, %v", g.bye, g.err)
	}
	if got := g.page.Mark(); got != n.source.String() {
		t.Errorf("the guest has %q", got)
	}
	if !n.typist(0).closed || g.Undelivered() != 0 {
		t.Error("something was left behind")
	}
	if _, err := n.newGuest(newIdentity(t, "late")).attempt(t); err == nil {
		t.Error("somebody joined an ended session")
	}
}

// attempt joins and leaves again.
func (g *guest) attempt(t *testing.T) (peer.Info, error) {
	defer g.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := g.Connect(ctx)
	_, info := g.Host()
	return info, err
}

func TestStranger(t *testing.T) {
	n := newNetwork(t)
	n.source.Write([]byte("secret"))
	g := n.newGuest(newIdentity(t, "mallory"))
	info, err := g.attempt(t)
	var r *tunnel.RefusedError
	if !errors.As(err, &r) || r.Code != tunnel.RefusedNotAllowed {
		t.Errorf("a stranger: %v", err)
	}
	if info != (peer.Info{}) || g.page.Mark() != "" {
		t.Errorf("a stranger learns %+v, %q", info, g.page.Mark())
	}
	n.until("the knock", func() bool { return saw[peer.Knock](n) })
	if len(n.host.Guests()) != 0 {
		t.Error("a stranger is a guest")
	}
}

func TestViewersCannotType(t *testing.T) {
	n := newNetwork(t)
	watch := n.allowedGuest("watcher", keys.RoleView)
	alice := n.allowedGuest("alice", keys.RoleType)
	watch.SendKeys(t.Context(), []byte("rm -rf /"))
	watch.SendResize(10, 5)
	n.until("the viewer's keys to arrive somewhere", func() bool { return watch.Undelivered() == 0 })
	alice.SendKeys(t.Context(), []byte("ls"))
	n.until("alice's keys", func() bool { return n.typist(1).keys() == "ls" })
	if got := n.typist(0); got.keys() != "" || got.size != "" {
		t.Errorf("a viewer has typed %q, sized %q", got.keys(), got.size)
	}
	if watch.Role() != keys.RoleView {
		t.Errorf("role %v", watch.Role())
	}
}

func TestRecheck(t *testing.T) {
	n := newNetwork(t)
	alice, bob := newIdentity(t, "alice"), newIdentity(t, "bob")
	n.allow(alice, keys.RoleType)
	n.allow(bob, keys.RoleType)
	a, b := n.join(alice), n.join(bob)
	n.allow(alice, keys.RoleNone)
	n.allow(bob, keys.RoleView)
	n.host.Recheck(t.Context())
	<-a.end
	if a.err != nil || a.bye.Reason != peer.ReasonRemoved {
		t.Errorf("alice's end: %+v, %v", a.bye, a.err)
	}
	n.until("bob's new role", func() bool { return b.Role() == keys.RoleView })
	b.SendKeys(t.Context(), []byte("x"))
	n.until("bob's key to be dropped", func() bool { return b.Undelivered() == 0 })
	if got := n.typist(1).keys(); got != "" {
		t.Errorf("bob has typed %q", got)
	}
}

func TestLeave(t *testing.T) {
	n := newNetwork(t)
	g := n.allowedGuest("alice", keys.RoleType)
	n.until("joined", func() bool { return saw[peer.Joined](n) })
	g.Leave()
	g.stop()
	n.until("left", func() bool { return saw[peer.Left](n) && len(n.host.Guests()) == 0 })
}

// TestServerGone ends the signaling server in mid-session.
func TestServerGone(t *testing.T) {
	n := newNetwork(t)
	g := n.allowedGuest("alice", keys.RoleType)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n.server.Shutdown(ctx)
	n.web.CloseClientConnections()
	n.source.Write([]byte("still here"))
	n.until("the text", func() bool { return g.page.Mark() == "still here" })
	g.SendKeys(t.Context(), []byte("me too"))
	n.until("the keys", func() bool { return n.typist(0).keys() == "me too" })
}

// TestManyGuests has 32 of them, one of whom does not read and one who
// vanishes without a word.
func TestManyGuests(t *testing.T) {
	n := newNetwork(t)
	var gs []*guest
	for i := range 32 {
		gs = append(gs, n.allowedGuest(fmt.Sprint("guest ", i), keys.RoleType))
	}
	gs[0].page.mu.Lock() // its sink blocks for ever, and so its whole loop
	gs[1].stop()
	<-gs[1].end
	want := strings.Repeat("all of you; ", 1000)
	for range 1000 {
		n.source.Write([]byte("all of you; "))
	}
	for i, g := range gs[2:] {
		n.until(fmt.Sprint("the text at guest ", i), func() bool { return g.page.Mark() == want })
	}
	for _, g := range gs[2:] {
		g.SendKeys(t.Context(), []byte("aye"))
	}
	for i := range gs[2:] {
		n.until("the answers", func() bool { return n.typist(i+2).keys() == "aye" })
	}
	gs[0].page.mu.Unlock()
}

// TestComesBack cuts a guest's link again and again.
func TestComesBack(t *testing.T) {
	n := newNetwork(t)
	g := n.allowedGuest("alice", keys.RoleType)
	n.source.Write([]byte("one "))
	n.until("the text", func() bool { return g.page.Mark() == "one " })
	for i := range 3 {
		before := g.Status().Path
		g.CutLink()
		n.source.Write(fmt.Appendf(nil, "more%d ", i))
		g.SendKeys(t.Context(), fmt.Appendf(nil, "key%d ", i))
		n.until("text and keys over another link", func() bool {
			return g.page.Mark() == n.source.String() && strings.HasSuffix(n.typist(0).keys(), fmt.Sprintf("key%d ", i))
		})
		if after := g.Status().Path; after == before {
			t.Errorf("the same path as before: %v", after)
		}
	}
	if got := n.typist(0).keys(); got != "key0 key1 key2 " {
		t.Errorf("the host has %q", got)
	}
	n.until("the host to have seen it come back", func() bool { return saw[peer.Returned](n) })
	if len(n.host.Guests()) != 1 {
		t.Errorf("guests: %+v", n.host.Guests())
	}
}

// TestLostGuestHasNoSize cuts a guest's link: the window of somebody who is away
// counts for nothing until it comes back.
func TestLostGuestHasNoSize(t *testing.T) {
	n := newNetwork(t)
	g := n.allowedGuest("alice", keys.RoleType)
	if err := g.SendResize(50, 12); err != nil {
		t.Fatal(err)
	}
	sizes := func() string {
		ty := n.typist(0)
		if ty == nil {
			return ""
		}
		ty.mu.Lock()
		defer ty.mu.Unlock()
		return strings.Join(ty.sizes, " ")
	}
	n.until("the size at the host", func() bool { return sizes() == "50x12" })
	g.CutLink()
	n.until("the size to go and to come back", func() bool { return sizes() == "50x12 0x0 50x12" })
}

// TestSpareLink has a guest that raced two links and took the first.
func TestSpareLink(t *testing.T) {
	n := newNetwork(t)
	g := n.allowedGuest("alice", keys.RoleType)
	n.source.Write([]byte("one "))
	n.until("the text", func() bool { return g.page.Mark() == "one " })
	path := n.host.Guests()[0].Path
	for range 3 {
		hangUp, err := g.SpareLink(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.source.Write([]byte("more "))
		g.SendKeys(t.Context(), []byte("k"))
		n.until("text and keys over the first link", func() bool {
			return g.page.Mark() == n.source.String() && g.Undelivered() == 0
		})
		hangUp()
		if now := n.host.Guests(); len(now) != 1 || !now[0].Linked || now[0].Path.Remote != path.Remote {
			t.Errorf("the host went over to a link that is not used: %+v", now)
		}
	}
	if saw[peer.Lost](n) || saw[peer.Returned](n) {
		t.Error("the first link was given up")
	}
}

// TestHostVanishes has a host that is killed with the server inside it: the guest tries
// for a while to come back, then gives up.
func TestHostVanishes(t *testing.T) {
	fw := newFirewall(t)
	fw.closed.Store(false)
	n := newNetworkWith(t, link.Config{Loopback: link.LoopbackOnly, Net: fw})
	id := newIdentity(t, "alice")
	n.allow(id, keys.RoleType)
	g := n.newGuest(id)
	const absence = 2 * time.Second
	g.SetAbsence(absence)
	n.run(g)
	fw.closed.Store(true)
	n.web.CloseClientConnections()
	n.web.Listener.Close()
	if _, err := g.SendKeys(t.Context(), []byte("anybody?")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case <-g.end:
	case <-time.After(patience):
		t.Fatal("the guest does not give up")
	}
	if !errors.Is(g.err, peer.ErrHostGone) {
		t.Errorf("ended with %v, want ErrHostGone", g.err)
	}
	if took := time.Since(began); took < absence {
		t.Errorf("gave up after %v", took)
	}
	if g.Undelivered() != 8 {
		t.Errorf("%d bytes did not arrive, want 8", g.Undelivered())
	}
}

// TestHostGone ends the host and the server; the guest must not wait for ever.
func TestHostGone(t *testing.T) {
	n := newNetwork(t)
	g := n.newGuest(newIdentity(t, "alice"))
	unknown, err := ticket.New([32]byte{1}, n.web.URL)
	if err != nil {
		t.Fatal(err)
	}
	g.Guest = peer.NewGuest(peer.GuestConfig[string]{Ticket: unknown, Sink: g.page})
	if _, err := g.attempt(t); !errors.Is(err, signal.ErrNoRoom) {
		t.Errorf("a room that does not exist: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	nobody, err := ticket.New([32]byte{1}, "ws://"+l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g.Guest = peer.NewGuest(peer.GuestConfig[string]{Ticket: nobody, Sink: g.page})
	if _, err := g.attempt(t); !errors.Is(err, signal.ErrUnreachable) {
		t.Errorf("a server that is down: %v", err)
	}
}
