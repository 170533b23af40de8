package server_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// The gate's proofs here are the input with a letter before it; what they are in
// earnest is not for this package.
func TestGate(t *testing.T) {
	s := start(t, server.Config{Gate: &server.Gate{
		Hosts: true, Guests: true,
		Check: func(_ context.Context, input, proof []byte) (string, error) {
			if len(proof) > 0 && bytes.Equal(proof[1:], input) && proof[0] == 'a' {
				return "alice", nil
			}
			return "", errors.New("a stranger")
		},
	}})
	proving := func(who string) *signal.Options {
		return &signal.Options{Prove: func(_ context.Context, server string, input []byte) ([]byte, error) {
			if server != serverName(s.url) {
				t.Errorf("asked for a proof to %q", server)
			}
			return append([]byte(who), input...), nil
		}}
	}
	key := newKey(t)
	if _, err := signal.Register(testContext(t), s.url, key, nil); !errors.Is(err, signal.ErrProofRequired) {
		t.Errorf("a host without a proof: %v", err)
	}
	if _, err := signal.Register(testContext(t), s.url, key, proving("b")); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("a strange host: %v", err)
	}
	reg := register(t, s.url, key, proving("a"))
	if _, _, err := signal.Dial(testContext(t), s.url, roomOf(key), nil); !errors.Is(err, signal.ErrProofRequired) {
		t.Errorf("a guest without a proof: %v", err)
	}
	if _, _, err := signal.Dial(testContext(t), s.url, roomOf(key), proving("b")); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("a strange guest: %v", err)
	}
	guest := dial(t, s.url, roomOf(key), proving("a"))
	exchange(t, guest, accept(t, reg), []byte("hello"))

	// Proofs are not skipped by registering, nor usable at another server.
	r := dialRaw(t, s.url, signal.PathHost)
	c := r.challenge()
	if !c.Prove {
		t.Fatal("no proof asked for")
	}
	r.send(signed(key, serverName(s.url), c.Nonce))
	r.expectGoodbye(signal.CodeProtocol)

	r = dialRaw(t, s.url, signal.PathJoin+roomOf(key).String())
	c = r.challenge()
	r.send(&signal.ProveMsg{Name: "evil.example", Proof: append([]byte("a"), signal.ProveInput("evil.example", c.Nonce)...)})
	r.expectGoodbye(signal.CodeWrongServer)
}
