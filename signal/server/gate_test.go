package server_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/memnet"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

func newIdentity(t testing.TB, comment string) keys.Identity {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(signaltest.NewKey(t))
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.NewIdentity(signer, comment, "memory")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func entry(id keys.Identity) keys.Entry {
	return keys.Entry{Key: id.Public(), Comment: id.Comment(), Role: keys.RoleType}
}

// gateList is a list that a test can change.
type gateList struct {
	list    atomic.Pointer[keys.List]
	changes chan struct{}
}

func newGateList(entries ...keys.Entry) *gateList {
	l := &gateList{changes: make(chan struct{}, 1)}
	l.list.Store(keys.NewList(entries...))
	return l
}

func (l *gateList) gate(guests bool) *server.Gate {
	return &server.Gate{Guests: guests, List: l.list.Load, Changes: l.changes}
}

func (l *gateList) set(entries ...keys.Entry) {
	l.list.Store(keys.NewList(entries...))
	l.changes <- struct{}{}
}

func as(ids ...keys.Identity) *signal.Options { return &signal.Options{Identities: ids} }

func TestGate(t *testing.T) {
	alice, mallory := newIdentity(t, "alice"), newIdentity(t, "mallory")
	s := start(t, server.Config{Gate: newGateList(entry(alice)).gate(true)})
	key := signaltest.NewKey(t)
	if _, err := signal.Register(signaltest.Context(t), s.url, key, nil); !errors.Is(err, signal.ErrProofRequired) {
		t.Errorf("a host without a key: %v", err)
	}
	if _, err := signal.Register(signaltest.Context(t), s.url, key, as(mallory)); !errors.Is(err, signal.ErrNotAllowed) || !strings.Contains(err.Error(), "none of your keys") {
		t.Errorf("a strange host: %v", err)
	}
	reg := signaltest.Register(t, s.url, key, as(mallory, alice))
	if _, _, err := signal.Dial(signaltest.Context(t), s.url, signaltest.RoomOf(key), nil); !errors.Is(err, signal.ErrProofRequired) {
		t.Errorf("a guest without a key: %v", err)
	}
	if _, _, err := signal.Dial(signaltest.Context(t), s.url, signaltest.RoomOf(key), as(mallory)); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("a strange guest: %v", err)
	}
	guest := signaltest.Dial(t, s.url, signaltest.RoomOf(key), as(alice))
	signaltest.Exchange(t, guest, signaltest.Accept(t, reg), []byte("hello"))
	if n := s.Stats().Allowed; n != 2 {
		t.Errorf("%d proofs accepted, want 2", n)
	}
}

func TestGateOfHostsOnly(t *testing.T) {
	alice := newIdentity(t, "alice")
	s := start(t, server.Config{Gate: newGateList(entry(alice)).gate(false)})
	guest, host := signaltest.Pair(t, s.url, signaltest.Register(t, s.url, signaltest.NewKey(t), as(alice)))
	signaltest.Exchange(t, guest, host, []byte("nobody asked me"))
}

// An empty list, and a gate without one, admit nobody.
func TestGateFailsClosed(t *testing.T) {
	for name, gate := range map[string]*server.Gate{"empty": newGateList().gate(false), "zero": {}} {
		s := start(t, server.Config{Gate: gate})
		if _, err := signal.Register(signaltest.Context(t), s.url, signaltest.NewKey(t), as(newIdentity(t, "alice"))); !errors.Is(err, signal.ErrNotAllowed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a client says instead of a proof that holds, here, now and for this.
func TestGateRefusesProofs(t *testing.T) {
	alice, mallory := newIdentity(t, "alice"), newIdentity(t, "mallory")
	s := start(t, server.Config{Gate: newGateList(entry(alice)).gate(true)})
	name := serverName(s.url)
	offer := &signal.OfferMsg{Keys: [][]byte{[]byte("no key"), mallory.Public().Marshal(), alice.Public().Marshal()}}
	sign := func(id keys.Identity, namespace string, input []byte) []byte {
		proof, err := id.Sign(t.Context(), namespace, input)
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
	prove := func(name string, proof []byte) signal.Message { return &signal.ProveMsg{Name: name, Proof: proof} }
	tests := map[string]struct {
		code signal.Code
		msg  func(nonce [32]byte) signal.Message
	}{
		"another key's": {signal.CodeNotAllowed, func(n [32]byte) signal.Message {
			return prove(name, sign(mallory, signal.ProveNamespace, signal.ProveInput(name, n)))
		}},
		"another namespace": {signal.CodeNotAllowed, func(n [32]byte) signal.Message {
			return prove(name, sign(alice, "guest.v1@pairterm", signal.ProveInput(name, n)))
		}},
		"another nonce": {signal.CodeNotAllowed, func(n [32]byte) signal.Message {
			n[0]++
			return prove(name, sign(alice, signal.ProveNamespace, signal.ProveInput(name, n)))
		}},
		"made for another server": {signal.CodeNotAllowed, func(n [32]byte) signal.Message {
			return prove(name, sign(alice, signal.ProveNamespace, signal.ProveInput("evil.example", n)))
		}},
		"meant for another server": {signal.CodeWrongServer, func(n [32]byte) signal.Message {
			return prove("evil.example", sign(alice, signal.ProveNamespace, signal.ProveInput("evil.example", n)))
		}},
		"no proof at all": {signal.CodeProtocol, func(n [32]byte) signal.Message {
			return signed(signaltest.NewKey(t), name, n)
		}},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			r := dialRaw(t, s.url, signal.PathHost)
			c := r.challenge()
			if !c.Prove {
				t.Fatal("no proof asked for")
			}
			r.send(offer)
			if m, ok := r.receive().(*signal.ChoiceMsg); !ok || m.Index != 2 {
				t.Fatalf("the server chose %+v", m)
			}
			r.send(tt.msg(c.Nonce))
			r.expectGoodbye(tt.code)
		})
	}
	t.Run("no offer", func(t *testing.T) {
		r := dialRaw(t, s.url, signal.PathHost)
		r.send(signed(signaltest.NewKey(t), name, r.challenge().Nonce))
		r.expectGoodbye(signal.CodeProtocol)
	})
	if st := s.Stats(); st.Allowed != 0 || st.Registrations != 0 {
		t.Errorf("%+v", st)
	}
}

func TestGateRevokes(t *testing.T) {
	alice, bob := newIdentity(t, "alice"), newIdentity(t, "bob")
	list := newGateList(entry(alice), entry(bob))
	s := start(t, server.Config{Gate: list.gate(true)})
	ofAlice, ofBob := signaltest.Register(t, s.url, signaltest.NewKey(t), as(alice)), signaltest.Register(t, s.url, signaltest.NewKey(t), as(bob))
	room := ofBob.Info().Room
	guestAlice := signaltest.Dial(t, s.url, room, as(alice))
	hostAlice := signaltest.Accept(t, ofBob)
	guestBob := signaltest.Dial(t, s.url, room, as(bob))
	hostBob := signaltest.Accept(t, ofBob)

	list.set(entry(bob))
	if _, err := ofAlice.Accept(signaltest.Context(t)); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("the host whose key was removed was told %v", err)
	}
	_ = guestAlice.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := guestAlice.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonRevoked) {
		t.Errorf("the guest whose key was removed was told %v", err)
	}
	_ = hostAlice.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := hostAlice.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonRevoked) {
		t.Errorf("and its host %v", err)
	}
	signaltest.Exchange(t, guestBob, hostBob, []byte("we go on"))
	if _, err := signal.Register(signaltest.Context(t), s.url, signaltest.NewKey(t), as(alice)); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("she comes again: %v", err)
	}
	list.set(entry(bob), entry(alice))
	signaltest.Register(t, s.url, signaltest.NewKey(t), as(alice))
}

// A certificate counts until it expires, and not a minute longer.
func TestGateCertificateExpires(t *testing.T) {
	ca, err := ssh.NewSignerFromKey(signaltest.NewKey(t))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(signaltest.NewKey(t))
	if err != nil {
		t.Fatal(err)
	}
	authority := keys.NewList(keys.Entry{Key: ca.PublicKey(), CertAuthority: true, Principals: []string{"alice"}, Role: keys.RoleType})
	gate := &server.Gate{List: func() *keys.List { return authority }}
	inBubble(t, server.Config{Gate: gate}, func(t *testing.T, n *memnet.Net, s *testServer) {
		ends := time.Now().Add(10 * time.Minute)
		cert := &ssh.Certificate{
			Key:             signer.PublicKey(),
			CertType:        ssh.UserCert,
			ValidPrincipals: []string{"alice"},
			ValidAfter:      uint64(time.Now().Add(-time.Minute).Unix()),
			ValidBefore:     uint64(ends.Unix()),
		}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		certSigner, err := ssh.NewCertSigner(cert, signer)
		if err != nil {
			t.Fatal(err)
		}
		id, err := keys.NewIdentity(certSigner, "", "memory")
		if err != nil {
			t.Fatal(err)
		}
		opts := from(n, "192.0.2.9")
		opts.Identities = []keys.Identity{id}
		reg := signaltest.Register(t, s.url, signaltest.NewKey(t), opts)
		if _, err := reg.Accept(t.Context()); !errors.Is(err, signal.ErrNotAllowed) {
			t.Errorf("the host was told %v", err)
		}
		if late := time.Since(ends); late < 0 || late > time.Minute {
			t.Errorf("%v after its certificate ended", late)
		}
	})
}

// A key may hold so many connections, and open them so often; others do not
// notice, wherever they come from.
func TestGateLimitsKeys(t *testing.T) {
	alice, bob := newIdentity(t, "alice"), newIdentity(t, "bob")
	s := start(t, server.Config{
		Gate:   newGateList(entry(alice), entry(bob)).gate(false),
		Limits: server.Limits{KeyConnections: 2, KeyRate: server.Rate{PerSecond: 1e-6, Burst: 3}},
	})
	holds := func(n int64) { waitFor(t, func() bool { return s.Stats().Connections == n }) }
	first := signaltest.Register(t, s.url, signaltest.NewKey(t), as(alice))
	signaltest.Register(t, s.url, signaltest.NewKey(t), as(alice))
	var bye *signal.GoodbyeError
	if _, err := signal.Register(signaltest.Context(t), s.url, signaltest.NewKey(t), as(alice)); !errors.As(err, &bye) || bye.Code != signal.CodeRateLimited {
		t.Errorf("a third room of two: %v", err)
	}
	_ = signaltest.Register(t, s.url, signaltest.NewKey(t), as(bob)).Close()
	_ = first.Close()
	holds(1)
	_ = signaltest.Register(t, s.url, signaltest.NewKey(t), as(alice)).Close()
	holds(1)
	if _, err := signal.Register(signaltest.Context(t), s.url, signaltest.NewKey(t), as(alice)); !errors.As(err, &bye) || bye.Code != signal.CodeRateLimited || bye.Retry <= 0 {
		t.Errorf("a fourth time of three: %v", err)
	}
}

// slowIdentity takes its time to sign, as one with a passphrase.
type slowIdentity struct {
	keys.Identity
	takes time.Duration
}

func (id slowIdentity) Sign(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	time.Sleep(id.takes)
	return id.Identity.Sign(ctx, namespace, message)
}

// Somebody whose key is known may look for the passphrase; nobody else.
func TestGateWaitsForPeople(t *testing.T) {
	alice := newIdentity(t, "alice")
	list := keys.NewList(entry(alice))
	gate := &server.Gate{List: func() *keys.List { return list }}
	inBubble(t, server.Config{Gate: gate}, func(t *testing.T, n *memnet.Net, s *testServer) {
		opts := from(n, "192.0.2.9")
		opts.Identities = []keys.Identity{slowIdentity{alice, 50 * time.Second}}
		reg, err := signal.Register(t.Context(), s.url, signaltest.NewKey(t), opts)
		if err != nil {
			t.Fatal(err)
		}
		_ = reg.Close()

		opts.Identities = []keys.Identity{slowIdentity{alice, 5 * time.Minute}}
		if _, err := signal.Register(t.Context(), s.url, signaltest.NewKey(t), opts); !errors.Is(err, signal.ErrTimeout) && !errors.Is(err, signal.ErrUnreachable) {
			t.Errorf("after five minutes: %v", err)
		}
	})
}
