package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a Sender and a Receiver with all that is around them, running in a
// synctest bubble.
type pair struct {
	t     *testing.T
	rng   *rand.Rand
	src   *toySource
	sink  *toySink
	in    *toyInput
	host  *Sender[*toy]
	guest *Receiver[*toy]
	hc    *end
	gc    *end
	stop  func()
}

type pairOptions struct {
	up, down    linkParams
	seed        uint64
	neck        *bottleneck
	src         *toySource
	history     bool
	hostConfig  Config
	guestConfig Config
}

func newPair(t *testing.T, o pairOptions) *pair {
	hc, gc := connectShared(o.up, o.down, rand.New(rand.NewPCG(o.seed, 42)), o.neck)
	p := newPairOver(t, hc, gc, o)
	p.hc, p.gc = hc, gc
	return p
}

// newPairOver is newPair over a link that is there.
func newPairOver(t *testing.T, hc, gc Conn, o pairOptions) *pair {
	rng := rand.New(rand.NewPCG(o.seed, 43))
	p := &pair{t: t, rng: rng, src: o.src, in: &toyInput{room: -1}}
	if p.src == nil {
		p.src = newToySource()
	}
	if o.history {
		p.src.history = map[uint64]uint64{0: 0}
	}
	p.sink = &toySink{src: p.src, check: func(format string, args ...any) {
		t.Errorf("at the sink: %s", fmt.Sprintf(format, args...))
	}}
	p.host = NewSender(hc, p.src, p.in, o.hostConfig)
	p.guest = NewReceiver(gc, p.sink, o.guestConfig)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- p.host.Run(ctx) }()
	go func() { done <- p.guest.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		for range 2 {
			if err := <-done; err != context.Canceled {
				t.Errorf("Run: %v", err)
			}
		}
	})
	return p
}

func (p *pair) key(s string) {
	p.t.Helper()
	if _, err := p.guest.SendKeys(p.t.Context(), []byte(s)); err != nil {
		p.t.Errorf("SendKeys: %v", err)
	}
}

// settle waits until the guest has everything.
func (p *pair) settle(limit time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	if err := p.host.Drain(ctx); err != nil {
		p.t.Errorf("Drain: %v\nhost %+v\nguest %+v", err, p.host.Stats(), p.guest.Stats())
	}
	want, _ := p.src.Mark()
	if got := p.sink.state(); !got.equal(want) {
		p.t.Errorf("guest has the state at %d, want the one at %d", got.pos, want.pos)
	}
}

func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := linkParams{delay: 50 * time.Millisecond}
		p := newPair(t, pairOptions{up: d, down: d, history: true})
		defer p.stop()
		p.in.react(p.src.write)
		time.Sleep(time.Second)
		for i := range 20 {
			p.key(string(rune('a' + i)))
			time.Sleep(130 * time.Millisecond)
		}
		p.settle(5 * time.Second)
		if got, want := p.in.typed(), "abcdefghijklmnopqrst"; got != want {
			t.Errorf("typed %q, want %q", got, want)
		}
		t.Logf("host %+v", p.host.Stats())
		t.Logf("guest %+v", p.guest.Stats())
	})
}
