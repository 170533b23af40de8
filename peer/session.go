package peer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/seal"
	"github.com/pairterm/pairterm/peer/stream"
	"github.com/pairterm/pairterm/peer/tunnel"
)

// channelLabel is the tunnel's label for the secret from which the keys of a
// link's channels are derived.
const channelLabel = "EXPERIMENTAL pairterm channels v1"

// The largest datagram of the streams, sealed, must travel in one piece.
const _ = uint(link.MaxDatagram - seal.Overhead - stream.MaxDatagram)

// session is a link with its channels sealed.
type session struct {
	link    *link.Link
	secret  []byte // of the tunnel in which the link, or the one before it, was agreed
	sync    *seal.Channel
	control *seal.Channel
	moved   bool // it was made beside the session that it takes over from; set once

	early   []byte             // the first datagram on sync, if await took it; owned by who reads sync
	muted   atomic.Bool        // nothing is sent on sync any more
	roam    chan struct{}      // gets a value when the host's network has changed
	staying atomic.Bool        // its link is closed by linger, not by who has replaced it
	beside  chan controlBeside // messages for a link being set up beside this one
	closing sync.Once
	done    chan struct{} // closed when the link has been closed
}

// end tells the two ends of a tunnel apart.
type end int

const (
	hostEnd end = iota
	guestEnd
)

// newSession seals l's channels with keys from the tunnel in which l was agreed.
func newSession(l *link.Link, t *tunnel.Conn, as end) (*session, error) {
	secret, err := t.Export(channelLabel, 32)
	if err != nil {
		return nil, err
	}
	return sealLink(l, secret, as)
}

// sealLink seals l's channels with keys from a secret that both ends share. Links may
// share it: each has a binding of its own, and with it keys of its own.
func sealLink(l *link.Link, secret []byte, as end) (*session, error) {
	var err error
	binding := l.Binding()
	wrap := func(ch *link.Channel, name string, ordered bool, size int) (*seal.Channel, error) {
		down, err := seal.Derive(secret, binding[:], name+" host to guest")
		if err != nil {
			return nil, err
		}
		up, err := seal.Derive(secret, binding[:], name+" guest to host")
		if err != nil {
			return nil, err
		}
		cfg := seal.Config{Send: down, Recv: up, Context: name, Ordered: ordered, MaxMessage: size}
		if as == guestEnd {
			cfg.Send, cfg.Recv = up, down
		}
		return seal.Wrap(ch, cfg), nil
	}
	s := &session{link: l, secret: secret, beside: make(chan controlBeside, maxBeside), roam: make(chan struct{}, 1), done: make(chan struct{})}
	if s.sync, err = wrap(l.Sync(), "sync", false, stream.MaxDatagram); err != nil {
		return nil, err
	}
	if s.control, err = wrap(l.Control(), "control", true, maxControl); err != nil {
		return nil, err
	}
	return s, nil
}

// send sends a control message.
func (s *session) send(m any) error { return s.control.Send(appendControl(nil, m)) }

// receive gives every control message that it knows to handle, until the link
// ends or a message is malformed; it returns why.
func (s *session) receive(handle func(any)) error {
	buf := make([]byte, maxControl)
	for {
		n, err := s.control.Recv(buf)
		if err != nil {
			return err
		}
		m, err := parseControl(buf[:n])
		if errors.Is(err, errUnknown) {
			continue // of a later version
		}
		if err != nil {
			return err
		}
		handle(m)
	}
}

// await waits for the first datagram of the streams. It is called before they
// have the session. When ctx ends before, the link is closed.
func (s *session) await(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.hangUp)
	defer stop()
	p := make([]byte, stream.MaxDatagram)
	n, err := s.sync.Recv(p)
	s.early = p[:n]
	return err
}

// hangUp begins to close the link. It may be called more than once.
func (s *session) hangUp() {
	s.closing.Do(func() {
		go func() { // Transport.Close waits for it too
			defer close(s.done)
			s.link.Close()
		}()
	})
}

// close closes the link and waits for it. It may be called more than once.
func (s *session) close() {
	s.hangUp()
	<-s.done
}

// syncConn is a session's sync channel as the streams want it. Closing it, which they do with
// one that another has replaced, closes the session.
type syncConn struct{ s *session }

func (c syncConn) Send(p []byte) error {
	if c.s.muted.Load() {
		return nil
	}
	return c.s.sync.Send(p)
}

func (c syncConn) Recv(p []byte) (int, error) {
	if early := c.s.early; early != nil {
		c.s.early = nil
		return copy(p, early), nil
	}
	return c.s.sync.Recv(p)
}

func (c syncConn) Buffered() uint64 { return c.s.sync.Buffered() }

func (c syncConn) Close() error {
	if !c.s.staying.Load() {
		c.s.hangUp()
	}
	return nil
}

// signaler carries a link's descriptions through a tunnel.
type signaler struct{ t *tunnel.Conn }

func (s signaler) Send(ctx context.Context, m link.Message) error {
	p, err := m.AppendBinary(nil)
	if err != nil {
		return err
	}
	return s.t.Send(ctx, p)
}

func (s signaler) Recv(ctx context.Context) (link.Message, error) {
	p, err := s.t.Recv(ctx)
	if err != nil {
		return nil, err
	}
	return link.ParseMessage(p)
}
