package term

import (
	"io"
	"os"
	"sync"
	"time"
)

// A pump reads a file that takes no deadlines and gives what it read to a
// reader that does. Its goroutine starts with the first Read. Where a read of
// the file cannot be interrupted, the goroutine lives on until that read ends,
// which is why a pump is the last resort; it holds a buffer of its own, never
// a caller's.
type pump struct {
	f io.Reader

	start sync.Once
	data  chan []byte // what was read
	next  chan []byte // the buffer, when it may be filled again
	quit  chan struct{}
	once  sync.Once
	err   error // set before data is closed

	// Guarded by mu.
	mu       sync.Mutex
	deadline time.Time
	moved    chan struct{} // closed and replaced when deadline changes

	// Owned by the reader.
	buf, rest []byte
}

func newPump(f io.Reader) *pump {
	return &pump{
		f:     f,
		data:  make(chan []byte),
		next:  make(chan []byte, 1),
		quit:  make(chan struct{}),
		moved: make(chan struct{}),
	}
}

func (p *pump) run() {
	defer close(p.data)
	for {
		var buf []byte
		select {
		case buf = <-p.next:
		case <-p.quit:
			return
		}
		n, err := p.f.Read(buf[:cap(buf)])
		if n > 0 {
			select {
			case p.data <- buf[:n]:
			case <-p.quit:
				return
			}
		}
		if err != nil {
			p.err = err
			return
		}
		if n == 0 {
			p.next <- buf
		}
	}
}

// Close ends the goroutine, when the read it may be in returns.
func (p *pump) Close() error {
	p.once.Do(func() { close(p.quit) })
	return nil
}

// Read is for one caller at a time.
func (p *pump) Read(dst []byte) (int, error) {
	p.start.Do(func() {
		p.next <- make([]byte, 4096)
		go p.run()
	})
	for len(p.rest) == 0 {
		if p.buf != nil {
			p.next <- p.buf
			p.buf = nil
		}
		p.mu.Lock()
		deadline, moved := p.deadline, p.moved
		p.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			wait := time.Until(deadline)
			if wait <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(wait)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case data, ok := <-p.data:
			if !ok {
				if p.err == nil {
					return 0, os.ErrClosed
				}
				return 0, p.err
			}
			p.buf, p.rest = data, data
		case <-moved:
		case <-expired:
		}
	}
	n := copy(dst, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pump) SetReadDeadline(d time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = d
	close(p.moved)
	p.moved = make(chan struct{})
	return nil
}
