package portmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// searchGrace is how long a server that was found waits for a preferred one.
	searchGrace = 200 * time.Millisecond
	// searchPatience bounds a search.
	searchPatience = 10 * time.Second
)

// opener finds out whether a gateway speaks a protocol.
type opener struct {
	protocol Protocol
	open     func(ctx context.Context) (server, error)
}

// openers gives those for a gateway, the preferred one first.
func (n network) openers(r route) []opener {
	all := []opener{{PCP, func(ctx context.Context) (server, error) { return orNil(openPCP(ctx, r, n.mapPort)) }}}
	if r.gateway.Is4() {
		all = append(all,
			opener{NATPMP, func(ctx context.Context) (server, error) { return orNil(openNATPMP(ctx, r, n.mapPort)) }},
			opener{UPnP, func(ctx context.Context) (server, error) { return orNil(openUPnP(ctx, r, n.ssdpPort)) }})
	}
	return all
}

// orNil keeps a nil pointer out of an interface.
func orNil[S server](s S, err error) (server, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// search looks for the servers of a gateway, all at the same time.
type search struct {
	usable chan struct{} // closed when there is a server worth using, or there will be none
	done   chan struct{} // closed when all have been looked for

	mu    sync.Mutex
	found []server // guarded by mu; the preferred one first
	errs  []error  // guarded by mu
}

// startSearch starts a search, which ends with ctx or after some seconds.
func startSearch(ctx context.Context, openers []opener) *search {
	ctx, cancel := context.WithTimeout(ctx, searchPatience)
	s := &search{usable: make(chan struct{}), done: make(chan struct{})}
	var (
		running sync.WaitGroup
		ready   = sync.OnceFunc(func() { close(s.usable) })
		open    = make(map[Protocol]bool) // guarded by s.mu
	)
	for _, o := range openers {
		open[o.protocol] = true
	}
	for _, o := range openers {
		running.Go(func() {
			srv, err := o.open(ctx)
			s.mu.Lock()
			delete(open, o.protocol)
			if err != nil {
				s.errs = append(s.errs, fmt.Errorf("%v: %w", o.protocol, err))
			} else {
				s.found = append(s.found, srv)
				slices.SortFunc(s.found, func(a, b server) int { return int(a.protocol()) - int(b.protocol()) })
			}
			waiting := len(s.found) == 0
			for p := range open {
				waiting = waiting || p < s.found[0].protocol()
			}
			s.mu.Unlock()
			if waiting && err == nil {
				sleep(ctx, searchGrace)
			}
			if !waiting || err == nil {
				ready()
			}
		})
	}
	go func() { // whoever started the search waits for done
		running.Wait()
		cancel()
		ready()
		close(s.done)
	}()
	return s
}

// soFar gives the servers that were found, the preferred one first.
func (s *search) soFar() []server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.found)
}

// others gives those that are not among tried, once all have been looked for.
func (s *search) others(ctx context.Context, tried []server) []server {
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	return slices.DeleteFunc(s.soFar(), func(o server) bool { return slices.Contains(tried, o) })
}

// failures says why others were not found.
func (s *search) failures() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}
