// Package signaltest is what the tests of several packages do with a signaling server:
// they register hosts, dial them, and send something through the pipe. What fails ends
// the test, so its functions must be called from the test's own goroutine; what was made
// ends with it.
package signaltest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
)

// NewKey makes a session key.
func NewKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// RoomOf is the room of the host that has a session key.
func RoomOf(key ed25519.PrivateKey) signal.Room {
	return signal.RoomOf(signal.Pin(key.Public().(ed25519.PublicKey)))
}

// Context ends in time for a report of who hangs.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// RandomBytes are n of them.
func RandomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Register registers a host; opts may be nil.
func Register(t testing.TB, url string, key ed25519.PrivateKey, opts *signal.Options) *signal.Registration {
	t.Helper()
	reg, err := signal.Register(Context(t), url, key, opts)
	if err != nil {
		t.Fatalf("register: %v", err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

// Dial is a guest's way into a room; opts may be nil.
func Dial(t testing.TB, url string, room signal.Room, opts *signal.Options) net.Conn {
	t.Helper()
	c, _, err := signal.Dial(Context(t), url, room, opts)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Accept is the host's end of the next guest's pipe.
func Accept(t testing.TB, reg *signal.Registration) net.Conn {
	t.Helper()
	c, err := reg.Accept(Context(t))
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Pair is a guest's pipe by way of the server at url, and the host's end of it.
func Pair(t testing.TB, url string, reg *signal.Registration) (guest, host net.Conn) {
	t.Helper()
	guest = Dial(t, url, reg.Info().Room, nil)
	return guest, Accept(t, reg)
}

// Exchange sends b from one end to the other.
func Exchange(t testing.TB, from, to net.Conn, b []byte) {
	t.Helper()
	_ = to.SetReadDeadline(time.Now().Add(20 * time.Second))
	if err := Transfer(from, to, b); err != nil {
		t.Fatal(err)
	}
	_ = to.SetReadDeadline(time.Time{})
}

// Transfer is Exchange without a test and a deadline, for goroutines of its own. Both ends
// may be the same one, if who is at the other end echoes.
func Transfer(from, to net.Conn, b []byte) error {
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(b)
		sent <- err
	}()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(to, got); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("%d bytes arrived, but others than were sent", len(b))
	}
	return nil
}

// An Acceptor is a host: a *signal.Registration or a *signal.Listener.
type Acceptor interface {
	Accept(context.Context) (net.Conn, error)
}

// Echo sends back what the guests of a host send, until ctx or the host ends. It returns
// when all of its guests have left.
func Echo(ctx context.Context, host Acceptor) {
	var guests sync.WaitGroup
	defer guests.Wait()
	for {
		c, err := host.Accept(ctx)
		if err != nil {
			return
		}
		guests.Go(func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		})
	}
}

// Meet goes to a host that echoes, by way of the first of some servers that leads there,
// and back: what a join needs of a signaling server.
func Meet(ctx context.Context, room signal.Room, b []byte, urls ...string) error {
	c, _, err := signal.DialAny(ctx, urls, room, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return Transfer(c, c, b)
}
