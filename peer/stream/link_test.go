package stream

import (
	"container/heap"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// linkParams describes one direction of an emulated link.
type linkParams struct {
	delay   time.Duration
	jitter  time.Duration // added to delay, evenly from 0; reorders
	loss    float64
	dup     float64
	rate    float64       // bytes a second, lower layers included; 0: no limit
	queue   time.Duration // of the bottleneck; 0: 1 s
	holds   bool          // the queue is the link's own: Buffered tells of it
	outages func(t time.Duration) bool
}

// bottleneck is a queue that several links may share.
type bottleneck struct {
	mu   sync.Mutex
	free time.Time // when what is queued has left
}

// link is one direction of an emulated link.
type link struct {
	begin time.Time
	neck  *bottleneck

	mu     sync.Mutex
	p      linkParams
	rng    *rand.Rand
	flying flying
	serial uint64
	closed bool
	news   chan struct{}

	count    counts
	overhead int
}

// counts are the figures of a link.
type counts struct {
	sent, bytes  int
	mostBuffered uint64
}

func (l *link) counts() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

type inFlight struct {
	due    time.Time
	serial uint64
	p      []byte
}

// flying is a heap of datagrams by the time of their arrival.
type flying []inFlight

func (f flying) Len() int { return len(f) }
func (f flying) Less(i, j int) bool {
	if !f[i].due.Equal(f[j].due) {
		return f[i].due.Before(f[j].due)
	}
	return f[i].serial < f[j].serial
}
func (f flying) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flying) Push(x any)   { *f = append(*f, x.(inFlight)) }
func (f *flying) Pop() any {
	old := *f
	x := old[len(old)-1]
	old[len(old)-1] = inFlight{}
	*f = old[:len(old)-1]
	return x
}

func newLink(p linkParams, rng *rand.Rand, neck *bottleneck) *link {
	if neck == nil {
		neck = new(bottleneck)
	}
	return &link{begin: time.Now(), neck: neck, p: p, rng: rng, news: make(chan struct{}, 1), overhead: datagramOverhead}
}

func (l *link) set(p linkParams) {
	l.mu.Lock()
	l.p = p
	l.mu.Unlock()
}

func (l *link) send(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.count.sent++
	l.count.bytes += len(p)
	if l.closed {
		return
	}
	due := now
	if l.p.rate > 0 {
		l.neck.mu.Lock()
		free := l.neck.free
		if free.Before(now) {
			free = now
		}
		limit := l.p.queue
		if limit == 0 {
			limit = time.Second
		}
		if free.Sub(now) > limit {
			l.neck.mu.Unlock()
			return
		}
		free = free.Add(time.Duration(float64(len(p)+l.overhead) / l.p.rate * 1e9))
		l.neck.free = free
		l.neck.mu.Unlock()
		due = free
	}
	if l.rng.Float64() < l.p.loss || l.p.outages != nil && l.p.outages(now.Sub(l.begin)) {
		return
	}
	copies := 1
	if l.rng.Float64() < l.p.dup {
		copies = 2
	}
	for range copies {
		d := due.Add(l.p.delay)
		if l.p.jitter > 0 {
			d = d.Add(time.Duration(l.rng.Int64N(int64(l.p.jitter))))
		}
		l.serial++
		heap.Push(&l.flying, inFlight{d, l.serial, append([]byte(nil), p...)})
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// buffered is what waits to leave, where that is known.
func (l *link) buffered() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.p.holds {
		return 0
	}
	l.neck.mu.Lock()
	defer l.neck.mu.Unlock()
	n := uint64(max(0, time.Until(l.neck.free).Seconds()*l.p.rate))
	l.count.mostBuffered = max(l.count.mostBuffered, n)
	return n
}

func (l *link) recv(p []byte) (int, error) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return 0, net.ErrClosed
		}
		wait := time.Duration(-1)
		if len(l.flying) > 0 {
			wait = time.Until(l.flying[0].due)
			if wait <= 0 {
				x := heap.Pop(&l.flying).(inFlight)
				l.mu.Unlock()
				return copy(p, x.p), nil
			}
		}
		l.mu.Unlock()
		if wait < 0 {
			<-l.news
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.flying = nil
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// end is one end of an emulated link.
type end struct {
	out, in *link
}

func (e *end) Send(p []byte) error {
	if len(p) > MaxDatagram {
		panic("datagram too long")
	}
	e.out.send(p)
	return nil
}
func (e *end) Recv(p []byte) (int, error) { return e.in.recv(p) }
func (e *end) Buffered() uint64           { return e.out.buffered() }
func (e *end) Close() error {
	e.in.close()
	return nil
}

// connect makes a link: up from guest to host, down from host to guest.
func connect(up, down linkParams, rng *rand.Rand) (host, guest *end) {
	return connectShared(up, down, rng, nil)
}

func connectShared(up, down linkParams, rng *rand.Rand, neck *bottleneck) (host, guest *end) {
	u := newLink(up, rand.New(rand.NewPCG(rng.Uint64(), 1)), nil)
	d := newLink(down, rand.New(rand.NewPCG(rng.Uint64(), 2)), neck)
	return &end{out: d, in: u}, &end{out: u, in: d}
}
