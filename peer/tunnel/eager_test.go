package tunnel

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/pairterm/pairterm/keys"
)

// tcpPipe is a pipe with buffers, as those through a signaling server have.
func tcpPipe(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// signing is an identity that tells when it has signed.
type signing struct {
	*identity
	done chan struct{}
}

func (s signing) Sign(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	defer close(s.done)
	return s.identity.Sign(ctx, namespace, message)
}

// An eager guest proves its one key before the host has asked for it.
func TestEager(t *testing.T) {
	alice := newIdentity(t, "alice")
	p := newPair(t, alice)
	id := signing{alice, make(chan struct{})}
	p.guest.Identities, p.guest.Eager = []keys.Identity{id}, true
	allowed := p.host.Authorize
	p.host.Authorize = func(ctx context.Context, o Offer, proven bool, hold func(string) error) (Grant, error) {
		if !proven {
			<-id.done // who is not eager waits for the challenge that comes after this
		}
		return allowed(ctx, o, proven, hold)
	}
	a, b := tcpPipe(t)
	h, g := p.meet(t, a, b, nil)
	if h.err != nil || g.err != nil {
		t.Fatalf("host: %v, guest: %v", h.err, g.err)
	}
	if n := alice.signed.Load(); n != 1 {
		t.Errorf("%d proofs were made", n)
	}
	if h.conn.Peer().Comment != "alice" || g.conn.Peer().Guest != h.conn.Peer().Guest {
		t.Errorf("%+v, %+v", h.conn.Peer(), g.conn.Peer())
	}
}

// With several keys it is for the host to choose.
func TestEagerOfSeveral(t *testing.T) {
	work, home := newIdentity(t, "work"), newIdentity(t, "home")
	p := newPair(t, work, home)
	p.guest.Eager = true
	p.host.Authorize = allow(home)
	p.mustMeet(t, nil)
	if work.signed.Load() != 0 || home.signed.Load() != 1 {
		t.Error("another key than the one that is allowed has signed")
	}
}

// An eager guest that is refused hears why, and a resumption is not overtaken by a proof.
func TestEagerRefused(t *testing.T) {
	alice := newIdentity(t, "alice")
	for range 20 { // the proof may find that the host has hung up
		p := newPair(t, alice)
		p.guest.Eager = true
		p.host.Authorize = allow()
		a, b := tcpPipe(t)
		h, g := p.meet(t, a, b, nil)
		for who, err := range map[string]error{"host": h.err, "guest": g.err} {
			var r *RefusedError
			if !errors.As(err, &r) || r.Code != RefusedNotAllowed {
				t.Errorf("%s: %v", who, err)
			}
		}
	}
	p := newPair(t, alice)
	p.guest.Eager = true
	secret := make([]byte, SecretSize)
	p.host.Resume = func(GuestID) ([]byte, keys.Role, bool) { return secret, keys.RoleType, true }
	before := alice.signed.Load()
	_, g := p.mustMeet(t, &Resumption{Guest: GuestID{1}, Secret: secret})
	if !g.Peer().Resumed || alice.signed.Load() != before {
		t.Errorf("%+v after %d proofs", g.Peer(), alice.signed.Load()-before)
	}
}
