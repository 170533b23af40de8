package tunnel

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// A probe shows whether the right host is there, and the host sees nobody who knocks.
func TestProbe(t *testing.T) {
	p := newPair(t, newIdentity(t, "alice@laptop"))
	_, otherPin := sessionKey(t)
	for name, tt := range map[string]struct {
		pin  [32]byte
		want error
	}{
		"the host":     {p.guest.Pin, nil},
		"another host": {otherPin, ErrWrongHost},
	} {
		a, b := net.Pipe()
		accepted := make(chan error, 1)
		go func() {
			_, err := p.host.Accept(t.Context(), a)
			accepted <- err
		}()
		// Identities would be offered in a handshake that goes on.
		g := &Guest{Pin: tt.pin, Identities: p.guest.Identities}
		if err := g.Meet(t.Context(), b); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var refused *RefusedError
		if err := <-accepted; err == nil || errors.As(err, &refused) {
			t.Errorf("%s: the host says %v, which it would report as a knock", name, err)
		}
	}

	// Whoever says nothing is given up on when the caller wishes.
	a, b := net.Pipe()
	defer a.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.guest.Meet(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent host: %v", err)
	}
}
