package tunnel

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// identity is a key in memory that counts what it signs.
type identity struct {
	keys.Identity // panics for what the tunnel must not use
	signer        ssh.Signer
	comment       string
	signed        atomic.Int32
	err           error
}

func newIdentity(t testing.TB, comment string) *identity {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{signer: signer, comment: comment}
}

func (i *identity) Public() ssh.PublicKey { return i.signer.PublicKey() }
func (i *identity) Comment() string       { return i.comment }
func (i *identity) Sign(_ context.Context, namespace string, message []byte) ([]byte, error) {
	i.signed.Add(1)
	if i.err != nil {
		return nil, i.err
	}
	return keys.Sign(i.signer, namespace, message)
}

func sessionKey(t testing.TB) (ed25519.PrivateKey, [32]byte) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return priv, sha256.Sum256(spki)
}

// allow admits the holders of the given keys.
func allow(ids ...*identity) func(context.Context, Offer, bool, func(string) error) (Grant, error) {
	return func(_ context.Context, o Offer, _ bool, _ func(string) error) (Grant, error) {
		for _, id := range ids {
			if bytes.Equal(o.Key.Marshal(), id.Public().Marshal()) {
				return Grant{Role: keys.RoleType}, nil
			}
		}
		return Grant{}, keys.ErrNotAllowed
	}
}

type outcome struct {
	conn *Conn
	err  error
}

// pair is a host and a guest who was given the host's ticket.
type pair struct {
	host  *Host
	guest *Guest
}

func newPair(t testing.TB, ids ...*identity) *pair {
	t.Helper()
	key, pin := sessionKey(t)
	h, err := NewHost(key)
	if err != nil {
		t.Fatal(err)
	}
	h.Info = func() []byte { return []byte("80x24, at home") }
	h.Authorize = allow(ids...)
	g := &Guest{Pin: pin, Software: "test 1"}
	for _, id := range ids {
		g.Identities = append(g.Identities, id)
	}
	return &pair{h, g}
}

// meet runs both handshakes over the two ends of a pipe.
func (p *pair) meet(t testing.TB, hostEnd, guestEnd net.Conn, resume *Resumption) (host, guest outcome) {
	t.Helper()
	done := make(chan outcome, 1)
	go func() {
		c, err := p.host.Accept(t.Context(), hostEnd)
		done <- outcome{c, err}
	}()
	c, err := p.guest.Dial(t.Context(), guestEnd, resume)
	host, guest = <-done, outcome{c, err}
	t.Cleanup(func() {
		// A net.Pipe has no buffer: each end's close_notify needs a reader, or the
		// pipe closed under it.
		guestEnd.Close()
		hostEnd.Close()
	})
	return host, guest
}

func (p *pair) mustMeet(t testing.TB, resume *Resumption) (host, guest *Conn) {
	t.Helper()
	a, b := net.Pipe()
	h, g := p.meet(t, a, b, resume)
	if h.err != nil || g.err != nil {
		t.Fatalf("host: %v, guest: %v", h.err, g.err)
	}
	return h.conn, g.conn
}

func TestMeet(t *testing.T) {
	alice, bob := newIdentity(t, "alice@laptop"), newIdentity(t, "bob@box")
	p := newPair(t, alice)
	p.host.Identity = bob
	h, g := p.mustMeet(t, nil)

	if id := g.tls.ConnectionState().CurveID; id != tls.X25519MLKEM768 {
		t.Errorf("key agreement %v, want X25519MLKEM768", id)
	}
	if v := h.tls.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("TLS version %#x", v)
	}
	hp, gp := h.Peer(), g.Peer()
	if keys.Fingerprint(hp.Key) != keys.Fingerprint(alice.Public()) || hp.Comment != "alice@laptop" ||
		hp.Role != keys.RoleType || hp.Software != "test 1" {
		t.Errorf("the host sees %+v", hp)
	}
	if keys.Fingerprint(gp.Key) != keys.Fingerprint(bob.Public()) || gp.Comment != "bob@box" ||
		gp.Role != keys.RoleType || string(gp.Info) != "80x24, at home" {
		t.Errorf("the guest sees %+v", gp)
	}
	if hp.Guest != gp.Guest || hp.Guest == (GuestID{}) || !bytes.Equal(hp.Secret, gp.Secret) || len(hp.Secret) != SecretSize {
		t.Error("the two ends disagree about the guest's name or secret")
	}
	hk, err := h.Export("a label", 32)
	if err != nil {
		t.Fatal(err)
	}
	if gk, err := g.Export("a label", 32); err != nil || !bytes.Equal(hk, gk) {
		t.Error("exported keying material differs")
	}

	sent := make(chan error, 1)
	go func() { sent <- h.Send(t.Context(), []byte("an offer")) }()
	if p, err := g.Recv(t.Context()); err != nil || string(p) != "an offer" {
		t.Errorf("Recv = %q, %v", p, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Recv(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Recv with a cancelled context: %v", err)
	}
}

func TestRefused(t *testing.T) {
	alice, mallory := newIdentity(t, "alice"), newIdentity(t, "mallory\x1b[2J")
	for _, tc := range []struct {
		name      string
		authorize func(context.Context, Offer, bool, func(string) error) (Grant, error)
		code      RefusalCode
		signs     int32
	}{
		{"not on the list", allow(alice), RefusedNotAllowed, 0},
		{"nobody on the list", allow(), RefusedNotAllowed, 0},
		{"expired", func(context.Context, Offer, bool, func(string) error) (Grant, error) {
			return Grant{}, &RefusedError{Code: RefusedExpired, Text: "expired"}
		}, RefusedExpired, 0},
		{"taken off while proving", func(_ context.Context, _ Offer, proven bool, _ func(string) error) (Grant, error) {
			if proven {
				return Grant{}, keys.ErrNotAllowed
			}
			return Grant{Role: keys.RoleType}, nil
		}, RefusedNotAllowed, 1},
		{"the person said no", func(_ context.Context, _ Offer, proven bool, hold func(string) error) (Grant, error) {
			if proven {
				if err := hold("please wait"); err != nil {
					return Grant{}, err
				}
				return Grant{}, &RefusedError{Code: RefusedDenied, Text: "not now"}
			}
			return Grant{Role: keys.RoleType}, nil
		}, RefusedDenied, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mallory.signed.Store(0)
			p := newPair(t, mallory)
			p.host.Authorize = tc.authorize
			p.host.Info = func() []byte { t.Error("a refused guest is told about the session"); return nil }
			p.host.Identity = &identity{} // would panic if it were used
			a, b := net.Pipe()
			h, g := p.meet(t, a, b, nil)
			for who, err := range map[string]error{"host": h.err, "guest": g.err} {
				var r *RefusedError
				if !errors.As(err, &r) || r.Code != tc.code {
					t.Errorf("%s: %v, want refusal %d", who, err, tc.code)
					continue
				}
				if len(r.Offered) != 1 || r.Offered[0].Comment != mallory.comment {
					t.Errorf("%s: offered keys %+v", who, r.Offered)
				}
			}
			if n := mallory.signed.Load(); n != tc.signs {
				t.Errorf("%d proofs were made, want %d", n, tc.signs)
			}
		})
	}
}

func TestKeyOfSeveral(t *testing.T) {
	work, home, old := newIdentity(t, "work"), newIdentity(t, "home"), newIdentity(t, "old")
	p := newPair(t, old, work, home)
	p.host.Authorize = allow(home)
	h, _ := p.mustMeet(t, nil)
	if h.Peer().Comment != "home" {
		t.Errorf("admitted with key %q", h.Peer().Comment)
	}
	if old.signed.Load()+work.signed.Load() != 0 || home.signed.Load() != 1 {
		t.Error("other keys than the one that is allowed have signed")
	}
}

func TestWrongHost(t *testing.T) {
	alice := newIdentity(t, "alice")
	p := newPair(t, alice)
	p.guest.Pin[7]++
	a, b := net.Pipe()
	h, g := p.meet(t, a, b, nil)
	if !errors.Is(g.err, ErrWrongHost) || h.err == nil {
		t.Errorf("guest: %v, host: %v", g.err, h.err)
	}
	if alice.signed.Load() != 0 {
		t.Error("the guest has signed for a host that the ticket does not name")
	}
}

func TestInsistOnHostKey(t *testing.T) {
	alice, bob, eve := newIdentity(t, "alice"), newIdentity(t, "bob"), newIdentity(t, "eve")
	want := keys.NewList(keys.Entry{Key: bob.Public(), Role: keys.RoleType})
	locked := newIdentity(t, "locked agent")
	locked.err = errors.New("agent is locked")
	for _, tc := range []struct {
		name string
		id   *identity
		ok   bool
	}{{"the right one", bob, true}, {"another", eve, false}, {"none", nil, false}, {"cannot sign", locked, false}} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, alice)
			p.guest.HostKeys = want
			if tc.id != nil {
				p.host.Identity = tc.id
			}
			a, b := net.Pipe()
			_, g := p.meet(t, a, b, nil)
			if tc.ok != (g.err == nil) || (!tc.ok && !errors.Is(g.err, ErrHostKey)) {
				t.Errorf("guest: %v", g.err)
			}
		})
	}
}

func TestResume(t *testing.T) {
	alice := newIdentity(t, "alice")
	p := newPair(t, alice)
	h, g := p.mustMeet(t, nil)
	first := h.Peer()
	p.host.Resume = func(id GuestID) ([]byte, keys.Role, bool) {
		return first.Secret, keys.RoleView, id == first.Guest
	}
	alice.signed.Store(0)

	resume := &Resumption{Guest: g.Peer().Guest, Secret: g.Peer().Secret}
	h, g = p.mustMeet(t, resume)
	if !h.Peer().Resumed || !g.Peer().Resumed || h.Peer().Guest != first.Guest || g.Peer().Role != keys.RoleView {
		t.Errorf("host sees %+v, guest %+v", h.Peer(), g.Peer())
	}
	if alice.signed.Load() != 0 {
		t.Error("the guest had to prove its key again")
	}

	t.Run("wrong secret", func(t *testing.T) {
		h, g := p.mustMeet(t, &Resumption{Guest: first.Guest, Secret: make([]byte, SecretSize)})
		if h.Peer().Resumed || g.Peer().Resumed || alice.signed.Swap(0) != 1 {
			t.Error("resumed with a secret that is not the guest's")
		}
	})
	t.Run("unknown guest", func(t *testing.T) {
		h, g := p.mustMeet(t, &Resumption{Guest: GuestID{1}, Secret: first.Secret})
		if h.Peer().Resumed || g.Peer().Resumed || h.Peer().Guest == (GuestID{1}) {
			t.Error("resumed a guest that is not known")
		}
	})
}

// TestResumeInsteadOfProof has a guest that is let in through another tunnel after it has
// offered its keys in this one.
func TestResumeInsteadOfProof(t *testing.T) {
	alice := newIdentity(t, "alice")
	p := newPair(t, alice)
	h, _ := p.mustMeet(t, nil)
	first := h.Peer()
	p.host.Resume = func(id GuestID) ([]byte, keys.Role, bool) {
		return first.Secret, keys.RoleView, id == first.Guest
	}
	for _, tc := range []struct {
		name    string
		instead Resumption
		ok      bool
	}{
		{"known", Resumption{first.Guest, first.Secret}, true},
		{"wrong secret", Resumption{first.Guest, make([]byte, SecretSize)}, false},
		{"unknown guest", Resumption{GuestID{1}, first.Secret}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			alice.signed.Store(0)
			p.guest.Instead = func(context.Context) (*Resumption, error) { return &tc.instead, nil }
			a, b := net.Pipe()
			h, g := p.meet(t, a, b, nil)
			if alice.signed.Load() != 0 {
				t.Error("a proof was made")
			}
			if tc.ok {
				if h.err != nil || g.err != nil || !h.conn.Peer().Resumed || !g.conn.Peer().Resumed || h.conn.Peer().Guest != first.Guest {
					t.Errorf("host: %+v, guest: %+v", h, g)
				}
				return
			}
			var r *RefusedError
			if !errors.As(g.err, &r) || r.Code != RefusedUnknown || h.err == nil {
				t.Errorf("host: %v, guest: %v", h.err, g.err)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		p.guest.Instead = func(context.Context) (*Resumption, error) { return nil, nil }
		if h, _ := p.mustMeet(t, nil); h.Peer().Resumed || alice.signed.Load() != 1 {
			t.Error("no proof was made")
		}
	})
}

// TestRelayedProof has an attacker who hosts a session of his own and whose
// ticket the victim uses: he passes everything on to the real host and back.
func TestRelayedProof(t *testing.T) {
	alice := newIdentity(t, "alice")
	honest := newPair(t, alice)
	trap := newPair(t, alice)

	trapEnd, aliceEnd := net.Pipe()
	hostEnd, attackerEnd := net.Pipe()
	defer hostEnd.Close()
	defer attackerEnd.Close()

	relayed := &relay{identity: newIdentity(t, "relay"), victim: alice}
	attacker := &Guest{Pin: honest.guest.Pin, Identities: []keys.Identity{relayed}}
	hostErr := make(chan error, 1)
	go func() {
		_, err := honest.host.Accept(t.Context(), hostEnd)
		hostErr <- err
	}()
	// What alice signs in the attacker's tunnel is what he offers as the proof in his own.
	trap.host.Authorize = func(_ context.Context, o Offer, proven bool, _ func(string) error) (Grant, error) {
		return Grant{Role: keys.RoleType}, nil
	}
	relayed.obtain = func() []byte {
		var stolen []byte
		capture := *trap.guest
		capture.Identities = []keys.Identity{&tee{identity: alice, seen: &stolen}}
		trap.guest = &capture
		trap.meet(t, trapEnd, aliceEnd, nil)
		return stolen
	}
	_, err := attacker.Dial(t.Context(), attackerEnd, nil)
	var r *RefusedError
	if !errors.As(err, &r) || r.Code != RefusedProof {
		t.Errorf("attacker: %v, want his proof refused", err)
	}
	if err := <-hostErr; !errors.As(err, &r) || r.Code != RefusedProof {
		t.Errorf("host: %v", err)
	}
}

// relay offers the victim's public key and proves it with what obtain gets.
type relay struct {
	*identity
	victim *identity
	obtain func() []byte
}

func (r *relay) Public() ssh.PublicKey { return r.victim.Public() }
func (r *relay) Sign(context.Context, string, []byte) ([]byte, error) {
	return r.obtain(), nil
}

// tee keeps a copy of the last proof.
type tee struct {
	*identity
	seen *[]byte
}

func (i *tee) Sign(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	sig, err := i.identity.Sign(ctx, namespace, message)
	*i.seen = sig
	return sig, err
}

// TestReflectedProof sends the host's own proof back as a guest's.
func TestReflectedProof(t *testing.T) {
	bob := newIdentity(t, "bob, on his own list")
	p := newPair(t, bob)
	msg := []byte("the same connection")
	sig, err := keys.Sign(bob.signer, hostNamespace, msg)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Verify(bob.Public(), guestNamespace, msg, sig); err == nil {
		t.Error("a host's proof passes for a guest's")
	}
	h, g := p.mustMeet(t, nil)
	a, _ := proofMessage(h.tls, guestProofLabel)
	b, _ := proofMessage(g.tls, hostProofLabel)
	if bytes.Equal(a, b) {
		t.Error("the two directions sign the same message")
	}
}

// TestHostileServer lets the pipe between the two damage what it carries.
func TestHostileServer(t *testing.T) {
	flip := func(at int) func(int, []byte) []byte {
		return func(off int, p []byte) []byte {
			if at >= off && at < off+len(p) {
				p[at-off] ^= 0x20
			}
			return p
		}
	}
	cases := map[string]func(int, []byte) []byte{
		"drops":     func(off int, p []byte) []byte { return p[:0] },
		"truncates": func(off int, p []byte) []byte { return p[:len(p)-1] },
		"repeats":   func(off int, p []byte) []byte { return append(p, p...) },
		"reverses": func(off int, p []byte) []byte {
			for i, j := 0, len(p)-1; i < j; i, j = i+1, j-1 {
				p[i], p[j] = p[j], p[i]
			}
			return p
		},
		"speaks HTTP": func(int, []byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
	}
	for _, at := range []int{0, 3, 5, 40, 200, 700, 1300, 1600, 1900} {
		cases["flips a bit at "+string(rune('0'+at%10))+" of "+time.Duration(at).String()] = flip(at)
	}
	for name, damage := range cases {
		for _, direction := range []string{"to the host", "to the guest"} {
			t.Run(name+" "+direction, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					alice := newIdentity(t, "alice")
					p := newPair(t, alice)
					hostEnd, serverHost := net.Pipe()
					guestEnd, serverGuest := net.Pipe()
					none := func(_ int, p []byte) []byte { return p }
					up, down := damage, none
					if direction == "to the guest" {
						up, down = none, damage
					}
					go forward(serverHost, serverGuest, up)
					go forward(serverGuest, serverHost, down)
					start := time.Now()
					h, g := p.meet(t, hostEnd, guestEnd, nil)
					serverHost.Close()
					serverGuest.Close()
					if h.err == nil && g.err == nil {
						// The damage lay beyond the handshake's bytes in this direction.
						if h.conn.Peer().Guest != g.conn.Peer().Guest {
							t.Error("two different tunnels")
						}
						return
					}
					if d := time.Since(start); d > proofTimeout+openTimeout {
						t.Errorf("it took %v", d)
					}
				})
			})
		}
	}
}

// forward copies from src to dst through damage until either ends.
func forward(dst, src net.Conn, damage func(int, []byte) []byte) {
	defer dst.Close()
	defer src.Close()
	buf, off := make([]byte, 64<<10), 0
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if _, err := dst.Write(damage(off, bytes.Clone(buf[:n]))); err != nil {
			return
		}
		off += n
	}
}

// TestSilence lets each end face a peer that says nothing.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, newIdentity(t, "alice"))
		a, b := net.Pipe()
		defer b.Close()
		start := time.Now()
		if _, err := p.host.Accept(t.Context(), a); err == nil {
			t.Error("the host has accepted silence")
		}
		if d := time.Since(start); d > openTimeout {
			t.Errorf("the host waited %v", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, newIdentity(t, "alice"))
		a, b := net.Pipe()
		go io.Copy(io.Discard, a)
		defer a.Close()
		start := time.Now()
		if _, err := p.guest.Dial(t.Context(), b, nil); !errors.Is(err, ErrSilent) {
			t.Errorf("guest: %v", err)
		}
		if d := time.Since(start); d > openTimeout {
			t.Errorf("the guest waited %v", d)
		}
	})
}

// TestOtherALPN meets TLS servers and clients that speak something else.
func TestOtherALPN(t *testing.T) {
	p := newPair(t, newIdentity(t, "alice"))
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12})
		c.Handshake()
		b.Close()
	}()
	if _, err := p.host.Accept(t.Context(), a); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	c, d := net.Pipe()
	defer c.Close()
	go func() {
		c := tls.Client(d, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{alpn}})
		c.Handshake()
		d.Close()
	}()
	if _, err := p.host.Accept(t.Context(), c); err == nil {
		t.Error("a key agreement that is not post-quantum was accepted")
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range []message{
		hello{Version: 1, Software: "x", Keys: []offeredKey{{[]byte("blob"), "c"}, {nil, ""}}},
		hello{Guest: make([]byte, 16), MAC: make([]byte, 32)},
		challenge{3}, hold{"wait"}, proof{[]byte("sig")}, resume{Guest: GuestID{1}, MAC: [macSize]byte{2}},
		welcome{Role: 2, Key: []byte("k"), Comment: "c", Proof: []byte("p"), Info: []byte("i")},
		welcome{Resumed: true, MAC: make([]byte, 32)},
		refusal{RefusedDenied, "no"}, data{[]byte("payload")},
	} {
		b, err := appendFrame(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := readMessage(bytes.NewReader(frame))
		if err != nil {
			return
		}
		again, err := appendFrame(nil, m)
		if err != nil {
			t.Fatalf("%T %+v cannot be encoded: %v", m, m, err)
		}
		if !bytes.HasPrefix(frame, again) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", frame, m, again)
		}
	})
}

// A guest with more keys than a hello has room for is told how many were left out.
func TestWithheld(t *testing.T) {
	var ids []*identity
	for range MaxKeys + 3 {
		ids = append(ids, newIdentity(t, "one of many"))
	}
	p := newPair(t, ids...)
	p.host.Authorize = allow(ids[MaxKeys])
	a, b := net.Pipe()
	_, guest := p.meet(t, a, b, nil)
	var refused *RefusedError
	if !errors.As(guest.err, &refused) || len(refused.Offered) != MaxKeys || refused.Withheld != 3 {
		t.Errorf("the guest's end: %+v", guest.err)
	}
}

func TestFrameLimits(t *testing.T) {
	if _, err := readMessage(bytes.NewReader([]byte{typeData, 0xff, 0xff, 0xff})); err == nil {
		t.Error("an oversized frame is read")
	}
	if _, err := appendFrame(nil, data{make([]byte, MaxPayload+1)}); err == nil {
		t.Error("an oversized frame is made")
	}
	var many hello
	for range MaxKeys + 1 {
		many.Keys = append(many.Keys, offeredKey{Blob: []byte("k")})
	}
	b, err := appendFrame(nil, many)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readMessage(bytes.NewReader(b)); err == nil {
		t.Error("too many keys are read")
	}
}

// BenchmarkHandshake is a whole tunnel, proofs included, over a pipe in memory.
func BenchmarkHandshake(b *testing.B) {
	p := newPair(b, newIdentity(b, "alice"))
	p.host.Identity = newIdentity(b, "bob")
	b.ReportAllocs()
	for b.Loop() {
		p.mustMeet(b, nil)
	}
}
