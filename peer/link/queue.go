package link

import (
	"io"
	"net"
	"sync"
)

const (
	// maxPacket is the longest datagram taken from a socket, in bytes. SCTP packets
	// over DTLS have at most 1,228, handshake flights up to about 1,300.
	maxPacket = 2048

	// queueLen bounds the datagrams waiting for pion on one link: 2 MiB, twice
	// SCTP's largest receive window here, so it overflows only under a flood.
	queueLen = 1024
)

// packet is one datagram received.
type packet struct {
	from net.Addr
	n    int
	buf  [maxPacket]byte
}

var packets = sync.Pool{New: func() any { return new(packet) }}

// queue is a bounded FIFO of datagrams between a socket's reader and pion's. It drops
// the newest when full, like a socket. The zero value needs init.
type queue struct {
	mu     sync.Mutex
	cond   sync.Cond
	ring   []*packet // grows up to queueLen; guarded by mu, as all below
	head   int
	n      int
	closed bool
}

func (q *queue) init() { q.cond.L = &q.mu }

// push copies a datagram into the queue, and reports whether there was room.
func (q *queue) push(b []byte, from net.Addr) bool {
	p := packets.Get().(*packet)
	p.n, p.from = copy(p.buf[:], b), from
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.n == queueLen {
		packets.Put(p)
		return false
	}
	if q.n == len(q.ring) {
		grown := make([]*packet, max(16, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.head+i)%len(q.ring)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)%len(q.ring)] = p
	q.n++
	q.cond.Signal()
	return true
}

// pop waits for a datagram and copies it to b. After close it gives [io.EOF].
func (q *queue) pop(b []byte) (int, net.Addr, error) {
	q.mu.Lock()
	for q.n == 0 && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		q.mu.Unlock()
		return 0, nil, io.EOF
	}
	p := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	q.mu.Unlock()

	n, from := p.n, p.from
	var err error
	if copy(b, p.buf[:n]) < n {
		n, err = len(b), io.ErrShortBuffer
	}
	packets.Put(p)
	return n, from, err
}

// close drops what waits and unblocks pop.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for i := range q.n {
		packets.Put(q.ring[(q.head+i)%len(q.ring)])
	}
	q.ring, q.n = nil, 0
	q.cond.Broadcast()
}
