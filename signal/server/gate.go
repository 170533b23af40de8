package server

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/signal"
)

// Gate controls who may use a server: people whose SSH keys are on a list, who
// prove it when they connect. Hosts are always asked.
//
// A key that is taken from the list loses what it has: its rooms are closed and,
// if Guests is set, its pipes. [Server.Run] sees to that.
type Gate struct {
	// Guests says that guests are asked too.
	Guests bool

	// List returns the list as it is now, for instance [keys.Allowlist.Current].
	// It is called by many goroutines. An empty list, nil or no function at all
	// admits nobody.
	List func() *keys.List

	// Changes receives a value when List returns another list, for instance
	// [keys.Allowlist.Changes]; may be nil.
	Changes <-chan struct{}
}

// recheckEvery is how often keys of live connections are looked up again when
// nothing has changed, for certificates that expire.
const recheckEvery = time.Minute

// person is a key that was proven.
type person struct {
	key         ssh.PublicKey
	fingerprint string
	comment     string
}

func (g *Gate) list() *keys.List {
	if g.List == nil {
		return nil
	}
	return g.List()
}

// look decides about a key at this moment. Nobody logs in here, so certificates
// count only by cert-authority lines that say which principals do.
func (g *Gate) look(key ssh.PublicKey) (*person, error) {
	m, err := g.list().Lookup(key, time.Now())
	if err != nil {
		return nil, err
	}
	return &person{key, keys.Fingerprint(key), keys.Printable(m.Entry.Comment)}, nil
}

// challenge greets a client, which, if gated, must prove a key that is on the
// list; c.person is then whose it is. The name is what the client's request
// called the server. What the client has to say next it must say until deadline.
func (s *Server) challenge(c *conn, name string, gated bool) (nonce [32]byte, deadline time.Time, err error) {
	deadline = c.since.Add(s.limits.Handshake)
	rand.Read(nonce[:]) // never fails, see its documentation
	if err := c.send((&signal.ChallengeMsg{Prove: gated, Nonce: nonce}).Append(nil), nil); err != nil {
		return nonce, deadline, err
	}
	if !gated {
		return nonce, deadline, nil
	}
	p, err := s.choose(c, deadline)
	if err != nil {
		return nonce, deadline, err
	}
	deadline = deadline.Add(s.limits.Proof)
	msg, err := c.receiveMessage(deadline, signal.MaxProve)
	if err != nil {
		return nonce, deadline, err
	}
	proof, ok := msg.(*signal.ProveMsg)
	if !ok {
		return nonce, deadline, &refusal{code: signal.CodeProtocol, text: "a proof is asked for first"}
	}
	if err := s.checkName(proof.Name, name); err != nil {
		return nonce, deadline, err
	}
	if err := keys.Verify(p.key, signal.ProveNamespace, signal.ProveInput(proof.Name, nonce), proof.Proof); err != nil {
		s.log.Warn("denied", "addr", s.shown(c.addr), "key", p.fingerprint, "comment", p.comment, "why", err)
		return nonce, deadline, &refusal{code: signal.CodeNotAllowed, text: "the proof does not hold"}
	}
	if wait, ok := s.keyUse.acquire(p.fingerprint, time.Now(), &s.limits); !ok {
		s.log.Warn("refused", "why", "key limit", "addr", s.shown(c.addr), "key", p.fingerprint, "comment", p.comment)
		return nonce, deadline, &refusal{code: signal.CodeRateLimited, text: "your key is in use too often", wait: wait}
	}
	s.allowed.Add(1)
	s.log.Info("allowed", "addr", s.shown(c.addr), "key", p.fingerprint, "comment", p.comment)
	c.person = p
	return nonce, deadline, nil
}

// choose picks the first of the keys that a client offers which is on the list.
func (s *Server) choose(c *conn, deadline time.Time) (*person, error) {
	msg, err := c.receiveMessage(deadline, signal.MaxOffer)
	if err != nil {
		return nil, err
	}
	offer, ok := msg.(*signal.OfferMsg)
	if !ok {
		return nil, &refusal{code: signal.CodeProtocol, text: "an offer of keys is asked for first"}
	}
	refused := &refusal{code: signal.CodeNotAllowed, text: "none of your keys is on its list"}
	var offered []string
	for i, blob := range offer.Keys {
		key, err := ssh.ParsePublicKey(blob)
		if err == nil {
			err = keys.CheckKey(key)
		}
		if err != nil {
			continue // of a kind that we do not know; the client has others
		}
		p, err := s.config.Gate.look(key)
		if err == nil {
			return p, c.send((&signal.ChoiceMsg{Index: uint8(i)}).Append(nil), nil)
		}
		if errors.Is(err, keys.ErrExpired) {
			refused.text = "your key has expired on its list"
		}
		offered = append(offered, keys.Fingerprint(key))
	}
	s.log.Warn("denied", "addr", s.shown(c.addr), "keys", offered, "why", refused.text)
	return nil, refused
}

// keep looks the client's key up once more, now that revoke can end what it is
// about to be given, and has it looked up from now on. It does nothing for
// clients that were not asked for a key.
func (s *Server) keep(c *conn, revoke func(*signal.GoodbyeMsg)) error {
	if c.person == nil {
		return nil
	}
	s.mu.Lock()
	c.revoke = revoke
	s.mu.Unlock()
	if _, err := s.config.Gate.look(c.person.key); err != nil {
		return &refusal{code: signal.CodeNotAllowed, text: revokedText}
	}
	return nil
}

const revokedText = "your key was taken from its list, or has expired"

// recheck ends what belongs to keys that are not on the list any more.
func (s *Server) recheck() {
	var holders []*conn
	s.mu.Lock()
	for c := range s.conns {
		if c.revoke != nil {
			holders = append(holders, c)
		}
	}
	s.mu.Unlock()
	for _, c := range holders {
		if _, err := s.config.Gate.look(c.person.key); err != nil {
			s.revoke(c, err)
		}
	}
}

// revoke ends what c was given, once, unless the server is closing anyway.
func (s *Server) revoke(c *conn, why error) {
	s.mu.Lock()
	revoke := c.revoke
	c.revoke = nil
	if s.closing || revoke == nil {
		s.mu.Unlock()
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	s.log.Warn("revoked", append(c.attrs(), "why", why)...)
	go func() {
		defer s.wg.Done()
		revoke(&signal.GoodbyeMsg{Code: signal.CodeNotAllowed, Text: revokedText})
	}()
}

// watchGate rechecks whenever it may be necessary, until ctx ends.
func (s *Server) watchGate(ctx context.Context) error {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.config.Gate.Changes:
			s.log.Info("the list of keys has changed", "keys", s.config.Gate.list().Len())
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		s.recheck()
	}
}
