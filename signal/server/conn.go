package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/signal"
)

// hijackBuffer is the size, in bytes, of each of the two buffers of a
// connection. net/http's own have 4 KiB each, which most connections here, as
// idle as they are, would never use.
const hijackBuffer = 512

// lingerFor bounds the wait for a client's answer to a close.
const lingerFor = time.Second

// conn is one client's WebSocket.
//
// Deadlines are set on the network connection itself: contexts would cost a
// goroutine or a timer and some allocations for every read, and the WebSocket
// library closes the connection on either.
type conn struct {
	// Set once.
	s           *Server
	addr        netip.Addr
	releaseAddr func()
	since       time.Time
	writing     chan struct{} // capacity 1: whose turn it is to write
	gone        chan struct{} // closed by kill
	established atomic.Bool   // registered, or with a pipe
	person      *person       // who proved a key; set once by challenge, nil: nobody was asked

	revoke func(*signal.GoodbyeMsg) // guarded by Server.mu; set by keep

	// Set by upgrade, before anything else uses the connection.
	ws     *websocket.Conn
	nc     net.Conn    // below ws
	onPing func() bool // may be nil; set before the first read; false: end the connection

	mu       sync.Mutex
	upgraded bool // guarded by mu
	killed   bool // guarded by mu
}

// upgrade makes the request a WebSocket, or answers it with an error.
func (c *conn) upgrade(w http.ResponseWriter, r *http.Request) bool {
	if !offers(r, signal.Subprotocol) {
		c.s.refuse(w, signal.CodeProtocol, 0)
		return false
	}
	hw := &hijackWriter{ResponseWriter: w}
	ws, err := websocket.Accept(hw, r, &websocket.AcceptOptions{
		Subprotocols:    []string{signal.Subprotocol},
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived: func(context.Context, []byte) bool {
			// Called by the reading goroutine while it holds the library's lock:
			// do not call kill here.
			if c.onPing != nil && !c.onPing() {
				_ = c.nc.Close()
				return false
			}
			return true
		},
	})
	if err != nil {
		c.s.refused[signal.CodeProtocol].Add(1)
		c.s.log.Debug("upgrade failed", "addr", c.s.shown(c.addr), "err", c.s.shownError(err))
		return false
	}
	c.nc = hw.conn
	c.ws = ws
	c.mu.Lock()
	c.upgraded = true
	killed := c.killed
	c.mu.Unlock()
	if killed {
		_ = ws.CloseNow()
		return false
	}
	// The library lets one byte more than this pass; receive looks at it.
	ws.SetReadLimit(signal.MaxMessage)
	return true
}

func offers(r *http.Request, subprotocol string) bool {
	for _, h := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(h, ",") {
			if strings.TrimSpace(p) == subprotocol {
				return true
			}
		}
	}
	return false
}

// hijackWriter hands the WebSocket library the connection with smaller buffers,
// and us the connection.
type hijackWriter struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements [http.Hijacker].
func (w *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if rw.Reader.Buffered() > 0 {
		_ = conn.Close()
		return nil, nil, errors.New("client sent data before the upgrade")
	}
	w.conn = conn
	return conn, bufio.NewReadWriter(
		bufio.NewReaderSize(conn, hijackBuffer),
		bufio.NewWriterSize(conn, hijackBuffer),
	), nil
}

// buffers are for messages that are being read. An idle connection has none.
var buffers = sync.Pool{New: func() any { return new([signal.MaxMessage]byte) }}

// receive waits until deadline for a message of at most limit bytes and calls
// handle with it, encoded. Its error, or handle's, ends the connection.
func (c *conn) receive(deadline time.Time, limit int, handle func(b []byte) error) error {
	_ = c.nc.SetReadDeadline(deadline)
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return err
	}
	if typ != websocket.MessageBinary {
		return fmt.Errorf("%w: a text message", signal.ErrMalformed)
	}
	// From here on a buffer is held: the rest of the message must not dawdle.
	if d := time.Now().Add(c.s.limits.Message); d.Before(deadline) {
		_ = c.nc.SetReadDeadline(d)
	}
	buf := buffers.Get().(*[signal.MaxMessage]byte)
	defer buffers.Put(buf)
	n := 0
	for {
		if n == limit {
			var extra [1]byte
			if k, err := r.Read(extra[:]); k > 0 || !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: more than %d bytes", signal.ErrMalformed, limit)
			}
			break
		}
		k, err := r.Read(buf[n:limit])
		n += k
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return handle(buf[:n])
}

// receiveMessage is receive for the messages of a handshake.
func (c *conn) receiveMessage(deadline time.Time, limit int) (msg signal.Message, err error) {
	err = c.receive(deadline, limit, func(b []byte) error {
		msg, err = signal.Decode(append([]byte(nil), b...))
		return err
	})
	return msg, err
}

// lock waits for the turn to write. It fails when the connection, or what
// abort stands for, is gone.
func (c *conn) lock(abort <-chan struct{}) error {
	select {
	case c.writing <- struct{}{}:
		return nil
	case <-c.gone:
		return errGone
	case <-abort:
		return errGone
	}
}

func (c *conn) tryLock() bool {
	select {
	case c.writing <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *conn) unlock() { <-c.writing }

// writeLocked sends a message; the turn to write must be held. A client that
// does not take it within [Limits].Message is cut off.
func (c *conn) writeLocked(b []byte) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.s.limits.Message))
	err := c.ws.Write(context.Background(), websocket.MessageBinary, b)
	// Pongs are written by the library, under deadlines of its own.
	_ = c.nc.SetWriteDeadline(time.Time{})
	if err != nil {
		c.kill()
	}
	return err
}

// send waits for its turn and sends a message.
func (c *conn) send(b []byte, abort <-chan struct{}) error {
	if err := c.lock(abort); err != nil {
		return err
	}
	defer c.unlock()
	return c.writeLocked(b)
}

// goodbye sends last words, which may be nil, and closes the connection so
// that they arrive: closing a socket with unread data resets it, and what was
// sent last is lost.
func (c *conn) goodbye(last signal.Message) {
	defer c.kill()
	if bye, ok := last.(*signal.GoodbyeMsg); ok {
		c.s.refused[bye.Code].Add(1)
	}
	if last != nil && c.send(last.Append(nil), nil) != nil {
		return
	}
	_ = c.nc.SetDeadline(time.Now().Add(lingerFor))
	_ = c.ws.Close(websocket.StatusNormalClosure, "")
}

// kill closes the connection at once; whoever reads or writes it fails.
func (c *conn) kill() {
	c.mu.Lock()
	if c.killed {
		c.mu.Unlock()
		return
	}
	c.killed = true
	upgraded := c.upgraded
	c.mu.Unlock()
	close(c.gone)
	if upgraded {
		_ = c.nc.Close()
		_ = c.ws.CloseNow()
	}
}

// attrs are what the log says of every client.
func (c *conn) attrs() []any {
	attrs := []any{"addr", c.s.shown(c.addr)}
	if c.person != nil {
		attrs = append(attrs, "key", c.person.fingerprint, "comment", c.person.comment)
	}
	return attrs
}

// release gives back what admit took. The connection is closed, if it was not.
func (c *conn) release() {
	c.kill()
	c.releaseAddr()
	if c.person != nil {
		c.s.keyUse.release(c.person.fingerprint, time.Now(), &c.s.limits)
	}
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	c.s.wg.Done()
}
