package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const (
	// routeInterval is how often the way out of this machine is looked up where the
	// system does not tell that it has changed.
	routeInterval = 5 * time.Second
	// firstSearch and lastSearch bound the waits between looks for servers at a router
	// that had none, which its owner may come to switch on.
	firstSearch = 5 * time.Second
	lastSearch  = 5 * time.Minute

	// checkInterval is how often a router is asked whether it still has a mapping,
	// doubtInterval how soon again when it did not answer, and doubtPause how soon at
	// most after Client.Check, which anybody may cause who can fall silent.
	checkInterval = 30 * time.Second
	doubtInterval = 5 * time.Second
	doubtPause    = time.Second
	// firstRetry and lastRetry bound the waits between requests that fail.
	firstRetry = 5 * time.Second
	lastRetry  = 10 * time.Minute

	// requestPatience bounds a request, which by UPnP may be several, removePatience
	// the farewell.
	requestPatience = 10 * time.Second
	removePatience  = time.Second
)

// site is one address family of a client: its gateway, and the mappings there.
type site struct {
	// Set once.
	client *Client
	six    bool
	wake   chan struct{} // gets a value when what is wanted has changed
}

var errNoServer = errors.New("the router offers none")

// run follows the default gateway and keeps the mappings at it until ctx is done.
func (s *site) run(ctx context.Context) {
	var (
		before route
		pause  = firstSearch
	)
	for ctx.Err() == nil {
		r, err := s.client.net.findRoute(s.six)
		if r != before {
			before, pause = r, firstSearch
			s.client.log.Debug("gateway", "six", s.six, "gateway", r.gateway, "local", r.local, "err", err)
		}
		rctx, cancel := context.WithCancelCause(ctx)
		var follower sync.WaitGroup
		follower.Go(func() { s.follow(rctx, cancel, r) })
		if err == nil {
			// Before there is a port to be mapped: by then it shall be known how.
			found := startSearch(rctx, s.client.net.openersOf(r))
			<-found.usable
			if err = errNoServer; len(found.soFar()) > 0 {
				began := time.Now()
				if err = s.serve(rctx, r, found); time.Since(began) > lastSearch {
					pause = firstSearch
				}
			}
			<-found.done
			if rctx.Err() == nil {
				s.client.log.Debug("no port mapping server", "gateway", r.gateway, "err", err, "tried", found.failures())
			}
		}
		if rctx.Err() == nil {
			s.idle(rctx, pause, err)
			pause = min(2*pause, lastSearch)
		}
		cancel(nil)
		follower.Wait()
	}
}

// wanted gives the mappings of the site's family that are wanted.
func (s *site) wanted() []*mapping {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	var out []*mapping
	for _, m := range s.client.wanted {
		if m.six() == s.six {
			out = append(out, m)
		}
	}
	return out
}

var errMoved = errors.New("another gateway or address")

// follow cancels when the way out of this machine is another than r.
func (s *site) follow(ctx context.Context, cancel context.CancelCauseFunc, r route) {
	news := s.client.net.changes(ctx, routeInterval)
	for {
		if now, _ := s.client.net.findRoute(s.six); now != r {
			cancel(errMoved)
			return
		}
		select {
		case <-news:
		case <-s.client.doubted():
		case <-ctx.Done():
			return
		}
	}
}

// serve keeps the mappings that are wanted until ctx is done, or until none of the
// servers answers any more, and takes them away.
func (s *site) serve(ctx context.Context, r route, found *search) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	keepers := make(map[*mapping]context.CancelFunc)
	for {
		wanted := make(map[*mapping]bool)
		for _, m := range s.wanted() {
			wanted[m] = true
			if keepers[m] != nil {
				continue
			}
			kctx, stop := context.WithCancel(ctx)
			keepers[m] = stop
			k := &keeper{mapping: m, route: r, found: found}
			running.Go(func() {
				defer stop()
				if err := k.run(kctx); err != nil {
					cancel(err)
				}
			})
		}
		for m, stop := range keepers {
			if !wanted[m] {
				stop()
				delete(keepers, m)
			}
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// idle tells those who want mappings why there are none, until it is time to look for
// servers again: when the pause is over, and when somebody new asks or is in doubt, unless
// the last look was just now.
func (s *site) idle(ctx context.Context, pause time.Duration, why error) {
	over := time.NewTimer(pause)
	defer over.Stop()
	soonest := time.Now().Add(firstSearch)
	told := make(map[*mapping]bool)
	for first := true; ; first = false {
		doubted := s.client.doubted()
		for _, m := range s.wanted() {
			if !first && !told[m] && !time.Now().Before(soonest) {
				return
			}
			told[m] = true
			m.set(0, netip.AddrPort{}, why)
		}
		select {
		case <-s.wake:
		case <-doubted:
			if !time.Now().Before(soonest) {
				return
			}
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// keeper keeps one mapping at one gateway.
type keeper struct {
	// Set once.
	mapping *mapping
	route   route
	found   *search

	// Owned by run.
	server    server // that has granted the mapping, or may have
	grant     grant
	expires   time.Time
	suggested netip.AddrPort
}

// run keeps the mapping until ctx is done and then takes it away. It gives an error when
// no server answers.
func (k *keeper) run(ctx context.Context) error {
	defer func() {
		if ctx.Err() != nil {
			k.mapping.set(0, netip.AddrPort{}, nil)
		}
		k.remove(ctx)
	}()
	pause := firstRetry
	for {
		wait, err := k.obtain(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			pause = firstRetry
			err = k.hold(ctx)
			if ctx.Err() != nil {
				return nil
			}
			k.mapping.client.log.Debug("port mapping lost", "port", k.mapping.request, "external", k.grant.external, "err", err)
			continue
		}
		k.mapping.set(0, netip.AddrPort{}, err)
		if silent(err) {
			return err // look for the router anew
		}
		if !sleep(ctx, max(pause, min(wait, lastRetry))) {
			return nil
		}
		pause = min(2*pause, lastRetry)
	}
}

// silent reports whether err shows that there is no server any more.
func silent(err error) bool { return errors.Is(err, errSilent) || errors.Is(err, errRefused) }

// sleep reports whether the time passed before ctx was done.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (k *keeper) want() request {
	want := k.mapping.request
	want.suggested = k.suggested
	return want
}

// obtain gets the mapping from the first server that grants it. When none does, it gives
// the reason of the first, and how long that will stand.
func (k *keeper) obtain(ctx context.Context) (wait time.Duration, err error) {
	servers := k.found.soFar()
	for i := 0; i < len(servers); i++ {
		gerr := k.ask(ctx, servers[i])
		if gerr == nil {
			return 0, nil
		}
		if ctx.Err() != nil {
			return 0, gerr
		}
		k.remove(ctx)
		if err == nil || silent(err) {
			err = gerr
			var refused *refusedError
			if errors.As(gerr, &refused) {
				wait = refused.pause
			}
		}
		if i == len(servers)-1 {
			servers = append(servers, k.found.others(ctx, servers)...)
		}
	}
	return wait, err
}

// ask asks one server, for the mapping or for more time for it.
func (k *keeper) ask(ctx context.Context, s server) error {
	asked := time.Now()
	rctx, done := context.WithTimeout(ctx, requestPatience)
	defer done()
	g, err := obtain(rctx, s, k.route, k.want())
	if err != nil && k.server == s && ctx.Err() == nil && !errors.Is(err, errUseless) {
		return err // what was granted before still stands
	}
	k.server, k.grant = s, g
	if err != nil {
		return err
	}
	k.expires, k.suggested = asked.Add(g.lifetime), g.external
	k.mapping.set(s.protocol(), g.external, nil)
	return nil
}

// hold renews the mapping, at half of what is left of it, until it has expired or is
// found to be lost.
func (k *keeper) hold(ctx context.Context) error {
	s := k.server
	asked := time.Now()
	renew, check := asked.Add(time.Until(k.expires)/2), asked.Add(checkInterval)
	for {
		next := time.NewTimer(time.Until(earlier(renew, check)))
		select {
		case <-next.C:
		case <-k.mapping.client.doubted():
			next.Stop()
			check = earlier(check, asked.Add(doubtPause))
			continue
		case <-ctx.Done():
			next.Stop()
			return ctx.Err()
		}
		asked = time.Now()
		switch {
		case !asked.Before(k.expires):
			return fmt.Errorf("expired: %w", errSilent)
		case asked.Before(renew):
			cctx, done := context.WithTimeout(ctx, requestPatience)
			held, err := s.check(cctx, k.want(), k.grant)
			done()
			if !held {
				return errors.New("the router has forgotten it, or moved it")
			}
			check = time.Now().Add(checkInterval)
			if err != nil {
				check = time.Now().Add(doubtInterval)
			}
		default:
			var refused *refusedError
			if err := k.ask(ctx, s); errors.As(err, &refused) || errors.Is(err, errUseless) {
				return err
			}
			renew = time.Now().Add(max(time.Until(k.expires)/2, doubtInterval))
			check = time.Now().Add(checkInterval)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// remove takes away the mapping that was granted, or that may have been: when an answer
// did not come.
func (k *keeper) remove(ctx context.Context) {
	s := k.server
	if s == nil {
		return
	}
	k.server = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removePatience)
	defer cancel()
	err := s.remove(ctx, k.want(), k.grant)
	k.mapping.client.log.Debug("port mapping removed", "port", k.mapping.request, "by", s.protocol(), "err", err)
}
