//go:build linux

package server_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// fullTable is a listener of a process whose table of file descriptors is full
// until it is emptied.
type fullTable struct {
	net.Listener

	mu    sync.Mutex
	full  bool // guarded by mu
	asked chan struct{}
}

func (l *fullTable) Accept() (net.Conn, error) {
	l.mu.Lock()
	full := l.full
	l.mu.Unlock()
	if full {
		select {
		case l.asked <- struct{}{}:
		default:
		}
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func (l *fullTable) set(full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

// With no file descriptors left the server says so, serves whom it has, and
// goes on when there are some again.
func TestFullFileTable(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &fullTable{Listener: inner, asked: make(chan struct{}, 1)}
	var log lockedBuffer
	s := startOn(t, server.Config{Logger: slog.New(slog.NewTextHandler(io.Writer(&log), nil))}, l, "ws://"+inner.Addr().String())
	guest, host := signaltest.Pair(t, s.url, signaltest.Register(t, s.url, signaltest.NewKey(t), nil))

	l.set(true)
	// The Accept that waits already still succeeds; it is the next that fails.
	if _, _, err := signal.Dial(signaltest.Context(t), s.url, signal.Room{}, nil); !errors.Is(err, signal.ErrNoRoom) {
		t.Fatal(err)
	}
	<-l.asked
	waitFor(t, func() bool { return strings.Contains(log.String(), "cannot accept connections") })
	if !strings.Contains(log.String(), "too many open files") {
		t.Errorf("the log says\n%s", log.String())
	}
	signaltest.Exchange(t, guest, host, []byte("we are connected"))
	l.set(false)
	signaltest.Register(t, s.url, signaltest.NewKey(t), nil)
}
