package stream

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stalls records calls of OnStall.
type stalls struct {
	mu  sync.Mutex
	is  []bool
	at  []time.Time
	did func(bool)
}

func (s *stalls) on(is bool) {
	s.mu.Lock()
	s.is = append(s.is, is)
	s.at = append(s.at, time.Now())
	s.mu.Unlock()
	if s.did != nil {
		s.did(is)
	}
}

func (s *stalls) seen() []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.is)
}

// TestStall cuts a link off: data that is unanswered for 2 s says so, at both
// ends, and the link's coming back too.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cut atomic.Bool
		d := linkParams{delay: 50 * time.Millisecond, outages: func(time.Duration) bool { return cut.Load() }}
		var host, guest stalls
		p := newPair(t, pairOptions{up: d, down: d, hostConfig: Config{OnStall: host.on}, guestConfig: Config{OnStall: guest.on}})
		defer p.stop()
		time.Sleep(10 * time.Second)
		cut.Store(true)
		began := time.Now()
		p.key("a")
		p.src.write([]byte("out"))
		time.Sleep(1900 * time.Millisecond)
		if p.guest.Stalled() || p.host.Stalled() {
			t.Error("stalled after 1.9 s")
		}
		time.Sleep(200 * time.Millisecond)
		if !p.guest.Stalled() || !p.host.Stalled() {
			t.Error("not stalled after 2.1 s")
		}
		sent := p.gc.out.counts().sent + p.hc.out.counts().sent
		time.Sleep(60 * time.Second)
		if n := p.gc.out.counts().sent + p.hc.out.counts().sent - sent; n > 150 {
			t.Errorf("%d datagrams in a minute of silence", n)
		}
		cut.Store(false)
		time.Sleep(2 * time.Second)
		if want := []bool{true, false}; !slices.Equal(guest.seen(), want) || !slices.Equal(host.seen(), want) {
			t.Errorf("guest %v, host %v", guest.seen(), host.seen())
		}
		if p.guest.Stalled() || p.host.Stalled() || p.in.typed() != "a" {
			t.Error("it did not go on")
		}
		if took := guest.at[0].Sub(began); took != stallAfter {
			t.Errorf("the guest noticed after %v", took)
		}
		// An idle link is found silent too.
		time.Sleep(30 * time.Second)
		cut.Store(true)
		time.Sleep(stallAfter + guestProbeMax + 100*time.Millisecond)
		if !p.guest.Stalled() {
			t.Error("the guest did not notice that its idle link is silent")
		}
		cut.Store(false)
		time.Sleep(10 * time.Second)
	})
}

// TestLinkEnds has a link report its end: that is told at once, and a new one
// goes on with everything.
func TestLinkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := linkParams{delay: 50 * time.Millisecond}
		var guest stalls
		p := newPair(t, pairOptions{up: d, down: d, history: true, guestConfig: Config{OnStall: guest.on}})
		defer p.stop()
		time.Sleep(time.Second)
		p.key("lost")
		p.src.write([]byte("lost too"))
		p.gc.Close()
		p.hc.Close()
		synctest.Wait()
		if !slices.Equal(guest.seen(), []bool{true}) {
			t.Errorf("told %v", guest.seen())
		}
		p.key(" and typed meanwhile")
		p.src.resize()
		p.src.write([]byte("printed meanwhile"))
		time.Sleep(10 * time.Minute)
		hc, gc := connect(d, d, p.rng)
		p.guest.Rebind(gc)
		p.host.Rebind(hc)
		time.Sleep(200 * time.Millisecond)
		if got := p.in.typed(); got != "lost and typed meanwhile" {
			t.Errorf("typed %q", got)
		}
		p.settle(time.Second)
	})
}

// TestRebindFromOnStall races a second link as a session would: the first one
// hangs, and both ends move to the second.
func TestRebindFromOnStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := linkParams{delay: 50 * time.Millisecond, outages: func(t time.Duration) bool { return t > 3*time.Second }}
		good := linkParams{delay: 50 * time.Millisecond}
		var p *pair
		var guest stalls
		guest.did = func(is bool) {
			if !is {
				return
			}
			time.AfterFunc(300*time.Millisecond, func() {
				hc, gc := connect(good, good, p.rng)
				p.host.Rebind(hc)
				time.AfterFunc(50*time.Millisecond, func() { p.guest.Rebind(gc) })
			})
		}
		p = newPair(t, pairOptions{up: hang, down: hang, history: true, guestConfig: Config{OnStall: guest.on}})
		defer p.stop()
		time.Sleep(time.Second)
		times := echoTimes(p, 100, func() time.Duration { return 100 * time.Millisecond })
		if most := times[len(times)-1]; most > 2600*time.Millisecond {
			t.Errorf("a key took %v", most)
		}
		p.settle(time.Second)
	})
}

// TestOutages is the bad train: what is typed arrives once, and soon after each
// outage all is well.
func TestOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkParams{delay: 60 * time.Millisecond, jitter: 80 * time.Millisecond, loss: 0.05, rate: 125_000,
			outages: func(t time.Duration) bool { return t%(30*time.Second) > 27*time.Second }}
		p := newPair(t, pairOptions{up: l, down: l})
		defer p.stop()
		time.Sleep(2 * time.Second)
		times := echoTimes(p, 1500, func() time.Duration {
			if p.rng.IntN(20) == 0 {
				p.src.hold(true)
				p.src.write(text(p.rng, 3000)) // the editor scrolls
				p.src.hold(false)
			}
			return 100*time.Millisecond + time.Duration(p.rng.IntN(50))*time.Millisecond
		})
		t.Logf("mean %v, p50 %v, p90 %v, most %v", mean(times), percentile(times, 0.5), percentile(times, 0.9), times[len(times)-1])
		if most := times[len(times)-1]; most > 3*time.Second+900*time.Millisecond {
			t.Errorf("a key took %v", most)
		}
		if p50 := percentile(times, 0.5); p50 > 240*time.Millisecond {
			t.Errorf("half of the keys took more than %v", p50)
		}
		p.settle(5 * time.Second)
	})
}

// TestHeld has a program that draws for long: frames wait for it, but not for
// ever.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pairOptions{up: slow, down: slow})
		defer p.stop()
		time.Sleep(time.Second)
		stop := make(chan struct{})
		defer close(stop)
		go flood(p.src, p.rng, 10_000_000, stop)
		time.Sleep(time.Second)
		frames := p.host.Stats().Frames
		p.src.hold(true)
		time.Sleep(time.Second)
		if n := p.host.Stats().Frames - frames; n < 5 || n > 9 {
			t.Errorf("%d frames in a second of a half-drawn screen", n)
		}
	})
}

func TestDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pairOptions{})
		p.gc.Close()
		p.src.write([]byte("x"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.host.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain without a link: %v", err)
		}
		done := make(chan error)
		go func() { done <- p.host.Drain(t.Context()) }()
		synctest.Wait()
		p.stop()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Drain after the end: %v", err)
		}
		// What comes too late is closed.
		hc, _ := connect(linkParams{}, linkParams{}, p.rng)
		p.host.Rebind(hc)
		if _, err := hc.Recv(nil); err == nil {
			t.Error("a link that comes too late stays open")
		}
	})
}

// TestStopped has a guest that stops: it costs the host little.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := linkParams{delay: time.Millisecond}
		p := newPair(t, pairOptions{up: d, down: d})
		defer p.stop()
		time.Sleep(time.Second)
		stop := make(chan struct{})
		defer close(stop)
		go flood(p.src, p.rng, 2_000_000, stop)
		time.Sleep(time.Second)
		d.loss = 1
		p.gc.out.set(d)
		time.Sleep(10 * time.Second)
		sent := p.hc.out.counts().sent
		time.Sleep(60 * time.Second)
		if n := p.hc.out.counts().sent - sent; n > 500 {
			t.Errorf("%d datagrams to a guest that does not answer, in a minute", n)
		}
		d.loss = 0
		p.gc.out.set(d)
		time.Sleep(2 * time.Second)
		if st := p.host.Stats(); st.Stalled || st.Unacked > 2_000_000/10 {
			t.Errorf("it did not go on: %+v", st)
		}
	})
}
