package cluster_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// What a room may have holds for its guests at all replicas together.
func TestGuestsOfARoom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		limits server.Limits
		want   error
	}{
		{"guests", server.Limits{Guests: 2}, signal.ErrRoomFull},
		{"of one address", server.Limits{AddressGuests: 2}, signal.ErrRateLimited},
		{"often", server.Limits{RoomRate: server.Rate{PerSecond: 1e-6, Burst: 2}}, signal.ErrRateLimited},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs := three(t, startNATS(t).ClientURL(), tt.limits)
			reg := register(t, rs[0], signaltest.NewKey(t))
			room := reg.Info().Room
			first := dial(t, rs[0], room)
			dial(t, rs[1], room)
			for i, r := range rs {
				if _, _, err := signal.Dial(signaltest.Context(t), r.url, room, nil); !errors.Is(err, tt.want) {
					t.Errorf("a third guest, at replica %d: %v", i, err)
				}
			}
			if tt.name == "often" {
				return
			}
			_ = first.Close()
			waitFor(t, func() bool { return rs[0].Stats().Guests == 1 })
			dial(t, rs[2], room) // there is a place again
		})
	}
}

// Guests of one address have one source, wherever they come in.
func TestSources(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{})
	reg := register(t, rs[0], signaltest.NewKey(t))
	sources := map[uint64]bool{}
	for _, r := range rs {
		_, host := pair(t, r, reg)
		sources[host.RemoteAddr().(signal.Addr).Source] = true
	}
	if len(sources) != 1 {
		t.Errorf("one address has the sources %v", sources)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{PipeBytes: 100 << 10})
	reg := register(t, rs[0], signaltest.NewKey(t))
	for _, fromGuest := range []bool{true, false} {
		guest, host := pair(t, rs[1], reg)
		from, to := host, guest
		if fromGuest {
			from, to = guest, host
		}
		// The clients keep to what the server tells them: one byte is for the server.
		signaltest.Exchange(t, from, to, signaltest.RandomBytes(50<<10))
		signaltest.Exchange(t, from, to, signaltest.RandomBytes(50<<10))
		if _, err := from.Write([]byte("x")); !isPipeError(err, signal.ReasonQuota) {
			t.Errorf("a byte too many: %v", err)
		}
	}
}

// rawHost is a host that reads only when it wants to.
type rawHost struct {
	t    *testing.T
	ws   *websocket.Conn
	room signal.Room
}

func newRawHost(t *testing.T, r *replica) *rawHost {
	t.Helper()
	ctx := signaltest.Context(t)
	ws, _, err := websocket.Dial(ctx, r.url+signal.PathHost, &websocket.DialOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(signal.MaxMessage)
	t.Cleanup(func() { _ = ws.CloseNow() })
	h := &rawHost{t: t, ws: ws}
	c := h.read().(*signal.ChallengeMsg)
	key := signaltest.NewKey(t)
	reg := &signal.RegisterMsg{Key: [32]byte(key.Public().(ed25519.PublicKey)), Name: signal.ServerName(r.url[len("ws://"):])}
	reg.Signature = [64]byte(ed25519.Sign(key, signal.RegisterInput(reg.Name, c.Nonce, reg.Instance)))
	h.write(reg)
	h.room = h.read().(*signal.ReadyMsg).Room
	return h
}

func (h *rawHost) read() signal.Message {
	h.t.Helper()
	_, b, err := h.ws.Read(signaltest.Context(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := signal.Decode(b)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *rawHost) write(m signal.Message) {
	h.t.Helper()
	if err := h.ws.Write(signaltest.Context(h.t), websocket.MessageBinary, m.Append(nil)); err != nil {
		h.t.Fatal(err)
	}
}

// A host that does not read makes its guest at another replica wait, and what
// waits is bounded in both replicas. When it reads, all of it is there.
func TestBackpressureToTheHost(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{PipeBytes: 64 << 20, Message: time.Minute})
	h := newRawHost(t, rs[0])
	guest := dial(t, rs[1], h.room)
	if m, ok := h.read().(*signal.OpenMsg); !ok || m.Pipe != 1 {
		t.Fatalf("the host was told %#v", m)
	}

	const total = 32 << 20 // more than all sockets hold
	want := signaltest.RandomBytes(1 << 20)
	var written atomic.Int64
	sent := make(chan error, 1)
	go func() {
		for range total / len(want) {
			if _, err := guest.Write(want); err != nil {
				sent <- err
				return
			}
			written.Add(int64(len(want)))
		}
		sent <- nil
	}()
	// It gets stuck, at the latest when the replica's buffers are full.
	waitFor(t, func() bool { return rs[0].Stats().QueuedBytes > 0 })
	for last := int64(-1); last != written.Load(); {
		last = written.Load()
		time.Sleep(300 * time.Millisecond) // a stuck pipe has no event to wait for
	}
	if n := written.Load(); n == total {
		t.Fatal("a host that reads nothing was sent everything")
	}
	for i, r := range rs {
		if q := r.Stats().QueuedBytes; q > server.ClusterWindow+signal.MaxMessage {
			t.Errorf("%d bytes wait at replica %d", q, i)
		}
	}
	for got := 0; got < total; {
		m, ok := h.read().(*signal.DataMsg)
		if !ok {
			t.Fatalf("after %d bytes came %#v", got, m)
		}
		for i, b := range m.Payload {
			if b != want[(got+i)%len(want)] {
				t.Fatalf("byte %d is not what was sent", got+i)
			}
		}
		got += len(m.Payload)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// A guest that does not read loses its pipe, as at a single server, and the
// host's other guests notice nothing.
func TestBackpressureToTheGuest(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{PipeBytes: 64 << 20, Message: time.Minute})
	h := newRawHost(t, rs[0])
	ctx := signaltest.Context(t)
	stuck, _, err := websocket.Dial(ctx, rs[1].url+signal.PathJoin+h.room.String(), &websocket.DialOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stuck.CloseNow() }()
	h.read() // Open 1
	other := dial(t, rs[2], h.room)
	h.read() // Open 2

	payload := make([]byte, signal.MaxPayload)
	ended := make(chan signal.Reason, 1)
	go func() {
		for {
			_, b, err := h.ws.Read(ctx)
			if err != nil {
				return
			}
			if m, _ := signal.Decode(b); m != nil {
				if c, ok := m.(*signal.CloseMsg); ok && c.Pipe == 1 {
					ended <- c.Reason
					return
				}
			}
		}
	}()
	for sent := 0; ; sent++ {
		select {
		case reason := <-ended:
			if reason != signal.ReasonOverflow {
				t.Errorf("the host was told %v", reason)
			}
			h.write(&signal.DataMsg{Pipe: 2, Payload: []byte("hello")})
			b := make([]byte, 5)
			if _, err := io.ReadFull(other, b); err != nil || string(b) != "hello" {
				t.Errorf("the other guest got %q, %v", b, err)
			}
			return
		default:
		}
		if sent > 64<<20/len(payload) {
			t.Fatal("a guest that reads nothing was sent everything")
		}
		h.write(&signal.DataMsg{Pipe: 1, Payload: payload})
		for i, r := range rs {
			if q := r.Stats().QueuedBytes; q > 2*(server.ClusterWindow+signal.MaxMessage) {
				t.Fatalf("%d bytes wait at replica %d", q, i)
			}
		}
	}
}

func TestIdleAndLifetime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits server.Limits
		reason signal.Reason
	}{
		{server.Limits{GuestIdle: 300 * time.Millisecond}, signal.ReasonIdle},
		{server.Limits{GuestLifetime: 300 * time.Millisecond}, signal.ReasonLifetime},
	} {
		rs := three(t, startNATS(t).ClientURL(), tt.limits)
		guest, host := pair(t, rs[1], register(t, rs[0], signaltest.NewKey(t)))
		if _, err := guest.Read(make([]byte, 1)); !isPipeError(err, tt.reason) {
			t.Errorf("the guest was told %v, want %v", err, tt.reason)
		}
		if _, err := host.Read(make([]byte, 1)); !isPipeError(err, tt.reason) {
			t.Errorf("the host was told %v, want %v", err, tt.reason)
		}
	}
}

// The replica that a guest comes to asks for its key; the host hears of it only
// then, and of the end when the key is taken away.
func TestGate(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.NewIdentity(signer, "alice", "memory")
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/keys"
	if err := os.WriteFile(path, []byte(keys.AuthorizedLine(id.Public(), "alice")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() *keys.List {
		src, err := keys.ParseSource(path)
		if err != nil {
			t.Fatal(err)
		}
		l, err := keys.NewAllowlist(keys.AllowlistOptions{Grants: []keys.Grant{{Source: src, Role: keys.RoleType}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Load(context.Background()); err != nil {
			t.Fatal(err)
		}
		return l.Current()
	}
	var list atomic.Pointer[keys.List]
	list.Store(load())
	changes := make(chan struct{}, 1)
	nats := startNATS(t).ClientURL()
	at := start(t, nats, server.Limits{})
	from := startWith(t, optionsFor(nats), server.Config{Gate: &server.Gate{Guests: true, List: list.Load, Changes: changes}})
	waitFor(t, func() bool { return from.cluster.Stats().Peers == 1 && at.cluster.Stats().Peers == 1 })

	reg := register(t, at, signaltest.NewKey(t))
	room := reg.Info().Room
	if _, _, err := signal.Dial(signaltest.Context(t), from.url, room, nil); !errors.Is(err, signal.ErrProofRequired) {
		t.Errorf("without a key: %v", err)
	}
	guest, _, err := signal.Dial(signaltest.Context(t), from.url, room, &signal.Options{Identities: []keys.Identity{id}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = guest.Close() }()
	host, err := reg.Accept(signaltest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if a := host.RemoteAddr().(signal.Addr); a.Pipe != 1 {
		t.Errorf("the first guest with a key has pipe %d: one without was shown to the host", a.Pipe)
	}
	waitFor(t, func() bool { return at.Stats().Guests == 1 }) // the other's place is free again

	list.Store(nil)
	changes <- struct{}{}
	if _, err := host.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonRevoked) {
		t.Errorf("the host was told %v", err)
	}
}
