package stream

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/term/paste"
)

// TestPaste pastes megabytes: they arrive at about the speed of the link, and a
// key that is typed the other way meanwhile still echoes.
func TestPaste(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkParams{delay: 50 * time.Millisecond, rate: 1_250_000, queue: 200 * time.Millisecond}
		p := newPair(t, pairOptions{up: l, down: l})
		defer p.stop()
		time.Sleep(time.Second)
		pasted := string(text(p.rng, 4<<20))
		began := time.Now()
		p.key(paste.Begin + pasted + paste.End)
		most := 0
		for p.guest.Undelivered() > 0 {
			time.Sleep(10 * time.Millisecond)
			p.guest.in.mu.Lock()
			most = max(most, len(p.guest.in.bytes))
			p.guest.in.mu.Unlock()
		}
		took := time.Since(began)
		if p.in.typed() != paste.Begin+pasted+paste.End {
			t.Error("the paste did not arrive as it was")
		}
		least := time.Duration(float64(len(pasted)) / l.rate * 1e9)
		t.Logf("%v, at the speed of the link %v; %d bytes in flight at most; %+v", took, least, most, p.guest.Stats())
		if took > least*3/2 {
			t.Errorf("the paste took %v, at the speed of the link it is %v", took, least)
		}
		if st := p.guest.Stats(); st.RTT > 300*time.Millisecond {
			t.Errorf("the paste made the round trip %v", st.RTT)
		}
	})
}

// TestInterruptOfPaste stops a paste by Ctrl-C, with a program that reads all
// it is given, and with one that reads nothing.
func TestInterruptOfPaste(t *testing.T) {
	for name, reads := range map[string]bool{"reading": true, "not reading": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := linkParams{delay: 50 * time.Millisecond, rate: 125_000, loss: 0.05}
				p := newPair(t, pairOptions{up: l, down: l})
				defer p.stop()
				if !reads {
					p.in.setRoom(4096)
				}
				time.Sleep(time.Second)
				p.key("ls\r" + paste.Begin + string(text(p.rng, 1<<20)) + paste.End)
				if err := p.guest.SendResize(100, 30); err != nil {
					t.Error(err)
				}
				time.Sleep(3 * time.Second)
				began := time.Now()
				p.key("\x03")
				p.key("pwd\r")
				arrived := func() bool {
					p.in.mu.Lock()
					defer p.in.mu.Unlock()
					return p.in.interrupts > 0
				}
				for !arrived() {
					time.Sleep(time.Millisecond)
				}
				took := time.Since(began)
				p.in.setRoom(-1)
				p.host.InputReady()
				for range 100 {
					if p.guest.Undelivered() == 0 {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				got := p.in.typed()
				if !strings.HasPrefix(got, "ls\r"+paste.Begin) || !strings.HasSuffix(got, "\x03pwd\r") || strings.Count(got, "\x1b") != 1 {
					t.Errorf("typed %d bytes, that end in %q", len(got), got[max(0, len(got)-30):])
				}
				if len(got) > 600_000 {
					t.Errorf("%d bytes of the paste arrived", len(got))
				}
				st := p.guest.Stats()
				if st.Dropped == 0 || st.Unacked != 0 {
					t.Errorf("dropped %d, unacknowledged %d", st.Dropped, st.Unacked)
				}
				t.Logf("%v; %d bytes arrived", took, len(got))
				if took > 250*time.Millisecond {
					t.Errorf("the interrupt took %v", took)
				}
				if p.in.size() != [2]int{100, 30} {
					t.Errorf("window size %v", p.in.size())
				}
			})
		})
	}
}

// TestNoSignals types what would interrupt a program that reads it like anything else.
func TestNoSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkParams{delay: 50 * time.Millisecond, rate: 125_000, loss: 0.05}
		p := newPair(t, pairOptions{up: l, down: l})
		defer p.stop()
		p.in.setRaw()
		p.src.write([]byte("vi")) // and the guest is told
		time.Sleep(time.Second)
		pasted := paste.Begin + string(text(p.rng, 300_000)) + paste.End + "\x03"
		p.key(pasted)
		p.key("\x1c\x03:q\r")
		for range 200 {
			if p.guest.Undelivered() == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if got, want := p.in.typed(), pasted+"\x1c\x03:q\r"; got != want {
			t.Errorf("typed %d bytes, want all %d", len(got), len(want))
		}
		if p.in.interrupts > 0 {
			t.Error("there was an interrupt")
		}
	})
}

// TestTypedAhead types little before an interrupt: nothing of it is lost.
func TestTypedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkParams{delay: 50 * time.Millisecond, outages: func(t time.Duration) bool { return t > time.Second && t < 4*time.Second }}
		p := newPair(t, pairOptions{up: l, down: l})
		defer p.stop()
		time.Sleep(1500 * time.Millisecond)
		p.key("make install\r")
		time.Sleep(time.Second)
		p.key("\x03")
		p.key("ls\r")
		time.Sleep(5 * time.Second)
		if got, want := p.in.typed(), "make install\r\x03ls\r"; got != want {
			t.Errorf("typed %q, want %q", got, want)
		}
	})
}

// TestPushBack has a program that reads slowly: the guest is slowed down, and
// little of what it types waits at the host.
func TestPushBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := linkParams{delay: 10 * time.Millisecond}
		p := newPair(t, pairOptions{up: l, down: l})
		defer p.stop()
		p.in.setRoom(0)
		paste := string(text(p.rng, 1<<20))
		p.key(paste)
		time.Sleep(5 * time.Second)
		sent := p.gc.out.counts().bytes
		if sent > 2*inputWindow {
			t.Errorf("%d bytes were sent to a host whose program does not read", sent)
		}
		time.Sleep(20 * time.Second)
		if more := p.gc.out.counts().bytes - sent; more > 10_000 {
			t.Errorf("%d bytes were sent while nothing could be taken", more)
		}
		for p.guest.Undelivered() > 0 {
			p.in.setRoom(10_000)
			p.host.InputReady()
			time.Sleep(10 * time.Millisecond)
		}
		if p.in.typed() != paste {
			t.Error("the paste did not arrive as it was")
		}
	})
}

// TestBacklogFull types more than is kept; the rest waits, until it may go or
// the session ends.
func TestBacklogFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pairOptions{})
		p.in.setRoom(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n, err := p.guest.SendKeys(ctx, make([]byte, 2*maxBacklog))
		if !errors.Is(err, context.DeadlineExceeded) || n < maxBacklog || n > maxBacklog+inputWindow {
			t.Errorf("%d bytes are taken, %v", n, err)
		}
		done := make(chan error)
		go func() {
			_, err := p.guest.SendKeys(t.Context(), []byte("x"))
			done <- err
		}()
		time.Sleep(time.Second)
		p.stop()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("waiting to type: %v", err)
		}
		if got := p.guest.Undelivered(); got != n {
			t.Errorf("%d of %d bytes are said to be undelivered", got, n)
		}
		if err := p.guest.SendResize(80, 25); !errors.Is(err, net.ErrClosed) {
			t.Errorf("SendResize: %v", err)
		}
	})
}

// TestReacted follows the echo acknowledgements.
func TestReacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type report struct {
			typed uint64
			at    time.Duration
			pos   uint64
		}
		var got []report
		began := time.Now()
		l := linkParams{delay: 30 * time.Millisecond, loss: 0.2}
		var p *pair
		p = newPair(t, pairOptions{up: l, down: l, guestConfig: Config{OnEcho: func(typed uint64) {
			got = append(got, report{typed, time.Since(began), p.sink.state().pos})
		}}})
		defer p.stop()
		// A program that takes 40 ms to echo.
		p.in.react(func(keys []byte) {
			time.AfterFunc(40*time.Millisecond, func() { p.src.write(keys) })
		})
		time.Sleep(time.Second)
		var typedAt []time.Duration
		for range 50 {
			typedAt = append(typedAt, time.Since(began))
			p.key("x")
			time.Sleep(170 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		p.stop()
		if len(got) < 25 {
			t.Errorf("%d echo acknowledgements for 50 keys", len(got))
		}
		last := uint64(0)
		for _, r := range got {
			if r.typed <= last || r.typed > 50 {
				t.Fatalf("echo acknowledgement of %d after %d", r.typed, last)
			}
			last = r.typed
			if r.pos < r.typed {
				t.Errorf("key %d is said to have been reacted to, with %d echoes here", r.typed, r.pos)
			}
			if wait := r.at - typedAt[r.typed-1]; wait < 60*time.Millisecond+reactTime {
				t.Errorf("key %d is said to have been reacted to %v after it was typed", r.typed, wait)
			}
		}
		if last != 50 {
			t.Errorf("the last echo acknowledgement is of key %d", last)
		}
	})
}

// TestInputRate has a guest that types as much as it can: it gets no more than its share,
// and its interrupt comes at once.
func TestInputRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast := linkParams{delay: time.Millisecond}
		p := newPair(t, pairOptions{up: fast, down: fast})
		defer p.stop()
		time.Sleep(time.Second)
		begin := time.Now()
		p.key(string(text(p.rng, 4*inputRate)))
		time.Sleep(2 * time.Second)
		got := len(p.in.typed())
		if most := 2*inputRate + inputBurst + maxEvent; got < 3*inputRate/2 || got > most {
			t.Errorf("%d bytes were typed in two seconds", got)
		}
		for p.guest.Undelivered() > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begin); took > 4500*time.Millisecond {
			t.Errorf("all of it took %v", took)
		}
		p.key(string(text(p.rng, 4*inputRate)))
		time.Sleep(time.Second)
		begin = time.Now()
		p.key("\x03")
		for p.guest.Undelivered() > 0 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(begin); took > 50*time.Millisecond {
			t.Errorf("the interrupt took %v", took)
		}
	})
}
