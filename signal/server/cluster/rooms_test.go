package cluster_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"testing"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// A second registration with the same session key replaces the first, across
// replicas as on one.
func TestReplaced(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{})
	key := signaltest.NewKey(t)
	first := register(t, rs[0], key)
	guest, host := pair(t, rs[2], first)
	second := register(t, rs[1], key)
	if _, err := first.Accept(signaltest.Context(t)); !errors.Is(err, signal.ErrReplaced) {
		t.Errorf("the first registration ended with %v", err)
	}
	if _, err := host.Read(make([]byte, 1)); !errors.Is(err, signal.ErrReplaced) {
		t.Errorf("the first host's pipe ended with %v", err)
	}
	if _, err := guest.Read(make([]byte, 1)); !isPipeError(err, signal.ReasonLost) {
		t.Errorf("the guest's pipe ended with %v", err)
	}
	for _, r := range rs {
		g, h := pair(t, r, second)
		signaltest.Exchange(t, g, h, []byte("hello"))
	}
	if n := rs[0].Stats().Cluster.Yielded; n != 1 {
		t.Errorf("the first replica has yielded %d rooms", n)
	}
	if n := rs[0].Stats().Rooms + rs[1].Stats().Rooms; n != 1 {
		t.Errorf("%d rooms, want 1", n)
	}
}

// A host that names all replicas is registered at one of them, and moves on to
// another when that one ends.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{})
	key := signaltest.NewKey(t)
	at := make(chan string, 100)
	var mu sync.Mutex
	phases := map[string]signal.Phase{}
	l, err := signal.NewListener(key, []string{rs[0].url, rs[1].url, rs[2].url}, nil, func(s signal.State) {
		mu.Lock()
		phases[s.URL] = s.Phase
		mu.Unlock()
		if s.Phase == signal.PhaseRegistered {
			at <- s.URL
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	settled := func(standby int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			n := map[signal.Phase]int{}
			for _, p := range phases {
				n[p]++
			}
			return n[signal.PhaseRegistered] == 1 && n[signal.PhaseStandby] == standby
		}
	}
	waitFor(t, settled(2))
	room := signal.RoomOf(signal.Pin(key.Public().(ed25519.PublicKey)))
	meet := func(r *replica) {
		t.Helper()
		guest := dial(t, r, room)
		host, err := l.Accept(signaltest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = host.Close() }()
		signaltest.Exchange(t, guest, host, []byte("hello"))
	}
	for _, r := range rs {
		meet(r)
	}
	for i, r := range rs {
		mu.Lock()
		here := phases[r.url] == signal.PhaseRegistered
		mu.Unlock()
		if here {
			r.stop()
			waitFor(t, settled(1))
			meet(rs[(i+1)%3])
			meet(rs[(i+2)%3])
			return
		}
	}
}

// However many come at once with the same key, at whichever replica, one
// remains.
func TestRegistrationsAtOnce(t *testing.T) {
	t.Parallel()
	rs := three(t, startNATS(t).ClientURL(), server.Limits{AddressRate: server.Rate{PerSecond: 1e9, Burst: 1e9}})
	for range 5 {
		key := signaltest.NewKey(t)
		var wg sync.WaitGroup
		regs := make([]*signal.Registration, 9)
		for i := range regs {
			wg.Go(func() {
				reg, err := signal.Register(signaltest.Context(t), rs[i%3].url, key, nil)
				if err != nil {
					if !errors.Is(err, signal.ErrReplaced) {
						t.Errorf("register: %v", err)
					}
					return
				}
				regs[i] = reg
			})
		}
		wg.Wait()
		live := func() (live []*signal.Registration) {
			for _, r := range regs {
				if r == nil {
					continue
				}
				select {
				case <-r.Done():
				default:
					live = append(live, r)
				}
			}
			return live
		}
		waitFor(t, func() bool { return len(live()) == 1 })
		waitFor(t, func() bool { return rs[0].Stats().Rooms+rs[1].Stats().Rooms+rs[2].Stats().Rooms == 1 })
		for _, r := range rs {
			g, h := pair(t, r, live()[0])
			signaltest.Exchange(t, g, h, []byte("hello"))
		}
		for _, r := range regs {
			if r != nil {
				_ = r.Close()
			}
		}
		waitFor(t, func() bool { return rs[0].Stats().Rooms+rs[1].Stats().Rooms+rs[2].Stats().Rooms == 0 })
	}
}
