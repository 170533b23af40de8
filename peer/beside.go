package peer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pairterm/pairterm/peer/link"
)

// A session moves to a better path by way of another link, which guest and host set up
// beside the present one, over its control channel: no server is needed. The guest
// decides. It goes over to the new link while it still reads the old one; the host goes
// over with the first datagram that it gets on the new link, and reads the old one for
// a while, too. So nothing is lost on the way, and nobody waits.

const (
	// besideTimeout bounds the making of a link beside another one, at either end.
	besideTimeout = 8 * time.Second
	// besideUse is how long a guest may take to use one.
	besideUse = 5 * time.Second
	// maxBesideAtOnce bounds those that a host makes at one time: others who have no link
	// yet must not find all places taken.
	maxBesideAtOnce = 16
	// A guest may have so many made, and one more each besideEvery.
	besideBurst = 6
	besideEvery = 5 * time.Second
	// maxBeside bounds the messages that wait on their way to such a link.
	maxBeside = 80

	// lingerFor is how long a link that another has replaced is still read.
	lingerFor = 2 * time.Second
)

// When a guest looks for a better path. The first look comes soon: the first path that
// worked was taken. Over TCP or a relay it goes on looking.
var (
	looksUDP    = []time.Duration{1500 * time.Millisecond, 30 * time.Second}
	looksOther  = []time.Duration{1500 * time.Millisecond, 10 * time.Second, 30 * time.Second, time.Minute}
	looksMoved  = []time.Duration{30 * time.Second}
	looksRoamed = []time.Duration{500 * time.Millisecond, 3 * time.Second, 10 * time.Second}

	// looksLast is the time between looks after those of looksOther.
	looksLast = 5 * time.Minute
	// shortRTT is a round trip that is short enough not to look for a shorter one.
	shortRTT = 2 * time.Millisecond
)

// linger closes the link of a session that another is about to replace, but only after
// what is on its way over it has had time to arrive.
func (s *session) linger(ctx context.Context, work *sync.WaitGroup) {
	s.staying.Store(true)
	work.Go(func() {
		t := time.NewTimer(lingerFor)
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.link.Done():
		case <-ctx.Done():
		}
		s.hangUp()
	})
}

// handBeside hands a message to the link that is being set up beside this one. Of more
// than a link needs the rest is dropped.
func (s *session) handBeside(m controlBeside) {
	select {
	case s.beside <- m:
	default:
	}
}

// besideSignaler carries the messages of a link over the control channel of another.
type besideSignaler struct {
	s       *session
	attempt uint8
	// first is a message that came already, next one of a later attempt; nil for none.
	first, next *controlBeside
	giveUp      context.CancelFunc // ends this attempt; nil at the guest
}

var (
	// errNextAttempt ends an attempt that the guest has given up for another one.
	errNextAttempt = errors.New("another attempt has begun")
	// errGivenUp ends an attempt that the guest has given up.
	errGivenUp = errors.New("the guest has given up")
)

func (b *besideSignaler) Send(_ context.Context, m link.Message) error {
	p, err := m.AppendBinary(nil)
	if err != nil {
		return err
	}
	return b.s.send(controlBeside{b.attempt, string(p)})
}

func (b *besideSignaler) Recv(ctx context.Context) (link.Message, error) {
	if m := b.first; m != nil {
		b.first = nil
		return link.ParseMessage([]byte(m.message))
	}
	for {
		select {
		case m := <-b.s.beside:
			switch int8(m.attempt - b.attempt) {
			case 0:
				if m.message == "" && b.giveUp != nil {
					b.giveUp()
					return nil, errGivenUp
				}
				return link.ParseMessage([]byte(m.message))
			case 1:
				if b.giveUp != nil {
					b.next = &m
					b.giveUp()
				}
				return nil, errNextAttempt
			}
		case <-b.s.link.Done():
			return nil, b.s.link.Err()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// acceptBeside makes the links that a guest asks for beside s, until one takes its
// place.
func (g *guest[S]) acceptBeside(ctx context.Context, s *session) {
	limiter := rate.NewLimiter(rate.Every(besideEvery), besideBurst)
	var last uint8
	var waiting *controlBeside
	for {
		m := waiting
		waiting = nil
		if m == nil {
			select {
			case got := <-s.beside:
				m = &got
			case <-s.link.Done():
				return
			case <-ctx.Done():
				return
			}
		}
		if m.attempt == last {
			continue // late words of the attempt before
		}
		last = m.attempt
		if !limiter.Allow() {
			continue
		}
		select {
		case g.host.beside <- struct{}{}:
		default:
			continue
		}
		sig := &besideSignaler{s: s, attempt: m.attempt, first: m}
		ns, err := g.host.linkBeside(ctx, sig)
		<-g.host.beside
		waiting = sig.next
		if err != nil {
			g.host.cfg.Log.Debug("no link beside", "err", err)
			continue
		}
		uctx, cancel := context.WithTimeout(ctx, besideUse)
		err = ns.await(uctx)
		cancel()
		if err != nil {
			ns.close() // the guest does not want it
			continue
		}
		select {
		case g.binds <- ns:
		case <-ctx.Done():
			ns.close()
		}
		return
	}
}

func (h *Host[S]) linkBeside(ctx context.Context, sig *besideSignaler) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, besideTimeout)
	defer cancel()
	sig.giveUp = cancel
	l, err := h.cfg.Transport.Accept(ctx, sig)
	if err != nil {
		return nil, err
	}
	return movedSession(l, sig.s, hostEnd)
}

// movedSession makes a session of a link that was made beside before's.
func movedSession(l *link.Link, before *session, as end) (*session, error) {
	s, err := sealLink(l, before.secret, as)
	if err != nil {
		l.Close()
		return nil, err
	}
	s.moved = true
	return s, nil
}

// roam tells all guests that the host's network has changed.
func (h *Host[S]) roam() {
	for _, g := range h.all() {
		g.mu.Lock()
		s := g.session
		g.mu.Unlock()
		if s != nil {
			_ = s.send(controlRoam{}) // the end of a link shows elsewhere
		}
	}
}

// stay keeps the present link open for a while when another takes its place.
func (g *guest[S]) stay(ctx context.Context, work *sync.WaitGroup) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session != nil {
		g.session.linger(ctx, work)
	}
}

// stay keeps the present link open for a while when another takes its place.
func (g *Guest[S]) stay(ctx context.Context, work *sync.WaitGroup) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session != nil {
		g.session.linger(ctx, work)
	}
}

// improve looks for a better path than that of s, now and then and when a network has
// changed, until it has handed one over or s has ended.
func (g *Guest[S]) improve(ctx context.Context, s *session, better chan<- *session) {
	g.mu.Lock()
	transport := g.transport
	g.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	changed := make(chan struct{}, 1)
	watching.Go(func() {
		transport.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})

	looks, last := firstLooks(s.link.Path(), s.link.OnlyPath(), s.moved)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	plan := func() {
		switch {
		case len(looks) > 0:
			timer.Reset(looks[0])
			looks = looks[1:]
		case last != 0:
			timer.Reset(last)
		default:
			timer.Stop()
		}
	}
	plan()
	for attempt := uint8(1); ; {
		select {
		case <-timer.C:
			if !g.receiver.Stalled() {
				ns, err := g.linkBeside(ctx, transport, s, attempt)
				attempt++
				if err == nil {
					select {
					case better <- ns:
					case <-ctx.Done():
						ns.close()
					}
					return
				}
				g.cfg.Log.Debug("no better path", "err", err)
			}
			plan()
		case <-changed:
			looks = looksRoamed
			plan()
		case <-s.roam:
			looks = looksRoamed
			plan()
		case <-s.link.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// firstLooks is when to look for a better path than p, which may be the only one, and the
// time between looks after that, 0 for none.
func firstLooks(p link.PathInfo, only, moved bool) (looks []time.Duration, last time.Duration) {
	switch {
	case p.TCP() || p.Relayed():
		return looksOther, looksLast
	case only, p.RTT != 0 && p.RTT < shortRTT:
		return nil, 0
	case moved:
		return looksMoved, 0
	}
	return looksUDP, 0
}

// errNotBetter reports a link that is not worth moving to.
var errNotBetter = errors.New("the present path is as good")

// present is the path of s. What the link measured of it while it was being set up, and
// both machines had much to do, is longer than what the streams have measured since.
func (g *Guest[S]) present(s *session) link.PathInfo {
	p := s.link.Path()
	if least := g.receiver.Stats().MinRTT; least != 0 && (p.RTT == 0 || least < p.RTT) {
		p.RTT = least
	}
	return p
}

// linkBeside makes a link over a better path than that of s.
func (g *Guest[S]) linkBeside(ctx context.Context, transport *link.Transport, s *session, attempt uint8) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, besideTimeout)
	defer cancel()
	for {
		select {
		case <-s.beside: // of an attempt before
			continue
		default:
		}
		break
	}
	l, err := transport.DialBeside(ctx, &besideSignaler{s: s, attempt: attempt}, s.link.Path())
	if err != nil {
		// The host need not go on asking addresses that are silent by now.
		_ = s.send(controlBeside{attempt: attempt}) // the end of s shows elsewhere
		return nil, err
	}
	if now, was := l.Path(), g.present(s); !now.Better(was) {
		g.cfg.Log.Debug("not better", "path", now, "rtt", now.RTT, "present", was, "rtt", was.RTT)
		return nil, errors.Join(errNotBetter, l.Close())
	}
	return movedSession(l, s, guestEnd)
}
