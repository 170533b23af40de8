package server

import (
	"context"
	"net/netip"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/ratelimit"
)

// A Cluster joins servers, so that a host at one and a guest at another meet.
// The package cluster below has one. Its methods are safe for concurrent use.
type Cluster interface {
	// Origin names where a guest comes from, an address as of the limits: equal
	// for equal addresses at all servers, and saying nothing else.
	Origin(netip.Addr) Origin

	// Enter makes a room known to the other servers, and takes it from the one
	// that has it. It returns when that is done or cannot be done now. From then
	// on, and possibly before, the room's methods are called, until leave is,
	// which may be called more than once.
	Enter(ctx context.Context, room signal.Room, instance [16]byte, r ClusterRoom) (leave func())

	// Join asks the other servers for a place for a guest in a room. If there is
	// one, end will be told what comes from there; else the code says why not,
	// and for how long.
	Join(ctx context.Context, room signal.Room, origin Origin, end ClusterEnd) (ClusterPipe, signal.Code, time.Duration)

	// Leave tells the other servers that the hosts of this one are about to look
	// for another, and reports whether there is one.
	Leave() bool

	// Ready reports whether the others can be reached.
	Ready() bool

	// Stats reads the counters.
	Stats() ClusterStats
}

// An Origin stands for where a guest comes from.
type Origin [16]byte

// A ClusterRoom is a registration here, as a [Cluster] uses it; it can be compared.
// Its methods do not block.
type ClusterRoom interface {
	// Reserve makes a place in its room for a guest at another server, whose pipe
	// goes over way, or says why there is none.
	Reserve(origin Origin, way ClusterPipe) (ClusterEnd, signal.Code, time.Duration)

	// Yield ends the registration: the room was taken at another server, by the
	// same host if the instance is the same.
	Yield(instance [16]byte)
}

// A ClusterPipe is the way to the other end of a pipe, at another server.
type ClusterPipe interface {
	// Open tells the host's server that the guest has been let in, or the guest's
	// that the host has been told.
	Open() error
	// Send sends bytes of the pipe. It waits while those sent before are not
	// taken, until abort is closed.
	Send(b []byte, abort <-chan struct{}) error
	// Took notes that n of the bytes that came were taken.
	Took(n int)
	// Close tells the other end that the pipe has ended, after what was sent
	// before, unless it knows. Nothing else comes from there.
	Close(signal.Reason)
}

// A ClusterEnd is told what comes from the other end of a pipe, by one goroutine
// for all pipes: its methods do not block.
type ClusterEnd interface {
	// Opened says that the other end has called Open.
	Opened()
	// Deliver hands over bytes, which end must not keep. At most ClusterWindow
	// of them come before Took.
	Deliver(b []byte)
	// Closed says that the pipe has ended, and that nothing more comes.
	Closed(signal.Reason)
}

// ClusterWindow is how many bytes of a pipe may be on their way from one server
// to another, in each direction. Setting up a connection takes about 10 KiB.
const ClusterWindow = 64 << 10

// ClusterStats are counters of a [Cluster] since it was made, and its gauges.
type ClusterStats struct {
	Connected bool
	Peers     int64 // other servers, now
	Pipes     int64 // pipes to other servers, now

	Connects  int64            // times that the way to the others was found
	Lost      int64            // servers that vanished
	Yielded   int64            // rooms that were taken at another server
	Sent      int64            // messages
	Received  int64            // messages, own and refused ones included
	Refused   map[string]int64 // messages that were thrown away, by why; of overflow, how often it began
	Joins     map[string]int64 // by what came of asking for a room
	SentBytes int64
}

// origin is where a guest comes from, as the limits count it.
func (s *Server) origin(a netip.Addr) Origin {
	a = ratelimit.Prefix(a)
	if s.config.Cluster != nil {
		return s.config.Cluster.Origin(a)
	}
	return a.As16()
}

// joinElsewhere makes a place for a guest in a room at another server, or says
// why there is none and for how long.
func (s *Server) joinElsewhere(ctx context.Context, room signal.Room, c *conn) (*pipe, signal.Code, time.Duration) {
	// What is not answered by the end of a handshake is not answered.
	ctx, cancel := context.WithTimeout(ctx, s.limits.Handshake/2)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	h := &awayHost{s: s, told: make(chan struct{})}
	p := newPipe(s, h, &hereGuest{c: c, room: room}, s.origin(c.addr), c.since.Add(s.limits.GuestLifetime))
	way, code, wait := s.config.Cluster.Join(ctx, room, p.origin, &fromHost{p, h})
	if way == nil {
		return nil, code, wait
	}
	h.way = way
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		way.Close(signal.ReasonShutdown)
		return nil, signal.CodeShuttingDown, s.spread(true)
	}
	s.away[p] = struct{}{}
	return p, 0, 0
}

// drainAway lets pipes to other servers finish within [Limits].Drain, and ends
// them.
func (s *Server) drainAway(pipes []*pipe) {
	defer s.wg.Done()
	late := time.NewTimer(s.limits.Drain)
	defer late.Stop()
	for _, p := range pipes {
		select {
		case <-p.ended:
			continue
		case <-late.C:
		case <-s.cut.Done():
		}
		for _, p := range pipes {
			p.finish(signal.ReasonShutdown, byServer)
		}
		return
	}
}

// Reserve implements [ClusterRoom]. Who has the room now may be another.
func (h *host) Reserve(origin Origin, way ClusterPipe) (ClusterEnd, signal.Code, time.Duration) {
	if h = h.s.room(h.room); h == nil {
		return nil, signal.CodeNoRoom, 0
	}
	g := &awayGuest{
		way:    way,
		opened: make(chan struct{}),
		wake:   make(chan struct{}, 1),
	}
	p, code, wait := h.reserve(g, origin, time.Now().Add(h.s.limits.GuestLifetime+h.s.limits.Handshake))
	if p == nil {
		return nil, code, wait
	}
	g.p = p
	serve := func() {
		if p.serve("") != nil {
			g.refuse()
		}
	}
	if !h.whileEntered(serve) {
		p.finish(signal.ReasonLost, byHost)
		h.served(p)
		return nil, signal.CodeNoRoom, 0
	}
	return g, 0, 0
}

// Yield implements [ClusterRoom].
func (h *host) Yield(instance [16]byte) {
	h.whileEntered(func() {
		h.s.log.Info("host is at another server now", append(h.c.attrs(), "room", short(h.room), "same", instance == h.instance)...)
		h.leaveTo(instance)
	})
}

// whileEntered runs f in a goroutine that Shutdown waits for, unless h has left
// its room.
func (h *host) whileEntered(f func()) bool {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.s.rooms[h.room] != h {
		return false
	}
	h.s.wg.Add(1) // not zero: h's own connection counts as long as it is in its room
	go func() {
		defer h.s.wg.Done()
		f()
	}()
	return true
}
