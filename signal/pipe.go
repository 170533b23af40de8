package signal

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Addr is the address of a pipe's end.
type Addr struct {
	Server string // the server's URL
	Room   Room
	Pipe   uint32 // 0 on a guest's side
	Source uint64 // see [OpenMsg]; on a host's side, of the guest
}

// Network implements [net.Addr].
func (Addr) Network() string { return "pairterm-signal" }

// String implements [net.Addr].
func (a Addr) String() string {
	if a.Pipe == 0 {
		return fmt.Sprintf("%s#%s", a.Server, a.Room)
	}
	return fmt.Sprintf("%s#%s/%d from %016x", a.Server, a.Room, a.Pipe, a.Source)
}

// pipe is one pipe's end, a [net.Conn]. Reading never blocks the session: what
// arrives is buffered up to [recvBuffer]. Writing blocks when [sendSlots]
// messages of this pipe wait to be sent, and fails when the server's limit on
// a pipe's bytes is reached: the server would close the pipe, and call a host
// that goes on and on a nuisance.
type pipe struct {
	// Set once.
	s        *session
	id       uint32
	remote   Addr
	owner    bool          // closing this pipe ends its session: a guest's
	recvMax  int           // bytes
	slots    chan struct{} // one element for each message that waits to be sent
	readable chan struct{} // capacity 1: buf or err has changed
	closed   chan struct{} // closed when err is set

	unsent atomic.Int64 // bytes that may still be written

	readDeadline  *deadline
	writeDeadline *deadline

	mu  sync.Mutex
	buf []byte // guarded by mu; received and not yet read
	err error  // guarded by mu; io.EOF after an orderly close by the other side
}

func newPipe(s *session, id uint32, remote Addr) *pipe {
	p := &pipe{
		s: s, id: id, remote: remote,
		recvMax:       recvBuffer,
		slots:         make(chan struct{}, sendSlots),
		readable:      make(chan struct{}, 1),
		closed:        make(chan struct{}),
		readDeadline:  newDeadline(),
		writeDeadline: newDeadline(),
	}
	p.unsent.Store(int64(s.info.PipeBytes))
	return p
}

// deliver appends to what Read will return, or reports that there is no room.
func (p *pipe) deliver(b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return true
	}
	if len(p.buf)+len(b) > p.recvMax {
		return false
	}
	p.buf = append(p.buf, b...)
	p.notify()
	return true
}

// finish ends the pipe locally, once. What has arrived can still be read,
// unless it is the user who closes.
func (p *pipe) finish(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, errClosed) {
		p.buf = nil
		if p.err != nil {
			p.err = err
		}
	}
	if p.err == nil {
		p.err = err
		close(p.closed)
	}
	p.notify()
}

func (p *pipe) notify() {
	select {
	case p.readable <- struct{}{}:
	default:
	}
}

// Read implements [net.Conn]. After an orderly close by the other side it
// returns [io.EOF]; a pipe that was cut returns a [*PipeError], or what ended
// the connection to the server.
func (p *pipe) Read(b []byte) (int, error) {
	for {
		expired := p.readDeadline.wait()
		if isClosed(expired) {
			return 0, os.ErrDeadlineExceeded
		}
		if n, err := p.take(b); n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		select {
		case <-p.readable:
		case <-expired:
			// Not an error yet: the deadline may have been moved meanwhile.
		}
	}
}

func (p *pipe) take(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buf) == 0 {
		if p.err != nil {
			p.notify() // for other readers
		}
		return 0, p.err
	}
	n := copy(b, p.buf)
	if p.buf = p.buf[n:]; len(p.buf) > 0 {
		p.notify()
	} else {
		p.buf = nil
	}
	return n, nil
}

// Write implements [net.Conn]. It returns when the bytes are queued; that they
// arrived is for the two ends to tell each other.
func (p *pipe) Write(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		expired := p.writeDeadline.wait()
		if isClosed(expired) {
			return n, os.ErrDeadlineExceeded
		}
		if isClosed(p.closed) {
			return n, p.writeError()
		}
		select {
		case p.slots <- struct{}{}:
		case <-expired:
			continue
		case <-p.closed:
			continue
		}
		chunk := b[n:min(len(b), n+MaxPayload)]
		if p.unsent.Add(-int64(len(chunk))) < 0 {
			<-p.slots
			return n, &PipeError{Reason: ReasonQuota}
		}
		p.s.push(frame{b: (&DataMsg{Pipe: p.id, Payload: chunk}).Append(make([]byte, 0, DataHeader+len(chunk))), pipe: p})
		n += len(chunk)
	}
	return n, nil
}

func (p *pipe) writeError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(p.err, io.EOF) {
		return io.ErrClosedPipe
	}
	return p.err
}

// Close implements [net.Conn]. What was written before is still sent. On a
// guest's side it also ends the connection to the server, and returns when
// that is done or a second has passed. Only the first call returns nil.
func (p *pipe) Close() error {
	p.mu.Lock()
	first := !errors.Is(p.err, errClosed)
	p.mu.Unlock()
	if p.owner {
		p.s.shutdown()
	} else if p.s.remove(p) {
		p.s.push(frame{b: (&CloseMsg{Pipe: p.id, Reason: ReasonDone}).Append(nil)})
	}
	p.finish(errClosed)
	if !first {
		return errClosed
	}
	return nil
}

// LocalAddr implements [net.Conn]; it is an [Addr].
func (p *pipe) LocalAddr() net.Addr { return p.s.local }

// RemoteAddr implements [net.Conn]; it is an [Addr].
func (p *pipe) RemoteAddr() net.Addr { return p.remote }

// SetDeadline implements [net.Conn].
func (p *pipe) SetDeadline(t time.Time) error {
	p.readDeadline.set(t)
	p.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements [net.Conn].
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.readDeadline.set(t)
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.writeDeadline.set(t)
	return nil
}
