package signal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// What a server can make a client hold is bounded by these.
const (
	// recvBuffer is how many bytes a pipe buffers for a reader that lags, before
	// it is closed. Setting up a connection needs a tenth of it.
	recvBuffer = 64 << 10
	// sendSlots is how many messages of one pipe wait to be sent before Write blocks.
	sendSlots = 4
	// acceptBacklog is how many guests wait for Accept before more are refused.
	acceptBacklog = 64
	// maxPipes is how many guests a host serves at once over one server.
	maxPipes = 1024
)

// How long things may take.
const (
	writeTimeout = 10 * time.Second // for one message; then the server counts as lost
	closeTimeout = time.Second      // for what is still to be sent when the user closes
	pongTimeout  = 10 * time.Second // for the answer to a ping
	pongSoon     = 3 * time.Second  // likewise, when there is reason for doubt
	maxPingEvery = 30 * time.Second // routers forget silent TCP connections after a minute or more
)

// errClosed is what everything returns after the user closed it.
var errClosed = fmt.Errorf("signaling: %w", net.ErrClosed)

// lost wraps what the WebSocket library returned when the connection broke.
// That a write found it closed already says nothing, and must not look like a
// close by the user.
func lost(cause error) error {
	if errors.Is(cause, net.ErrClosed) {
		return ErrLost
	}
	return fmt.Errorf("%w: %w", ErrLost, cause)
}

// session is the client's end of one established WebSocket: the pipes over it,
// and the goroutines that read, write and ping. A host's has many pipes, a
// guest's has pipe 0.
type session struct {
	// Set once.
	ws      *websocket.Conn
	local   Addr
	info    Info
	conns   chan *pipe    // new guests; nil for a guest
	leaving chan struct{} // closed when the server says goodbye
	done    chan struct{} // closed when the WebSocket is gone
	wake    chan struct{} // capacity 1: there is something in out
	doubts  chan struct{} // capacity 1: the connection may be gone
	wg      sync.WaitGroup

	mu       sync.Mutex
	pipes    map[uint32]*pipe // guarded by mu
	lastPipe uint32           // guarded by mu
	out      []frame          // guarded by mu
	bye      error            // guarded by mu; the server's goodbye
	err      error            // guarded by mu; set when done is closed
}

// frame is an encoded message on its way out.
type frame struct {
	b       []byte
	pipe    *pipe         // of a Data: gets its slot back
	flushed chan struct{} // closed once written; usually nil
}

func newSession(ws *websocket.Conn, info Info, local Addr) *session {
	return &session{
		ws:      ws,
		local:   local,
		info:    info,
		leaving: make(chan struct{}),
		done:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		doubts:  make(chan struct{}, 1),
		pipes:   make(map[uint32]*pipe),
	}
}

// start starts the goroutines; shutdown waits for them.
func (s *session) start() {
	s.ws.SetReadLimit(MaxMessage)
	s.wg.Go(s.readLoop)
	s.wg.Go(s.writeLoop)
	if s.conns != nil {
		s.wg.Go(s.pingLoop)
	}
}

// shutdown ends the session: it closes all pipes, sends what is queued, and
// returns when all goroutines are gone. A guest leaves it to the server to
// close the connection: a socket that is closed while there is something to
// read resets the connection, and some systems then forget what they received
// last. Both take [closeTimeout] at most.
func (s *session) shutdown() {
	flushed := make(chan struct{})
	s.mu.Lock()
	for id, p := range s.pipes {
		p.finish(errClosed)
		s.out = append(s.out, frame{b: (&CloseMsg{Pipe: id}).Append(nil)})
	}
	clear(s.pipes)
	if n := len(s.out); n > 0 {
		s.out[n-1].flushed = flushed
	} else {
		close(flushed)
	}
	s.mu.Unlock()
	s.notify()

	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	select {
	case <-flushed:
	case <-s.done:
	case <-ctx.Done():
	}
	if s.conns == nil {
		select {
		case <-s.done:
		case <-ctx.Done():
		}
	}
	s.fail(errClosed)
	s.wg.Wait()
}

// fail ends the session for a reason, once.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	if s.bye != nil && !errors.Is(err, errClosed) {
		err = s.bye
	}
	s.err = err
	pipes := s.pipes
	s.pipes = nil
	s.out = nil
	s.mu.Unlock()

	close(s.done)
	for _, p := range pipes {
		p.finish(err)
	}
	_ = s.ws.CloseNow()
}

// failAfterReading fails, but lets the read loop find out first: the server's
// goodbye may wait to be read on a connection that can no longer be written.
func (s *session) failAfterReading(err error) {
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
		s.fail(err)
	}
}

// reason is why nothing new comes, once leaving or done is closed.
func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return s.bye
}

// push queues a message. It never blocks: control messages are at most as many
// as the pipes that the server opened, and Data has its slots.
func (s *session) push(f frame) {
	s.mu.Lock()
	if s.err == nil {
		s.out = append(s.out, f)
	}
	s.mu.Unlock()
	s.notify()
}

func (s *session) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) writeLoop() {
	for {
		select {
		case <-s.wake:
		case <-s.done:
			return
		}
		s.mu.Lock()
		frames := s.out
		s.out = nil
		s.mu.Unlock()
		for _, f := range frames {
			ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
			err := s.ws.Write(ctx, websocket.MessageBinary, f.b)
			cancel()
			if err != nil {
				s.failAfterReading(lost(err))
				return
			}
			if f.pipe != nil {
				<-f.pipe.slots
			}
			if f.flushed != nil {
				close(f.flushed)
			}
		}
	}
}

// pingLoop keeps the registration alive and notices when the server is gone
// without a word, for example after a suspend.
func (s *session) pingLoop() {
	every := maxPingEvery
	if s.info.Idle > 0 {
		every = max(min(every, s.info.Idle/3), 10*time.Millisecond)
	}
	t := time.NewTicker(every)
	defer t.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		patience := pongTimeout
		select {
		case <-t.C:
		case <-s.doubts:
			patience = pongSoon
		case <-s.done:
			return
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		err := s.ws.Ping(ctx) // returns at once when the connection closes
		cancel()
		if err != nil {
			s.failAfterReading(lost(fmt.Errorf("no answer to a ping: %w", err)))
			return
		}
	}
}

// doubt has a ping sent at once. Its answer has to come soon.
func (s *session) doubt() {
	select {
	case s.doubts <- struct{}{}:
	default:
	}
}

func (s *session) readLoop() {
	buf := make([]byte, MaxMessage)
	for {
		msg, err := readMessage(context.Background(), s.ws, buf)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				err = lost(err)
			}
			s.fail(err)
			return
		}
		if err := s.handle(msg); err != nil {
			s.fail(err)
			return
		}
	}
}

// handle acts on one message of the server's. It never blocks.
func (s *session) handle(msg Message) error {
	switch m := msg.(type) {
	case *DataMsg:
		p := s.pipe(m.Pipe)
		if p == nil {
			return nil // crossed with our Close
		}
		if !p.deliver(m.Payload) {
			s.remove(p)
			p.finish(&PipeError{Reason: ReasonOverflow})
			s.push(frame{b: (&CloseMsg{Pipe: m.Pipe, Reason: ReasonOverflow}).Append(nil)})
		}
	case *CloseMsg:
		if p := s.pipe(m.Pipe); p != nil {
			s.remove(p)
			if m.Reason == ReasonDone {
				p.finish(io.EOF)
			} else {
				p.finish(&PipeError{Reason: m.Reason})
			}
		}
	case *OpenMsg:
		return s.open(m)
	case *GoodbyeMsg:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.bye == nil {
			s.bye = &GoodbyeError{Code: m.Code, Retry: m.Retry, Text: m.Text}
			close(s.leaving)
		}
	default:
		return fmt.Errorf("%w: unexpected %T from the server", ErrProtocol, msg)
	}
	return nil
}

func (s *session) open(m *OpenMsg) error {
	if s.conns == nil {
		return fmt.Errorf("%w: a guest was sent an Open", ErrProtocol)
	}
	remote := s.local
	remote.Pipe, remote.Source = m.Pipe, m.Source
	p := newPipe(s, m.Pipe, remote)

	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Pipe <= s.lastPipe {
		return fmt.Errorf("%w: pipe %d was opened after pipe %d", ErrProtocol, m.Pipe, s.lastPipe)
	}
	s.lastPipe = m.Pipe
	if s.err != nil {
		return nil
	}
	if len(s.pipes) < maxPipes {
		select {
		case s.conns <- p:
			s.pipes[m.Pipe] = p
			return nil
		default:
		}
	}
	s.out = append(s.out, frame{b: (&CloseMsg{Pipe: m.Pipe, Reason: ReasonRefused}).Append(nil)})
	if len(s.out) > 4*maxPipes {
		return fmt.Errorf("%w: the server opens pipes faster than they can be refused", ErrProtocol)
	}
	s.notify()
	return nil
}

func (s *session) pipe(id uint32) *pipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pipes[id]
}

// remove forgets p and reports whether it was there.
func (s *session) remove(p *pipe) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pipes[p.id] != p {
		return false
	}
	delete(s.pipes, p.id)
	return true
}

// readMessage reads one message into buf, which the result may share.
func readMessage(ctx context.Context, ws *websocket.Conn, buf []byte) (Message, error) {
	typ, r, err := ws.Reader(ctx)
	if err != nil {
		return nil, err
	}
	if typ != websocket.MessageBinary {
		return nil, fmt.Errorf("%w: a text message", ErrProtocol)
	}
	n := 0
	for {
		if n == len(buf) {
			// Room for one byte that must not come, without another buffer.
			var extra [1]byte
			if k, err := r.Read(extra[:]); k > 0 || !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: a message of more than %d bytes", ErrProtocol, len(buf))
			}
			break
		}
		k, err := r.Read(buf[n:])
		n += k
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	msg, err := Decode(buf[:n])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return msg, nil
}
