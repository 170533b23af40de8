package signal

import (
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Waits between attempts to register. They double, with jitter, so that the
// hosts of a server that was away do not all come back at once.
const (
	firstRetry  = time.Second
	longestWait = time.Minute
	// stableAfter is how long a registration must have lasted for the waits to
	// start over.
	stableAfter = 30 * time.Second
	// standbyGrace is how long the sibling that superseded a worker has to hear
	// that it is registered.
	standbyGrace = 5 * time.Second
)

// Phase is what a [Listener] does about one of its servers.
type Phase int

// The phases.
const (
	PhaseConnecting Phase = iota // an attempt is under way
	PhaseRegistered              // the room is open there
	PhaseWaiting                 // an attempt failed or the server is lost; the next one follows
	PhaseStandby                 // registered at the same server by another name
	PhaseReplaced                // another host has taken over there; nothing follows
)

// String is the phase in a word.
func (p Phase) String() string {
	switch p {
	case PhaseConnecting:
		return "connecting"
	case PhaseRegistered:
		return "registered"
	case PhaseWaiting:
		return "waiting"
	case PhaseStandby:
		return "standby"
	case PhaseReplaced:
		return "replaced"
	}
	return "unknown"
}

// State is what a [Listener] reports about one of its servers.
type State struct {
	URL   string // as normalized by [ParseURL]
	Phase Phase
	Info  Info          // PhaseRegistered
	Err   error         // PhaseWaiting, PhaseReplaced: why
	Retry time.Duration // PhaseWaiting: when the next attempt follows
}

// Listener keeps a host registered at several servers at once, for ever: what
// fails or is lost is tried again. It starts nothing by itself; call Run.
//
//	l, err := signal.NewListener(key, urls, nil, report)
//	go l.Run(ctx)           // whoever writes go also waits
//	conn, err := l.Accept(ctx)
type Listener struct {
	// Set once.
	key      ed25519.PrivateKey
	urls     []string
	opts     *Options
	onState  func(State)
	instance [16]byte
	conns    chan net.Conn
	done     chan struct{} // closed when Run has returned

	mu         sync.Mutex
	registered map[string]*Registration // guarded by mu; by URL
	failed     map[string]error         // guarded by mu; by URL, the last failure
	losses     int                      // guarded by mu; how many registrations were lost
	changed    chan struct{}            // guarded by mu; closed and replaced when the above change
	checked    chan struct{}            // guarded by mu; closed and replaced by Check
	lastCheck  time.Time                // guarded by mu
	err        error                    // guarded by mu; what Run returned
}

// NewListener makes a listener for the room of key at all of the servers. The
// callback, which may be nil, is told of every change of state, by several
// goroutines but one at a time for each URL; it must return soon. The URLs are
// checked with [ParseURL]; duplicates count once.
func NewListener(key ed25519.PrivateKey, urls []string, opts *Options, onState func(State)) (*Listener, error) {
	l := &Listener{
		key:        key,
		opts:       opts,
		onState:    onState,
		instance:   newInstance(),
		conns:      make(chan net.Conn),
		done:       make(chan struct{}),
		registered: make(map[string]*Registration),
		failed:     make(map[string]error),
		changed:    make(chan struct{}),
		checked:    make(chan struct{}),
	}
	seen := make(map[string]bool)
	for _, u := range urls {
		u, err := ParseURL(u)
		if err != nil {
			return nil, err
		}
		if !seen[u] {
			seen[u] = true
			l.urls = append(l.urls, u)
		}
	}
	if len(l.urls) == 0 {
		return nil, errNoURLs
	}
	return l, nil
}

// Run keeps the host registered until ctx ends (then it returns nil), or until
// another host has taken over with the same session key at every server, which
// is not contested ([ErrReplaced]). One server that says so does not end the
// others. Run returns when all pipes are closed and all its goroutines are
// gone. Call it once.
func (l *Listener) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, u := range l.urls {
		wg.Go(func() {
			w := worker{l: l, url: u}
			w.run(ctx)
			w.leaving.Wait()
		})
	}
	wg.Wait()

	var err error
	if ctx.Err() == nil {
		err = ErrReplaced
	}
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	close(l.done)
	return err
}

// Accept returns the next guest's pipe, from whichever server, with an [Addr]
// for a RemoteAddr. When Run has returned it returns what Run did, or
// [net.ErrClosed].
func (l *Listener) Accept(ctx context.Context) (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err != nil {
			return nil, l.err
		}
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// WaitRegistered returns nil once the room is open at one server at least. If
// every server has failed at least once and none is left, it returns a
// [*DialError]; Run goes on trying all the same, and WaitRegistered may be
// called again.
func (l *Listener) WaitRegistered(ctx context.Context) error {
	for {
		l.mu.Lock()
		changed := l.changed
		if len(l.registered) > 0 {
			l.mu.Unlock()
			return nil
		}
		if len(l.failed) == len(l.urls) {
			failed := &DialError{}
			for _, u := range l.urls {
				failed.Attempts = append(failed.Attempts, &AttemptError{URL: u, Err: l.failed[u]})
			}
			l.mu.Unlock()
			failed.sort()
			return failed
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-l.done:
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.err != nil {
				return l.err
			}
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// checkEvery bounds how often Check does something.
const checkEvery = time.Second

// Check has the listener make sure that its registrations are alive, and try at once
// where it waits to try again. Call it when there is reason for doubt: the machine's
// addresses have changed, or a guest has fallen silent. By itself a registration that is
// gone without a word, as after a change of networks, is noticed within 40 s only.
func (l *Listener) Check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.lastCheck) >= checkEvery {
		l.lastCheck = now
		close(l.checked)
		l.checked = make(chan struct{})
	}
	for _, r := range l.registered {
		r.s.doubt()
	}
}

// sleep waits, at the longest until Check is called, which it reports.
func (l *Listener) sleep(ctx context.Context, d time.Duration) (woken bool) {
	l.mu.Lock()
	checked := l.checked
	l.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-checked:
		return true
	case <-ctx.Done():
	}
	return false
}

// register notes a registration, and reports it.
func (l *Listener) register(url string, r *Registration) {
	l.mu.Lock()
	l.registered[url] = r
	l.mu.Unlock()
	l.report(State{URL: url, Phase: PhaseRegistered, Info: r.Info()})
}

func (l *Listener) report(s State) {
	l.mu.Lock()
	switch s.Phase {
	case PhaseRegistered:
		delete(l.failed, s.URL)
	case PhaseWaiting, PhaseReplaced:
		l.failed[s.URL] = s.Err
	}
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	if l.onState != nil {
		l.onState(s)
	}
}

// lose notes that a registration has ended. One that was superseded is not
// lost: its successor lives, and those that stand by have nothing to do.
func (l *Listener) lose(url string, err error) {
	l.mu.Lock()
	delete(l.registered, url)
	if !errors.Is(err, ErrSuperseded) {
		l.losses++
	}
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
}

func (l *Listener) lossCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.losses
}

// worker keeps one URL registered.
type worker struct {
	l       *Listener
	url     string
	retries int
	leaving sync.WaitGroup // registrations whose server said goodbye and whose pipes may finish
}

// run returns when ctx is done, or another host has taken over.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.l.report(State{URL: w.url, Phase: PhaseConnecting})
		losses := w.l.lossCount()
		reg, err := register(ctx, w.url, w.l.key, w.l.instance, w.l.opts)
		if err == nil {
			start := time.Now()
			w.l.register(w.url, reg)
			err = w.serve(ctx, reg)
			w.l.lose(w.url, err)
			if time.Since(start) >= stableAfter {
				w.retries = 0
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrReplaced):
			w.l.report(State{URL: w.url, Phase: PhaseReplaced, Err: err})
			return
		case errors.Is(err, ErrSuperseded):
			w.standby(ctx, losses)
		default:
			wait := w.backoff(err)
			w.l.report(State{URL: w.url, Phase: PhaseWaiting, Err: err, Retry: wait})
			if w.l.sleep(ctx, wait) {
				w.retries = 0
			}
		}
	}
}

// serve passes guests on until the registration ends, and returns why.
func (w *worker) serve(ctx context.Context, reg *Registration) error {
	for {
		conn, err := reg.Accept(ctx)
		if err != nil {
			w.leaving.Go(func() {
				select {
				case <-reg.Done():
				case <-ctx.Done():
				}
				_ = reg.Close()
			})
			return err
		}
		select {
		case w.l.conns <- conn:
		case <-reg.Done(): // and the pipe with it
			_ = conn.Close()
		case <-ctx.Done():
			_ = conn.Close()
		}
	}
}

// backoff is the wait before the next attempt.
func (w *worker) backoff(err error) time.Duration {
	d := min(firstRetry<<min(w.retries, 16), longestWait)
	w.retries++
	var bye *GoodbyeError
	if errors.As(err, &bye) && bye.Retry > 0 {
		// The server knows better, and has spread its clients already.
		return min(bye.Retry, maxRetryAfter)
	}
	return d/4 + rand.N(d*3/4)
}

// standby waits while the registration that superseded this one may live:
// until one is lost. The count of losses is from before this worker
// registered, so that none is overlooked; at worst the two change places once.
// If it turns out that no other is registered at all, it also ends.
func (w *worker) standby(ctx context.Context, losses int) {
	w.l.report(State{URL: w.url, Phase: PhaseStandby})
	grace := time.NewTimer(standbyGrace)
	defer grace.Stop()
	for settled := false; ; {
		w.l.mu.Lock()
		changed := w.l.changed
		over := w.l.losses != losses || settled && len(w.l.registered) == 0
		w.l.mu.Unlock()
		if over {
			return
		}
		select {
		case <-changed:
		case <-grace.C:
			settled = true
		case <-ctx.Done():
			return
		}
	}
}
