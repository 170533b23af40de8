package stream

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// echoTimes types n keys, one each gap, to a program that echoes, and returns
// how long each took to come back, sorted.
func echoTimes(p *pair, n int, gap func() time.Duration) []time.Duration {
	var mu sync.Mutex
	var typed []time.Time
	var echoes []uint64 // the position behind the echo of each key
	var times []time.Duration
	p.in.react(func(keys []byte) {
		for i := range keys {
			p.src.write(keys[i : i+1])
			mu.Lock()
			echoes = append(echoes, p.src.Head())
			mu.Unlock()
		}
	})
	p.sink.mu.Lock()
	p.sink.grew = func(pos uint64) {
		mu.Lock()
		defer mu.Unlock()
		for i := len(times); i < len(echoes) && echoes[i] <= pos; i++ {
			times = append(times, time.Since(typed[i]))
		}
	}
	p.sink.mu.Unlock()
	for range n {
		mu.Lock()
		typed = append(typed, time.Now())
		mu.Unlock()
		p.key("x")
		time.Sleep(gap())
	}
	time.Sleep(10 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	if len(times) != n {
		p.t.Fatalf("%d of %d keys came back", len(times), n)
	}
	slices.Sort(times)
	return times
}

func mean(times []time.Duration) time.Duration {
	sum := time.Duration(0)
	for _, t := range times {
		sum += t
	}
	return sum / time.Duration(len(times))
}

func percentile(times []time.Duration, p float64) time.Duration {
	return times[min(len(times)-1, int(float64(len(times))*p))]
}

// TestEchoOnLossyLink is the table of the issue: 100 ms round trip, 29 % loss
// each way, a key every 100 to 150 ms.
func TestEchoOnLossyLink(t *testing.T) {
	tests := []struct {
		name            string
		link            linkParams
		mean, p99, most time.Duration
	}{
		{"100ms", linkParams{delay: 50 * time.Millisecond}, 101 * time.Millisecond, 102 * time.Millisecond, 110 * time.Millisecond},
		{"100ms 5%", linkParams{delay: 50 * time.Millisecond, loss: 0.05}, 110 * time.Millisecond, 250 * time.Millisecond, time.Second},
		{"100ms 29%", linkParams{delay: 50 * time.Millisecond, loss: 0.29}, 135 * time.Millisecond, 400 * time.Millisecond, 2 * time.Second},
		{"train", linkParams{delay: 60 * time.Millisecond, jitter: 80 * time.Millisecond, loss: 0.05, rate: 125_000}, 240 * time.Millisecond, 500 * time.Millisecond, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(5) {
				synctest.Test(t, func(t *testing.T) {
					p := newPair(t, pairOptions{up: tt.link, down: tt.link, seed: seed})
					defer p.stop()
					time.Sleep(2 * time.Second)
					times := echoTimes(p, 600, func() time.Duration {
						return 100*time.Millisecond + time.Duration(p.rng.IntN(50))*time.Millisecond
					})
					m, p50, p99, most := mean(times), percentile(times, 0.5), percentile(times, 0.99), times[len(times)-1]
					t.Logf("mean %v, p50 %v, p99 %v, most %v; %d up, %d down", m, p50, p99, most, p.gc.out.counts().sent, p.hc.out.counts().sent)
					if m > tt.mean || p99 > tt.p99 || most > tt.most {
						t.Errorf("want mean ≤ %v, p99 ≤ %v, most ≤ %v", tt.mean, tt.p99, tt.most)
					}
				})
			}
		})
	}
}

// flood writes to the source at a rate until stop is closed.
func flood(src *toySource, rng *rand.Rand, rate int, stop <-chan struct{}) {
	page := text(rng, 1<<20)
	at := 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			n := rate / 1000
			if at+n > len(page) {
				at = 0
			}
			src.write(page[at : at+n])
			at += n
		}
	}
}

// slow is 1 Mbit/s with 100 ms round trip.
var slow = linkParams{delay: 50 * time.Millisecond, rate: 125_000}

// TestInterruptOfFlood measures the time from a Ctrl-C to the prompt that
// follows the flood on the guest's screen.
func TestInterruptOfFlood(t *testing.T) {
	for _, rate := range []int{300_000, 20_000_000} {
		for seed := range uint64(5) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, pairOptions{up: slow, down: slow, seed: seed})
				defer p.stop()
				time.Sleep(time.Second)
				stop := make(chan struct{})
				prompt := make(chan uint64, 1)
				p.in.react(func([]byte) {
					close(stop)
					p.src.write([]byte("^C\r\n$ "))
					prompt <- p.src.Head()
				})
				go flood(p.src, rand.New(rand.NewPCG(seed, 3)), rate, stop)
				time.Sleep(2*time.Second + time.Duration(seed)*13*time.Millisecond)
				typed := time.Now()
				p.key("\x03")
				head := <-prompt
				seen := make(chan time.Duration, 1)
				p.sink.mu.Lock()
				p.sink.grew = func(pos uint64) {
					if pos >= head {
						select {
						case seen <- time.Since(typed):
						default:
						}
					}
				}
				p.sink.mu.Unlock()
				took := <-seen
				st := p.host.Stats()
				t.Logf("%d kB/s: %v, %d frames, %d log bytes, rate %.0f, window %d, min %v", rate/1000, took, st.Frames, st.LogBytes, st.Rate, st.Window, st.MinRTT)
				if took > 150*time.Millisecond {
					t.Errorf("the prompt took %v", took)
				}
			})
		}
	}
}

// TestEndOfCat measures how much later than the host the guest sees the end of
// 50 MB of output.
func TestEndOfCat(t *testing.T) {
	tests := []struct {
		name string
		link linkParams
		most time.Duration
	}{
		{"1 Mbit/s", slow, 150 * time.Millisecond},
		{"shallow queue", linkParams{delay: 50 * time.Millisecond, rate: 125_000, queue: 30 * time.Millisecond}, 250 * time.Millisecond},
		{"queue in the link", linkParams{delay: 50 * time.Millisecond, rate: 125_000, queue: time.Hour, holds: true}, 150 * time.Millisecond},
		{"64 kbit/s", linkParams{delay: 50 * time.Millisecond, rate: 8_000}, 1500 * time.Millisecond},
		{"100 Mbit/s", linkParams{delay: 5 * time.Millisecond, rate: 12_500_000, queue: 50 * time.Millisecond}, 50 * time.Millisecond},
		{"29% loss", linkParams{delay: 50 * time.Millisecond, loss: 0.29}, 400 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(2) {
				synctest.Test(t, func(t *testing.T) {
					p := newPair(t, pairOptions{up: tt.link, down: tt.link, seed: seed})
					defer p.stop()
					time.Sleep(time.Second)
					stop := make(chan struct{})
					time.AfterFunc(500*time.Millisecond, func() { close(stop) })
					flood(p.src, p.rng, 100_000_000, stop)
					ended := time.Now()
					p.settle(time.Minute)
					took := time.Since(ended) - tt.link.delay // the acknowledgement's way
					st := p.host.Stats()
					t.Logf("%v, %d frames, %d log bytes, %d bytes on the wire, rate %.0f, window %d, lost %d", took, st.Frames, st.LogBytes, p.hc.out.counts().bytes, st.Rate, st.Window, st.Lost)
					if took > tt.most {
						t.Errorf("the end came after %v, want %v", took, tt.most)
					}
					if most := p.hc.out.counts().mostBuffered; most > maxBuffered+MaxDatagram+datagramOverhead {
						t.Errorf("%d bytes wait in the link", most)
					}
				})
			}
		})
	}
}

// TestIdle counts the datagrams of an idle session.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pairOptions{up: slow, down: slow})
		defer p.stop()
		p.in.react(p.src.write)
		p.key("x")
		time.Sleep(10 * time.Second)
		up, down := p.gc.out.counts().sent, p.hc.out.counts().sent
		time.Sleep(100 * time.Second)
		up, down = p.gc.out.counts().sent-up, p.hc.out.counts().sent-down
		if up > 20 || down > 20 || up < 5 {
			t.Errorf("%d datagrams up and %d down in 100 s of nothing", up, down)
		}
	})
}

// TestFairness has three guests on one uplink and a flood, during which they
// join one after the other.
func TestFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newToySource()
		stop := make(chan struct{})
		defer close(stop)
		go flood(src, rand.New(rand.NewPCG(1, 1)), 10_000_000, stop)
		neck := new(bottleneck)
		var pairs []*pair
		for i := range uint64(3) {
			p := newPair(t, pairOptions{up: slow, down: slow, seed: i, src: src, neck: neck})
			defer p.stop()
			pairs = append(pairs, p)
			time.Sleep(3 * time.Second)
		}
		time.Sleep(10 * time.Second)
		var before [3]uint64
		for i, p := range pairs {
			before[i] = p.host.Stats().SentBytes
		}
		time.Sleep(20 * time.Second)
		least, most, sum := 1e18, 0.0, 0.0
		for i, p := range pairs {
			st := p.host.Stats()
			got := float64(st.SentBytes-before[i]) / 20
			least, most, sum = min(least, got), max(most, got), sum+got
			t.Logf("guest %d: %.0f B/s, round trip %v, least %v, window %d", i, got, st.RTT, st.MinRTT, st.Window)
			if st.RTT > 200*time.Millisecond {
				t.Errorf("guest %d: round trip %v", i, st.RTT)
			}
		}
		if most > 1.5*least || sum < 0.7*slow.rate {
			t.Errorf("from %.0f to %.0f bytes a second, %.0f in all", least, most, sum)
		}
	})
}
