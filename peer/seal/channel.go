package seal

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Datagrams is what a channel must offer to be sealed: whole messages, one at a
// time. Send may be called concurrently with Recv. Close unblocks both.
type Datagrams interface {
	// Send sends one message. It does not keep p.
	Send(p []byte) error
	// Recv reads one message into p and returns its length.
	Recv(p []byte) (int, error)
	// Buffered is how many bytes were sent but not yet acknowledged or given up.
	Buffered() uint64
	Close() error
}

// checker is implemented by channels that can say beforehand that they would
// refuse a message of n bytes.
type checker interface {
	CheckSend(n int) error
}

// Config says how a channel is sealed.
type Config struct {
	Send, Recv Key
	// Context is authenticated with every record; both ends must give the same. It
	// should name the channel.
	Context string
	// Ordered declares that the channel is reliable and ordered. Then a record that
	// is bad or missing ends the channel; otherwise bad records are dropped and
	// counted, and missing ones are nothing unusual.
	Ordered bool
	// MaxMessage is the longest plaintext, in bytes, in either direction.
	MaxMessage int
}

// Channel is a sealed [Datagrams]. It is safe for concurrent use, and implements
// Datagrams itself.
type Channel struct {
	// Set once.
	inner   Datagrams
	ordered bool
	max     int

	dropped atomic.Uint64

	sendMu  sync.Mutex // held while sealing and sending, so that records leave in order
	sealer  *Sealer    // guarded by sendMu
	sendBuf []byte     // guarded by sendMu
	sendErr error      // guarded by sendMu

	recvMu  sync.Mutex // held while receiving
	opener  *Opener    // guarded by recvMu
	recvBuf []byte     // guarded by recvMu
	recvErr error      // guarded by recvMu
}

// Wrap seals a channel. The inner channel must not be used directly any more.
func Wrap(inner Datagrams, cfg Config) *Channel {
	c := &Channel{
		inner:   inner,
		ordered: cfg.Ordered,
		max:     cfg.MaxMessage,
		sealer:  NewSealer(cfg.Send, cfg.Context),
		sendBuf: make([]byte, 0, cfg.MaxMessage+Overhead),
		recvBuf: make([]byte, cfg.MaxMessage+Overhead),
	}
	if cfg.Ordered {
		c.opener = NewOrderedOpener(cfg.Recv, cfg.Context)
	} else {
		c.opener = NewOpener(cfg.Recv, cfg.Context)
	}
	return c
}

// ErrTooBig reports a message longer than the configured maximum.
var ErrTooBig = errors.New("seal: message too big")

// Send seals and sends one message. A message longer than the maximum gives
// [ErrTooBig]; errors of the inner channel are passed on.
//
// On an ordered channel a send that fails half way leaves a gap that the other end
// would take for an attack, so later sends return that error too. Refusals that
// the inner channel announces beforehand (a CheckSend method) are not of that kind.
func (c *Channel) Send(p []byte) error {
	if len(p) > c.max {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, len(p), c.max)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if c.sendErr != nil {
		return c.sendErr
	}
	if ch, ok := c.inner.(checker); ok {
		if err := ch.CheckSend(len(p) + Overhead); err != nil {
			return err
		}
	}
	record, err := c.sealer.Seal(c.sendBuf[:0], p)
	if err != nil {
		c.sendErr = err
		return err
	}
	if err := c.inner.Send(record); err != nil {
		if c.ordered {
			c.sendErr = err
		}
		return err
	}
	return nil
}

// Recv receives one message into p and returns its length. On an unordered channel
// it drops and counts records that are not genuine, and waits for the next; on an
// ordered one such a record closes the channel, and its error is returned now and
// from then on. A message longer than p gives [io.ErrShortBuffer] and is lost.
func (c *Channel) Recv(p []byte) (int, error) {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	for {
		if c.recvErr != nil {
			return 0, c.recvErr
		}
		n, err := c.inner.Recv(c.recvBuf)
		if err != nil {
			return 0, err
		}
		out, err := c.opener.openInPlace(c.recvBuf[:n])
		switch {
		case err == nil && len(out) > len(p):
			return 0, io.ErrShortBuffer
		case err == nil:
			return copy(p, out), nil
		case c.ordered:
			c.recvErr = err
			_ = c.inner.Close() // the record's error is the one to report
		default:
			c.dropped.Add(1)
		}
	}
}

// Dropped is how many records an unordered channel has refused.
func (c *Channel) Dropped() uint64 { return c.dropped.Load() }

// Buffered is that of the inner channel: in bytes, with the overhead of sealing.
func (c *Channel) Buffered() uint64 { return c.inner.Buffered() }

// Close closes the inner channel.
func (c *Channel) Close() error { return c.inner.Close() }
