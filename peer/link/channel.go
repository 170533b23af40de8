package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/pion/datachannel"
	"github.com/pion/sctp"
	"github.com/pion/webrtc/v3"
)

const (
	// MaxMessage is the longest message of a channel, in bytes. Longer ones that a peer
	// sends end the link.
	MaxMessage = 16 << 10

	// MaxDatagram is the longest message, in bytes, that travels in one UDP datagram: of
	// at most 1,276 bytes over IPv6, which every path must carry in one piece. (SCTP's
	// MTU of 1,191 here, less 12 for its header and 20 for that of the chunk, rounded
	// down to a multiple of 4.) On the sync channel a longer message is lost if any of
	// its pieces is.
	MaxDatagram = 1156

	// MaxBuffered is how many bytes may wait on one channel before Send refuses more
	// with [ErrFull]. It is a stop for callers that forgot to look at Buffered: what
	// keeps keys fast is a bound of a few KB.
	MaxBuffered = 4 << 20
)

// The channels of a link, agreed on beforehand so that opening them takes no round trip.
const (
	syncID    = 0 // unordered, never repeated
	controlID = 1 // reliable, ordered
	// 2 is for bulk, should that ever share a link.

	channelCount = 2
)

// strayChannels is how many channels a peer may open that it has no business opening,
// each of which is closed at once, before the link is.
const strayChannels = 8

// Channel carries messages. It is safe for concurrent use. Messages of concurrent
// Sends are not mixed.
type Channel struct {
	// Set once, before the link is handed out.
	name string
	link *Link
	dc   *webrtc.DataChannel
	rw   datachannel.ReadWriteCloser

	// The one hook that pion has for a drained buffer, and who may use it.
	waiter chan struct{} // holds a token while nobody waits
}

func newChannel(l *Link, name string, dc *webrtc.DataChannel) *Channel {
	c := &Channel{name: name, link: l, dc: dc, waiter: make(chan struct{}, 1)}
	c.waiter <- struct{}{}
	return c
}

// CheckSend gives the error with which Send would refuse a message of n bytes now, if
// it would: [ErrTooBig], [ErrFull], or that with which the link ended.
func (c *Channel) CheckSend(n int) error {
	if n > MaxMessage {
		return fmt.Errorf("%s channel: %w: %d bytes, at most %d", c.name, ErrTooBig, n, MaxMessage)
	}
	select {
	case <-c.link.done:
		return c.link.Err()
	default:
	}
	if c.dc.BufferedAmount() > MaxBuffered {
		return fmt.Errorf("%s channel: %w", c.name, ErrFull)
	}
	return nil
}

// Send queues one message, and returns before it has left. It does not keep p, and
// does not block. Errors are those of [Channel.CheckSend].
func (c *Channel) Send(p []byte) error {
	if err := c.CheckSend(len(p)); err != nil {
		return err
	}
	if _, err := c.rw.Write(p); err != nil {
		return c.failure(err)
	}
	return nil
}

// Recv waits for one message, copies it to p and returns its length. A peer's message
// longer than p ends the link with [ErrProtocol], so give it [MaxMessage] bytes. After
// the link has ended Recv gives the error of [Link.Err], and messages that were waiting
// may be lost.
func (c *Channel) Recv(p []byte) (int, error) {
	n, err := c.rw.Read(p)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.ErrShortBuffer) {
		c.link.fail(fmt.Errorf("%w: a message of %d bytes on the %s channel", ErrProtocol, n, c.name))
	}
	return 0, c.failure(err)
}

// failure says why pion gave up on a channel: the link ended, or the peer reset the
// channel, which was agreed on to last as long as the link.
func (c *Channel) failure(err error) error {
	// What pion says when an association is closed in good order, by either end, is one or
	// the other: at the end of a stream it resets that, which is too late then.
	if !errors.Is(err, io.EOF) && !errors.Is(err, sctp.ErrResetPacketInStateNotExist) {
		c.link.log.Debug("channel failed", "channel", c.name, "err", err)
	}
	c.link.fail(ErrPeerClosed)
	return c.link.Err()
}

// Buffered is how many bytes of messages were sent and are neither acknowledged nor,
// on the sync channel, given up.
func (c *Channel) Buffered() uint64 { return c.dc.BufferedAmount() }

// WaitBelow waits until at most n bytes are buffered. It returns the error of ctx, or
// of the link when that ends. Several callers are served one after the other.
func (c *Channel) WaitBelow(ctx context.Context, n uint64) error {
	select {
	case <-c.waiter:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.link.done:
		return c.link.Err()
	}
	defer func() { c.waiter <- struct{}{} }()

	low := make(chan struct{}, 1)
	c.dc.SetBufferedAmountLowThreshold(n)
	c.dc.OnBufferedAmountLow(func() {
		select {
		case low <- struct{}{}:
		default:
		}
	})
	defer c.dc.OnBufferedAmountLow(nil)
	for c.dc.BufferedAmount() > n {
		select {
		case <-low:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.link.done:
			return c.link.Err()
		}
	}
	return nil
}

// Close ends the link, as [Link.Close] does, but does not wait for that.
func (c *Channel) Close() error {
	c.link.fail(net.ErrClosed)
	return nil
}
