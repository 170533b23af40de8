package tunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

// Host accepts guests. Its fields are set once, before the first Accept,
// which many goroutines may call at once.
type Host struct {
	// Identity is the SSH key that the host proves to guests it has admitted;
	// nil for none.
	Identity keys.Identity
	// Authorize decides whether key may come in. It is asked first for each
	// key that a guest offers, with proven false, until it says yes, and
	// again with proven true when the guest has proved that one; only the
	// second answer counts. hold, only given then, tells the guest that a
	// person is being asked. A *RefusedError is passed on; any other
	// error refuses as RefusedNotAllowed without details.
	Authorize func(ctx context.Context, offer Offer, proven bool, hold func(text string) error) (Grant, error)
	// Resume returns the secret and role of a guest that may come back
	// without a proof. It may be nil.
	Resume func(GuestID) (secret []byte, role keys.Role, ok bool)
	// Info returns what is said of the host to a guest that was admitted.
	Info func() []byte

	cert tls.Certificate
}

// Grant is what a host gives to the holder of a key.
type Grant struct {
	Role keys.Role
	// Until is when the grant ends; zero means never.
	Until time.Time
	// Name is what the host's list calls the key; empty leaves it what the guest says.
	Name string
}

// NewHost returns a Host that proves session key key.
func NewHost(key ed25519.PrivateKey) (*Host, error) {
	cert, err := certificate(key)
	if err != nil {
		return nil, err
	}
	return &Host{cert: cert}, nil
}

// Accept runs the host's side of the handshake over pipe, which it owns from
// then on. Errors: [*RefusedError] for a guest that was refused, those of
// pipe, and ctx's.
func (h *Host) Accept(ctx context.Context, pipe net.Conn) (*Conn, error) {
	cfg := config()
	cfg.Certificates = []tls.Certificate{h.cert}
	c := &Conn{tls: tls.Server(pipe, cfg)}
	stop := context.AfterFunc(ctx, func() { pipe.Close() })
	err := h.handshake(ctx, c)
	var refused *RefusedError
	if errors.As(err, &refused) {
		// Best effort, and bounded: the guest may be gone or not reading.
		c.tls.SetDeadline(time.Now().Add(openTimeout))
		if c.write(refusal{Code: refused.Code, Text: refused.Text}) == nil {
			c.tls.Close()
		}
	}
	return finish(ctx, stop, c, pipe, err)
}

func (h *Host) handshake(ctx context.Context, c *Conn) error {
	c.tls.SetDeadline(time.Now().Add(openTimeout))
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return err
	}
	if c.tls.ConnectionState().NegotiatedProtocol != alpn {
		return fmt.Errorf("the guest does not speak %q", alpn)
	}
	hi, err := expect[hello](c)
	if err != nil {
		return err
	}
	if hi.Version != Version {
		return &RefusedError{Code: RefusedVersion, Offered: offers(hi.Keys),
			Text: fmt.Sprintf("this host speaks protocol version %d, the guest %d", Version, hi.Version)}
	}
	c.peer.Software = hi.Software
	if len(hi.Guest) > 0 {
		if resumed, err := h.resume(c, GuestID(hi.Guest), hi.MAC); resumed || err != nil {
			return err
		}
	}
	return h.admit(ctx, c, hi)
}

// errUnknown refuses a guest that is not known, or not any more.
var errUnknown = &RefusedError{Code: RefusedUnknown, Text: "the host does not know this session any more"}

// resume welcomes a guest that proves its resumption secret.
func (h *Host) resume(c *Conn, id GuestID, proof []byte) (bool, error) {
	if h.Resume == nil {
		return false, nil
	}
	secret, role, ok := h.Resume(id)
	if !ok {
		return false, nil
	}
	want, err := resumeMAC(c.tls, guestResumeLabel, secret)
	if err != nil {
		return false, err
	}
	if !hmac.Equal(proof, want) {
		return false, nil
	}
	mac, err := resumeMAC(c.tls, hostResumeLabel, secret)
	if err != nil {
		return false, err
	}
	c.peer.Guest, c.peer.Role, c.peer.Resumed, c.peer.Secret = id, role, true, secret
	return true, c.write(welcome{Resumed: true, Role: uint8(role), Guest: id, MAC: mac, Info: h.Info()})
}

// admit asks for a proof with the first offered key that may come in.
func (h *Host) admit(ctx context.Context, c *Conn, hi hello) error {
	offered := offers(hi.Keys)
	refuse := func(err error) error {
		var r *RefusedError
		if !errors.As(err, &r) {
			r = &RefusedError{Code: RefusedNotAllowed, Text: "none of the keys offered is on the host's list"}
		}
		r.Offered = offered
		return r
	}
	if len(hi.Guest) > 0 && len(hi.Keys) == 0 {
		return refuse(errUnknown)
	}
	index, offer, err := h.choose(ctx, hi)
	if err != nil {
		return refuse(err)
	}
	if err := c.write(challenge{Index: uint8(index)}); err != nil {
		return err
	}
	c.tls.SetDeadline(time.Now().Add(proofTimeout))
	m, err := readMessage(c.tls)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(&RefusedError{Code: RefusedProof, Text: "no proof of the key came in time"})
	}
	if err != nil {
		return err
	}
	var answer proof
	switch m := m.(type) {
	case proof:
		answer = m
	case resume:
		c.tls.SetDeadline(time.Now().Add(openTimeout))
		if resumed, err := h.resume(c, m.Guest, m.MAC[:]); resumed || err != nil {
			return err
		}
		return refuse(errUnknown)
	default:
		return fmt.Errorf("unexpected message of type %d", m.kind())
	}
	msg, err := proofMessage(c.tls, guestProofLabel)
	if err != nil {
		return err
	}
	if err := keys.Verify(offer.Key, guestNamespace, msg, answer.Signature); err != nil {
		return refuse(&RefusedError{Code: RefusedProof, Text: "the proof of the key is not good"})
	}
	c.tls.SetDeadline(time.Time{}) // a person's word takes its time; ctx bounds it
	grant, err := h.Authorize(ctx, offer, true, func(text string) error {
		return c.write(hold{Text: truncate(text, 255)})
	})
	if err != nil {
		return refuse(err)
	}
	c.tls.SetDeadline(time.Now().Add(openTimeout))
	if grant.Name != "" {
		offer.Comment = grant.Name
	}
	return h.welcome(ctx, c, offer, grant.Role)
}

// choose returns the first offered key that Authorize lets prove itself. Of
// several refusals the first that says more than "not allowed" counts.
func (h *Host) choose(ctx context.Context, hi hello) (int, Offer, error) {
	var refused error
	for i, k := range hi.Keys {
		key, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			continue // a key type of a later OpenSSH; the others still count
		}
		offer := Offer{Key: key, Comment: k.Comment}
		_, err = h.Authorize(ctx, offer, false, nil)
		if err == nil {
			return i, offer, nil
		}
		var r *RefusedError
		if errors.As(err, &r) && (refused == nil || r.Code != RefusedNotAllowed) {
			refused = err
		}
	}
	if refused == nil {
		refused = &RefusedError{Code: RefusedNotAllowed, Text: "none of the keys offered is on the host's list"}
	}
	return 0, Offer{}, refused
}

// welcome proves the host's own key and tells about the session.
func (h *Host) welcome(ctx context.Context, c *Conn, guest Offer, role keys.Role) error {
	w := welcome{Role: uint8(role), Info: h.Info()}
	rand.Read(w.Guest[:])
	if h.Identity != nil {
		msg, err := proofMessage(c.tls, hostProofLabel)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		sig, err := h.Identity.Sign(ctx, hostNamespace, msg)
		// A locked agent must not keep everybody out: the guest still has the
		// session key's proof, and one that insists on more will say so.
		if err == nil {
			w.Key, w.Comment, w.Proof = h.Identity.Public().Marshal(), truncate(h.Identity.Comment(), 255), sig
		}
		c.tls.SetDeadline(time.Now().Add(openTimeout))
	}
	secret, err := c.Export(secretLabel, SecretSize)
	if err != nil {
		return err
	}
	c.peer.Key, c.peer.Comment = guest.Key, guest.Comment
	c.peer.Role, c.peer.Guest, c.peer.Secret = role, w.Guest, secret
	return c.write(w)
}

// offers parses the keys of a hello, leaving out what cannot be read.
func offers(ks []offeredKey) []Offer {
	var out []Offer
	for _, k := range ks {
		if key, err := ssh.ParsePublicKey(k.Blob); err == nil {
			out = append(out, Offer{Key: key, Comment: k.Comment})
		}
	}
	return out
}
