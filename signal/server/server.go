package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/ratelimit"
)

// Config configures a [Server]. The zero value serves everybody within the
// default limits.
type Config struct {
	Limits Limits

	// Names are the names by which clients may know this server: host names,
	// with a port if it must be that one. Hosts sign the name that they
	// dialled. With no names given, a request's Host header counts, which
	// protects a host's signature from being used at another server only as
	// far as that other server insists on its names.
	Names []string

	// AllowHost decides which rooms may be opened; nil: all. An embedded server
	// allows its own host's only. It is called by many goroutines.
	AllowHost func(signal.Room) bool

	// Gate asks people who they are; nil: nobody is asked.
	Gate *Gate

	// STUN tells clients where to find a STUN responder.
	STUN STUN

	// Proxies are in front of this server; the zero value: none.
	Proxies Proxies

	// Cluster joins this server to others; nil: it is alone.
	Cluster Cluster

	// Returning is for how long after its start the server keeps guests waiting
	// who ask for a room that it does not know: if it has been restarted, the
	// host may be on its way back. 0: not at all.
	Returning time.Duration

	// Ready reports whether new clients can be served, for /readyz; nil: always.
	Ready func() bool

	// TLS makes [Server.Run] serve TLS; nil: plain HTTP.
	TLS *tls.Config

	// Logger gets what happens; nil: nothing is logged. Addresses are shortened
	// to an IPv4 /16 or an IPv6 /32 unless FullAddresses is set.
	Logger        *slog.Logger
	FullAddresses bool
}

// STUN is a hint for clients. The zero value hints at nothing.
type STUN struct {
	Host  string   // empty: the host by which the client knows this server
	Ports []uint16 // at most two UDP ports
}

// Stats are counters of a [Server] since it was made, and its gauges.
type Stats struct {
	Connections int64 // now
	Rooms       int64 // now
	Guests      int64 // now; of rooms here
	QueuedBytes int64 // now

	Registrations int64
	Pipes         int64
	BytesToHost   int64
	BytesToGuest  int64
	Allowed       int64                 // proofs that a gate accepted
	Refused       map[signal.Code]int64 // requests refused, and goodbyes said
	PipesEnded    map[signal.Reason]int64
	HostLatency   Latency // from a host's request to its registration
	GuestLatency  Latency // from a guest's request to its open pipe

	Cluster *ClusterStats // nil: there is none
}

// Server is a signaling server. Its methods are safe for concurrent use.
type Server struct {
	// Set once.
	limits    Limits
	config    Config
	names     []string // of Config.Names, as of signal.ServerName
	log       *slog.Logger
	addresses *ratelimit.Table
	sourceKey [32]byte // of the hashes in signal.OpenMsg
	keyUse    keyUse
	closed    context.Context // ended by close, when Shutdown begins
	close     context.CancelFunc
	cut       context.Context // ended by stop, when Shutdown cuts connections
	stop      context.CancelFunc

	// Atomic.
	queued        atomic.Int64
	guests        atomic.Int64
	registrations atomic.Int64
	pipes         atomic.Int64
	toHost        atomic.Int64
	toGuest       atomic.Int64
	allowed       atomic.Int64
	latency       [roles]latency
	refused       [256]atomic.Int64 // by signal.Code
	ended         [256]atomic.Int64 // by signal.Reason

	wg sync.WaitGroup // everything that serves a connection

	mu        sync.Mutex
	conns     map[*conn]struct{}    // guarded by mu
	rooms     map[signal.Room]*host // guarded by mu
	away      map[*pipe]struct{}    // guarded by mu; of guests here, to hosts elsewhere
	serial    uint64                // guarded by mu; of the last host
	closing   bool                  // guarded by mu
	leaving   int                   // guarded by mu; connections when it began to close
	returning returning             // guarded by mu but for what is set once
}

// New makes a server. It starts nothing.
func New(config Config) *Server {
	s := &Server{
		limits: config.Limits.withDefaults(),
		config: config,
		log:    config.Logger,
		conns:  make(map[*conn]struct{}),
		rooms:  make(map[signal.Room]*host),
		away:   make(map[*pipe]struct{}),
	}
	for _, n := range config.Names {
		s.names = append(s.names, signal.ServerName(n))
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if len(s.config.STUN.Ports) > 2 {
		s.config.STUN.Ports = s.config.STUN.Ports[:2]
	}
	s.addresses = &ratelimit.Table{
		Rate: s.limits.AddressRate,
		Held: s.limits.AddressConnections,
		Size: s.limits.Addresses,
	}
	s.returning.until = time.Now().Add(config.Returning)
	s.closed, s.close = context.WithCancel(context.Background())
	s.cut, s.stop = context.WithCancel(context.Background())
	rand.Read(s.sourceKey[:]) // never fails, see its documentation
	return s
}

// ServeHTTP implements [http.Handler]. Paths are those of the wire format,
// /healthz and /readyz, and / for people; strip a prefix before.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(signal.HeaderServer, signal.Version)
	path := r.URL.Path
	switch {
	case path == "/" || path == "":
		s.servePage(w, r)
	case path == "/healthz":
		s.serveHealth(w, "")
	case path == "/readyz":
		s.serveHealth(w, s.unready())
	case path == signal.PathHost:
		s.handleHost(w, r)
	case strings.HasPrefix(path, signal.PathJoin):
		s.handleGuest(w, r, path[len(signal.PathJoin):])
	default:
		http.Error(w, "not found; this is a pairterm signaling server, protocol "+signal.Version, http.StatusNotFound)
	}
}

func (s *Server) handleHost(w http.ResponseWriter, r *http.Request) {
	c := s.admit(w, r)
	if c == nil {
		return
	}
	if !c.upgrade(w, r) {
		c.release()
		return
	}
	name := signal.ServerName(r.Host)
	go func() {
		defer c.release()
		s.serveHost(c, name)
	}()
}

func (s *Server) handleGuest(w http.ResponseWriter, r *http.Request, roomText string) {
	room, err := signal.ParseRoom(roomText)
	if err != nil {
		s.refuse(w, signal.CodeNoRoom, 0)
		return
	}
	c := s.admit(w, r)
	if c == nil {
		return
	}
	p, code, wait := s.join(r.Context(), room, c)
	if p == nil {
		s.refuse(w, code, wait)
		c.release()
		return
	}
	if !c.upgrade(w, r) {
		p.cancel()
		c.release()
		return
	}
	name := signal.ServerName(r.Host)
	go func() {
		defer c.release()
		s.serveGuest(p, c, room, name)
	}()
}

// join makes a place for a guest in a room, wherever that is, or says why there
// is none and for how long.
func (s *Server) join(ctx context.Context, room signal.Room, c *conn) (*pipe, signal.Code, time.Duration) {
	p, code, wait := s.joinHere(room, c)
	if code == signal.CodeNoRoom && s.await(ctx, room) {
		p, code, wait = s.joinHere(room, c)
	}
	if code == signal.CodeNoRoom && s.config.Cluster == nil && s.isClosing() {
		return nil, signal.CodeShuttingDown, s.spread(false)
	}
	if code != signal.CodeNoRoom || s.config.Cluster == nil {
		return p, code, wait
	}
	p, code, wait = s.joinElsewhere(ctx, room, c)
	if code != signal.CodeNoRoom {
		return p, code, wait
	}
	return s.joinHere(room, c) // it may have come meanwhile
}

func (s *Server) joinHere(room signal.Room, c *conn) (*pipe, signal.Code, time.Duration) {
	h := s.room(room)
	if h == nil {
		return nil, signal.CodeNoRoom, 0
	}
	return h.reserve(&hereGuest{c: c, room: room}, s.origin(c.addr), c.since.Add(s.limits.GuestLifetime))
}

// admit applies the limits that hold for every WebSocket. It returns nil if it
// has refused the request; else the connection must be released, and until
// then Shutdown waits for it.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) *conn {
	addr := s.config.Proxies.clientAddr(r)
	now := time.Now()
	release, wait, verdict := s.addresses.Acquire(addr, now)
	if verdict != ratelimit.VerdictYes {
		s.log.Info("refused", "why", "address limit", "addr", s.shown(addr))
		s.refuse(w, signal.CodeRateLimited, wait)
		return nil
	}
	c := &conn{
		s:           s,
		addr:        addr,
		releaseAddr: release,
		since:       now,
		writing:     make(chan struct{}, 1),
		gone:        make(chan struct{}),
	}
	s.mu.Lock()
	code := signal.Code(0)
	switch {
	case s.closing:
		code = signal.CodeShuttingDown
	case len(s.conns) >= s.limits.Connections:
		code = signal.CodeServerFull
	default:
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if code != 0 {
		release()
		s.refuse(w, code, s.spread(false))
		return nil
	}
	return c
}

// refuse answers a request before its upgrade.
func (s *Server) refuse(w http.ResponseWriter, code signal.Code, wait time.Duration) {
	s.refused[code].Add(1)
	status := http.StatusServiceUnavailable
	switch code {
	case signal.CodeNoRoom:
		status = http.StatusNotFound
	case signal.CodeRateLimited:
		status = http.StatusTooManyRequests
	case signal.CodeProtocol:
		status = http.StatusBadRequest
	}
	w.Header().Set(signal.HeaderCode, strconv.Itoa(int(code)))
	w.Header().Set("Connection", "close")
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	http.Error(w, code.String(), status)
	if code == signal.CodeShuttingDown {
		_ = http.NewResponseController(w).Flush() // before Run closes what is left
	}
}

// returnEvery is how far apart clients come back on average: two cores register
// hosts with TLS about twice as fast.
const returnEvery = 2 * time.Millisecond

// spread is a wait that brings clients back one after another, sooner where
// others take them than where one server has to start again, and where there
// are few.
func (s *Server) spread(toOthers bool) time.Duration {
	if toOthers {
		return mathrand.N(s.limits.Spread / 4)
	}
	s.mu.Lock()
	clients := max(s.leaving, len(s.conns))
	s.mu.Unlock()
	return time.Second + mathrand.N(min(s.limits.Spread, time.Second+time.Duration(clients)*returnEvery))
}

func (s *Server) room(r signal.Room) *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[r]
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Stats reads the counters.
func (s *Server) Stats() Stats {
	st := Stats{
		Guests:        s.guests.Load(),
		QueuedBytes:   s.queued.Load(),
		Registrations: s.registrations.Load(),
		Pipes:         s.pipes.Load(),
		BytesToHost:   s.toHost.Load(),
		BytesToGuest:  s.toGuest.Load(),
		Allowed:       s.allowed.Load(),
		HostLatency:   s.latency[roleHost].read(),
		GuestLatency:  s.latency[roleGuest].read(),
		Refused:       make(map[signal.Code]int64),
		PipesEnded:    make(map[signal.Reason]int64),
	}
	for i := range s.refused {
		if n := s.refused[i].Load(); n > 0 {
			st.Refused[signal.Code(i)] = n
		}
		if n := s.ended[i].Load(); n > 0 {
			st.PipesEnded[signal.Reason(i)] = n
		}
	}
	if s.config.Cluster != nil {
		c := s.config.Cluster.Stats()
		st.Cluster = &c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Connections = int64(len(s.conns))
	st.Rooms = int64(len(s.rooms))
	return st
}

// Shutdown ends the server. New connections are refused, every host is told
// to come back in a while, pipes may finish within [Limits].Drain. It returns
// when all connections are closed and all goroutines that served them are
// gone; when ctx ends before, it cuts what is left and returns ctx's error.
// Calling it again waits likewise.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	var hosts []*host
	var strangers []*conn
	if first {
		s.leaving = len(s.conns)
		s.close()
		s.wg.Add(1)
		go s.drainAway(slices.Collect(maps.Keys(s.away)))
		for c := range s.conns {
			if !c.established.Load() {
				strangers = append(strangers, c)
			}
		}
		for _, h := range s.rooms {
			hosts = append(hosts, h)
			s.wg.Add(1)
		}
	}
	s.mu.Unlock()
	for _, c := range strangers {
		c.kill()
	}
	toOthers := first && s.config.Cluster != nil && s.config.Cluster.Leave()
	for _, h := range hosts {
		go func() {
			defer s.wg.Done()
			h.leave(&signal.GoodbyeMsg{Code: signal.CodeShuttingDown, Retry: s.spread(toOthers)}, s.limits.Drain)
		}()
	}

	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.stop()
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.kill()
	}
	<-done
	return fmt.Errorf("signaling server shutdown: %w", ctx.Err())
}
