package stream

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedCount = flag.Int("seeds", 120, "random sessions to run in TestSeeds")
	seedFirst = flag.Uint64("seed", 1, "the first of them")
)

// randomLink draws a link that is anything from good to awful.
func randomLink(rng *rand.Rand) linkParams {
	p := linkParams{delay: time.Duration(rng.IntN(200)) * time.Millisecond}
	if rng.IntN(2) == 0 {
		p.jitter = time.Duration(1+rng.IntN(160)) * time.Millisecond
	}
	if rng.IntN(2) == 0 {
		p.loss = rng.Float64() * 0.4
	}
	if rng.IntN(4) == 0 {
		p.dup = rng.Float64() * 0.3
	}
	if rng.IntN(2) == 0 {
		p.rate = 8_000 * float64(int(1)<<rng.IntN(8)) // 64 kbit/s to 8 Mbit/s
		p.queue = time.Duration(20+rng.IntN(500)) * time.Millisecond
		if p.holds = rng.IntN(3) == 0; p.holds {
			p.queue = time.Hour
		}
	}
	if rng.IntN(4) == 0 {
		every := time.Duration(3+rng.IntN(10)) * time.Second
		p.outages = func(t time.Duration) bool { return t%every < 1500*time.Millisecond }
	}
	return p
}

// text returns n bytes that look like words.
func text(rng *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		for range 2 + rng.IntN(8) {
			b = append(b, byte('a'+rng.IntN(26)))
		}
		b = append(b, ' ')
	}
	return b[:n]
}

// TestSeeds runs random sessions over random links: whatever happens, each key
// arrives once and in order, and the guest's state is the host's, at the end
// and at every step.
func TestSeeds(t *testing.T) {
	n := *seedCount
	if testing.Short() {
		n = min(n, 40)
	}
	for seed := *seedFirst; seed < *seedFirst+uint64(n); seed++ {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { session(t, seed) })
		}) {
			break
		}
	}
}

func session(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	p := newPair(t, pairOptions{up: randomLink(rng), down: randomLink(rng), seed: seed, history: true})
	defer p.stop()
	if rng.IntN(2) == 0 {
		p.src.lag = time.Duration(rng.IntN(3000)) * time.Microsecond
	}
	var typed strings.Builder
	var size [2]int
	blocked := false
	if rng.IntN(2) == 0 {
		p.in.react(p.src.write) // echo
	}
	for range 20 + rng.IntN(60) {
		switch rng.IntN(20) {
		case 0, 1, 2, 3, 4, 5:
			s := string(text(rng, 1+rng.IntN(8)))
			typed.WriteString(s)
			p.key(s)
		case 6:
			s := string(text(rng, 1+rng.IntN(100_000)))
			typed.WriteString(s)
			p.key(s)
		case 7, 8:
			p.src.write(text(rng, 1+rng.IntN(200)))
		case 9:
			p.src.write(text(rng, 1+rng.IntN(20_000)))
		case 10:
			for range rng.IntN(200) {
				p.src.write(text(rng, 1+rng.IntN(2000)))
				time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
			}
		case 11:
			p.src.resize()
		case 12:
			size = [2]int{1 + rng.IntN(300), 1 + rng.IntN(100)}
			if err := p.guest.SendResize(size[0], size[1]); err != nil {
				t.Error(err)
			}
		case 13:
			if blocked = !blocked; blocked {
				p.in.setRoom(rng.IntN(1000))
			} else {
				p.in.setRoom(-1)
				p.host.InputReady()
			}
		case 14:
			p.src.hold(rng.IntN(2) == 0)
		case 15:
			p.guest.Refresh()
		case 16:
			hc, gc := connect(randomLink(rng), randomLink(rng), rng)
			if rng.IntN(2) == 0 {
				p.host.Rebind(hc)
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				p.guest.Rebind(gc)
			} else {
				p.guest.Rebind(gc)
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				p.host.Rebind(hc)
			}
			p.hc, p.gc = hc, gc
		case 17:
			if rng.IntN(4) == 0 {
				p.gc.Close() // a dead link, until the next Rebind
				p.hc.Close()
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
				hc, gc := connect(randomLink(rng), randomLink(rng), rng)
				p.host.Rebind(hc)
				p.guest.Rebind(gc)
				p.hc, p.gc = hc, gc
			}
		default:
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
	}
	// Everything gets better in the end, but not perfect.
	p.in.setRoom(-1)
	p.host.InputReady()
	better := linkParams{delay: 50 * time.Millisecond, loss: 0.1}
	p.hc.in.set(better)
	p.hc.out.set(better)
	for range 600 {
		if p.guest.Undelivered() == 0 && (size[0] == 0 || p.in.size() == size) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got, want := p.in.typed(), typed.String(); got != want {
		t.Errorf("typed %d bytes, of which %d arrived: same %v\nhost %+v\nguest %+v", len(want), len(got), strings.HasPrefix(want, got), p.host.Stats(), p.guest.Stats())
	}
	if n := p.guest.Undelivered(); n != 0 {
		t.Errorf("%d typed bytes are said to be undelivered", n)
	}
	if got := p.in.size(); size[0] != 0 && got != size {
		t.Errorf("the last window size is %v, want %v", got, size)
	}
	p.settle(20 * time.Second)
	for name, st := range map[string]Stats{"host": p.host.Stats(), "guest": p.guest.Stats()} {
		if st.Malformed != 0 {
			t.Errorf("%s: %d malformed datagrams", name, st.Malformed)
		}
	}
}
