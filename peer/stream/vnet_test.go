package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/vnet"

	rtc "github.com/pairterm/pairterm/peer/link"
)

// wan is a virtual network with a guest and a host, whose datagrams go through the whole
// of WebRTC. In a synctest bubble its minutes take milliseconds.
type wan struct {
	guest, host *rtc.Transport

	mu    sync.Mutex
	loses func() bool // guarded by mu
}

func newWAN(t *testing.T, delay, jitter time.Duration) *wan {
	t.Helper()
	w := &wan{loses: func() bool { return false }}
	router, err := vnet.NewRouter(&vnet.RouterConfig{
		CIDR: "1.0.0.0/8", LoggerFactory: quietLogs{}, MinDelay: delay, QueueSize: 10_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	router.AddChunkFilter(func(vnet.Chunk) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.loses()
	})
	var nets [2]*vnet.Net
	for i := range nets {
		if nets[i], err = vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{fmt.Sprintf("1.1.1.%d", i+1)}}); err != nil {
			t.Fatal(err)
		}
		if err := router.AddNet(nets[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := router.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := router.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.guest, w.host = newTransport(t, &jitterNet{nets[0], jitter}), newTransport(t, &jitterNet{nets[1], jitter})
	return w
}

// jitterNet delays each datagram by a time of its own, which reorders them. (The virtual
// network's own jitter sleeps under a lock, which is no good in a bubble.)
type jitterNet struct {
	*vnet.Net
	jitter time.Duration
}

func (n *jitterNet) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, addr)
	if err != nil || n.jitter == 0 {
		return c, err
	}
	return &jitterConn{UDPConn: c, jitter: n.jitter, rng: rand.New(rand.NewPCG(1, 2))}, nil
}

type jitterConn struct {
	transport.UDPConn
	jitter time.Duration

	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

func (c *jitterConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	d := time.Duration(c.rng.Int64N(int64(c.jitter)))
	c.mu.Unlock()
	p := append([]byte(nil), b...)
	time.AfterFunc(d, func() { _, _ = c.UDPConn.WriteTo(p, to) }) // it may be closed by then
	return len(b), nil
}

func newTransport(t *testing.T, n transport.Net) *rtc.Transport {
	t.Helper()
	tr, err := rtc.NewTransport(rtc.Config{Net: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// lose makes the network lose a share of all datagrams, and all of them while out says
// so.
func (w *wan) lose(share float64, seed uint64, out func(time.Duration) bool) {
	rng, begin := rand.New(rand.NewPCG(seed, 7)), time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loses = func() bool {
		return rng.Float64() < share || out != nil && out(time.Since(begin))
	}
}

type quietLogs struct{}

func (quietLogs) NewLogger(string) logging.LeveledLogger { return &logging.DefaultLeveledLogger{} }

// tunnel is one end of a signaling path that never fails.
type tunnel struct{ out, in chan rtc.Message }

func (p tunnel) Send(_ context.Context, m rtc.Message) error { p.out <- m; return nil }

func (p tunnel) Recv(ctx context.Context) (rtc.Message, error) {
	select {
	case m := <-p.in:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect makes a link.
func (w *wan) connect(t *testing.T) (guest, host *rtc.Link) {
	t.Helper()
	up, down := make(chan rtc.Message, 100), make(chan rtc.Message, 100)
	var guestErr, hostErr error
	var both sync.WaitGroup
	both.Go(func() { guest, guestErr = w.guest.Dial(t.Context(), tunnel{up, down}) })
	both.Go(func() { host, hostErr = w.host.Accept(t.Context(), tunnel{down, up}) })
	both.Wait()
	if guestErr != nil || hostErr != nil {
		t.Fatalf("guest: %v, host: %v", guestErr, hostErr)
	}
	return guest, host
}

// TestOverWebRTC types, floods and pastes over real links on bad networks. What arrives
// must be what was sent, and soon.
func TestOverWebRTC(t *testing.T) {
	outages := func(t time.Duration) bool { return t%(30*time.Second) > 27*time.Second }
	for _, tc := range []struct {
		name          string
		delay, jitter time.Duration // one way
		loss          float64
		out           func(time.Duration) bool
		mean, most    time.Duration // of the echo
	}{
		{"100 ms", 50 * time.Millisecond, 0, 0, nil, 105 * time.Millisecond, 130 * time.Millisecond},
		{"100 ms, 29 % loss", 50 * time.Millisecond, 0, 0.29, nil, 180 * time.Millisecond, 2 * time.Second},
		{"train", 60 * time.Millisecond, 80 * time.Millisecond, 0.05, outages, 900 * time.Millisecond, 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(4) {
				synctest.Test(t, func(t *testing.T) {
					w := newWAN(t, tc.delay, tc.jitter)
					guest, host := w.connect(t)
					// SCTP may stall under such loss. Then a session makes another link.
					stalls := make(chan bool, 1)
					onStall := func(stalled bool) {
						select {
						case stalls <- stalled:
						default:
						}
					}
					p := newPairOver(t, host.Sync(), guest.Sync(), pairOptions{seed: seed, guestConfig: Config{OnStall: onStall}})
					links := 1
					raced := make(chan struct{})
					defer func() {
						p.stop()
						close(stalls)
						<-raced
					}()
					go func() {
						defer close(raced)
						for stalled := range stalls {
							if !stalled || !p.guest.Stalled() {
								continue
							}
							guest, host := w.connect(t)
							links++
							p.host.Rebind(host.Sync())
							p.guest.Rebind(guest.Sync())
						}
					}()
					w.lose(tc.loss, seed, tc.out)
					time.Sleep(2 * time.Second)
					times := echoTimes(p, 300, func() time.Duration { return time.Duration(100+p.rng.IntN(50)) * time.Millisecond })
					m, most := mean(times), times[len(times)-1]
					t.Logf("mean %v, p99 %v, most %v", m, percentile(times, 0.99), most)
					if m > tc.mean || most > tc.most {
						t.Errorf("want a mean ≤ %v, and no key later than %v", tc.mean, tc.most)
					}
					stop := make(chan struct{})
					time.AfterFunc(2*time.Second, func() { close(stop) })
					p.in.react(nil)
					go p.key(string(text(p.rng, 60_000)))
					flood(p.src, p.rng, 2_000_000, stop)
					p.settle(30 * time.Second)
					for p.guest.Undelivered() > 0 {
						time.Sleep(100 * time.Millisecond) // of the bubble
					}
					t.Log(links, "links")
					if n := len(p.in.typed()); n != 300+60_000 {
						t.Errorf("%d bytes were typed", n)
					}
					if st := p.host.Stats(); st.Malformed > 0 || p.guest.Stats().Malformed > 0 {
						t.Errorf("host %+v\nguest %+v", st, p.guest.Stats())
					}
				})
			}
		})
	}
}

// TestRebindOverWebRTC changes the link in the middle of a flood and a paste.
func TestRebindOverWebRTC(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			w := newWAN(t, 50*time.Millisecond, 0)
			guest, host := w.connect(t)
			p := newPairOver(t, host.Sync(), guest.Sync(), pairOptions{seed: seed})
			defer p.stop()
			w.lose(0.05, seed, nil)
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				flood(p.src, rand.New(rand.NewPCG(seed, 3)), 1_000_000, stop)
			}()
			paste := text(p.rng, 100_000)
			go p.key(string(paste))
			for range 3 {
				time.Sleep(time.Second)
				guest, host = w.connect(t)
				p.host.Rebind(host.Sync())
				p.guest.Rebind(guest.Sync())
			}
			time.Sleep(time.Second)
			close(stop)
			<-stopped
			p.settle(30 * time.Second)
			for p.guest.Undelivered() > 0 {
				time.Sleep(100 * time.Millisecond) // of the bubble
			}
			if got := p.in.typed(); got != string(paste) {
				t.Errorf("%d bytes of %d arrived, or others", len(got), len(paste))
			}
		})
	}
}
