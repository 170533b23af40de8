package tunnel

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/signal"
)

// Guest dials hosts. Its fields are set once, before the first Dial.
type Guest struct {
	// Pin is the ticket's: SHA-256 of the session key's SubjectPublicKeyInfo.
	Pin [32]byte
	// Identities are offered in this order, MaxKeys at most.
	Identities []keys.Identity
	// HostKeys, if not nil, is the list of which the host must prove a key.
	HostKeys *keys.List
	// Software names this program and its version.
	Software string
	// OnAuthorizing is called when the host has asked for a proof with id,
	// and OnHold when it waits for a person's word. Either may be nil.
	OnAuthorizing func(id keys.Identity)
	OnHold        func(text string)
	// Instead, if not nil, is asked before a proof is made. What it returns, if
	// not nil, is shown in place of the proof: another tunnel may have been let
	// in meanwhile. It may wait, as long as ctx allows.
	Instead func(ctx context.Context) (*Resumption, error)
	// Eager makes the proof of the one identity go out with the hello, before the host has
	// asked for it, which saves a round trip. It is for identities that ask nobody:
	// otherwise a person would be asked on behalf of hosts that do not want the key.
	Eager bool
}

// Resumption lets a guest that was admitted before come back without a new
// proof.
type Resumption struct {
	Guest  GuestID
	Secret []byte
}

// Dial runs the guest's side of the handshake over pipe, which it owns from
// then on. With resume it first offers that; a host that does not know it any
// more asks for a proof instead, which Conn.Peer tells. Errors:
// [*RefusedError], [ErrWrongHost], [ErrHostKey], [ErrBroken], [ErrSilent],
// those of the identity's Sign, and ctx's.
func (g *Guest) Dial(ctx context.Context, pipe net.Conn, resume *Resumption) (*Conn, error) {
	c := g.client(pipe)
	stop := context.AfterFunc(ctx, func() { pipe.Close() })
	return finish(ctx, stop, c, pipe, g.handshake(ctx, c, resume))
}

// Meet finds out whether the host that the ticket pins is at the other end of pipe, which
// it owns from then on, and hangs up: nothing is offered or proved, and the host tells
// nobody. Errors: those of Dial, as far as they apply.
func (g *Guest) Meet(ctx context.Context, pipe net.Conn) error {
	c := g.client(pipe)
	defer context.AfterFunc(ctx, func() { pipe.Close() })()
	defer pipe.Close()
	c.tls.SetDeadline(time.Now().Add(openTimeout))
	if err := c.tls.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return unmet(err)
	}
	c.tls.Close() // says goodbye, so that the host does not wait for more
	return nil
}

// client is the guest's end of a tunnel before its handshake.
func (g *Guest) client(pipe net.Conn) *Conn {
	cfg := config()
	cfg.InsecureSkipVerify = true // VerifyConnection pins the key instead
	cfg.VerifyConnection = g.verifyPin
	return &Conn{tls: tls.Client(pipe, cfg)}
}

// verifyPin requires the one certificate to carry the pinned key. TLS itself
// has checked that the host holds it.
func (g *Guest) verifyPin(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) != 1 ||
		sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo) != g.Pin {
		return ErrWrongHost
	}
	if cs.NegotiatedProtocol != alpn {
		return fmt.Errorf("the host speaks %q, not %q", cs.NegotiatedProtocol, alpn)
	}
	return nil
}

func (g *Guest) handshake(ctx context.Context, c *Conn, resumption *Resumption) error {
	c.tls.SetDeadline(time.Now().Add(openTimeout))
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return unmet(err)
	}
	h := hello{Version: Version, Software: truncate(g.Software, 255)}
	var ids []keys.Identity
	room := MaxPayload - helloOverhead
	for _, id := range g.Identities[:min(len(g.Identities), MaxKeys)] {
		k := offeredKey{Blob: id.Public().Marshal(), Comment: truncate(id.Comment(), 255)}
		if room -= 3 + len(k.Blob) + len(k.Comment); room < 0 {
			break // many large certificates; the first ones are the likely ones
		}
		ids, h.Keys = append(ids, id), append(h.Keys, k)
	}
	if resumption != nil {
		mac, err := resumeMAC(c.tls, guestResumeLabel, resumption.Secret)
		if err != nil {
			return err
		}
		h.Guest, h.MAC = resumption.Guest[:], mac
	}
	if err := c.write(h); err != nil {
		return unmet(err)
	}
	// With one key there is nothing for the host to choose: it reads this as the answer to
	// its challenge, which is on its way here meanwhile.
	answered := g.Eager && len(ids) == 1 && resumption == nil
	if answered {
		var err error
		if resumption, err = g.answer(ctx, c, ids[0]); err != nil && !errors.Is(err, ErrSilent) && !errors.Is(err, ErrBroken) {
			return err
		}
		// A host that has hung up already has said why.
	}
	for {
		m, err := readMessage(c.tls)
		if err != nil {
			return unmet(err)
		}
		switch m := m.(type) {
		case challenge:
			if int(m.Index) >= len(ids) {
				return fmt.Errorf("the host asks for key %d of %d", m.Index, len(ids))
			}
			if answered {
				answered = false
				continue
			}
			if resumption, err = g.answer(ctx, c, ids[m.Index]); err != nil {
				return err
			}
		case hold:
			c.tls.SetDeadline(time.Time{}) // a person takes as long as a person takes
			if g.OnHold != nil {
				g.OnHold(keys.Printable(m.Text))
			}
		case refusal:
			return &RefusedError{Code: m.Code, Text: m.Text, Offered: offers(h.Keys), Withheld: len(g.Identities) - len(ids)}
		case welcome:
			return g.welcomed(c, m, resumption)
		default:
			return fmt.Errorf("unexpected message of type %d", m.kind())
		}
	}
}

// unmet says in the terms of this package why nothing sensible came from the
// host.
func unmet(err error) error {
	var (
		ne     net.Error
		closed *signal.PipeError
	)
	switch {
	case errors.Is(err, ErrWrongHost):
		return err
	case errors.As(err, &ne) && ne.Timeout():
		return ErrSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, net.ErrClosed), errors.Is(err, signal.ErrLost), errors.As(err, &closed):
		return fmt.Errorf("%w: %w", ErrSilent, err) // it hung up
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// answer answers the host's challenge for id: with a proof, or with the
// Resumption that it returns.
func (g *Guest) answer(ctx context.Context, c *Conn, id keys.Identity) (*Resumption, error) {
	if g.Instead != nil {
		ctx, cancel := context.WithTimeout(ctx, proofTimeout)
		defer cancel()
		r, err := g.Instead(ctx)
		if err != nil {
			return nil, err
		}
		if r != nil {
			mac, err := resumeMAC(c.tls, guestResumeLabel, r.Secret)
			if err != nil {
				return nil, err
			}
			c.tls.SetDeadline(time.Now().Add(openTimeout))
			if err := c.write(resume{Guest: r.Guest, MAC: [macSize]byte(mac)}); err != nil {
				return nil, unmet(err)
			}
			return r, nil
		}
	}
	return nil, g.prove(ctx, c, id)
}

// prove signs for id. A person may take long over it, which the host allows.
func (g *Guest) prove(ctx context.Context, c *Conn, id keys.Identity) error {
	if g.OnAuthorizing != nil {
		g.OnAuthorizing(id)
	}
	msg, err := proofMessage(c.tls, guestProofLabel)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	sig, err := id.Sign(ctx, guestNamespace, msg)
	if err != nil {
		return err
	}
	c.tls.SetDeadline(time.Now().Add(openTimeout))
	if err := c.write(proof{Signature: sig}); err != nil {
		return unmet(err)
	}
	return nil
}

// welcomed checks what the host proved and fills in c.peer.
func (g *Guest) welcomed(c *Conn, m welcome, resume *Resumption) error {
	c.peer = Peer{Role: keys.Role(m.Role), Guest: m.Guest, Resumed: m.Resumed, Info: m.Info}
	if m.Resumed {
		if resume == nil || m.Guest != resume.Guest {
			return errors.New("the host resumes what was not asked for")
		}
		want, err := resumeMAC(c.tls, hostResumeLabel, resume.Secret)
		if err != nil {
			return err
		}
		if !hmac.Equal(m.MAC, want) {
			return fmt.Errorf("%w: it does not know the session's resumption secret", ErrWrongHost)
		}
		c.peer.Secret = resume.Secret
		return nil
	}
	if err := g.verifyHost(c, m); err != nil {
		return err
	}
	var err error
	c.peer.Secret, err = c.Export(secretLabel, SecretSize)
	return err
}

// verifyHost checks the host's own SSH proof. One that is there must be good;
// whether it must be there is the user's choice.
func (g *Guest) verifyHost(c *Conn, m welcome) error {
	if len(m.Key) == 0 {
		if g.HostKeys != nil {
			return fmt.Errorf("%w: it proved no SSH key at all", ErrHostKey)
		}
		return nil
	}
	key, err := ssh.ParsePublicKey(m.Key)
	if err != nil {
		return fmt.Errorf("%w: unreadable key: %w", ErrHostKey, err)
	}
	msg, err := proofMessage(c.tls, hostProofLabel)
	if err != nil {
		return err
	}
	if err := keys.Verify(key, hostNamespace, msg, m.Proof); err != nil {
		return fmt.Errorf("%w: %w", ErrHostKey, err)
	}
	if g.HostKeys != nil {
		if _, err := g.HostKeys.Lookup(key, time.Now()); err != nil {
			return fmt.Errorf("%w: it proved %s", ErrHostKey, keys.Fingerprint(key))
		}
	}
	c.peer.Key, c.peer.Comment = key, m.Comment
	return nil
}
