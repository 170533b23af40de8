//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

// typist is the pause between keys of somebody who types fast: with a key each 11 ms, whose
// echo goes to 30 guests, their programs and not the host would be what is measured, for
// they have both processors busy.
const typist = 60 * time.Millisecond

// capitals types capital letters, one after the other, each when the one before has been
// echoed and a moment has passed.
func capitals(t *terminal, n int) ([]time.Duration, error) {
	var times []time.Duration
	for i := range n {
		key := []byte{byte('A' + i%26)}
		t.mu.Lock()
		t.tail = nil
		var before screen.CursorState
		if t.screen != nil {
			before = t.screen.Snapshot().Cursor()
		}
		t.mu.Unlock()
		begin := time.Now()
		if _, err := t.f.Write(key); err != nil {
			return times, err
		}
		at, err := t.until(10*time.Second, func() bool {
			if t.screen == nil {
				return bytes.Contains(t.tail, key)
			}
			return t.screen.Snapshot().Cursor() != before
		})
		if err != nil {
			return times, fmt.Errorf("key %d: %w", i, err)
		}
		times = append(times, at.Sub(begin))
		time.Sleep(typist)
	}
	return times, nil
}

// rowGuests types at one of many guests, and at the host, with and without guests who
// behave badly. It does so by turns, since one turn differs from the next by more than what
// is looked for, and compares what all of them make together.
func (l *lab) rowGuests() error {
	if err := l.set(plain); err != nil {
		return err
	}
	if err := l.spur(); err != nil {
		return err
	}
	var without, with keyTimes
	for range 2 {
		if err := l.crowd(&without, &with); err != nil {
			return err
		}
	}
	fmt.Printf("  %-18s guest %.2f x, host %.2f x of the p50 without\n", "together",
		ratio(with.guest, without.guest), ratio(with.host, without.host))
	return nil
}

// keyTimes are what keys took that were typed at a guest and at the host.
type keyTimes struct{ guest, host []time.Duration }

// crowd takes two turns with a host of its own: after more of them the line by which
// guests are seen to have joined has left the screen.
func (l *lab) crowd(without, with *keyTimes) error {
	s, err := l.share("pairterm", "keys.sh", addrB)
	if err != nil {
		return err
	}
	defer s.end()
	var first *terminal
	for range 29 {
		g, err := s.meet(20 * time.Second)
		if err != nil {
			return err
		}
		defer g.end()
		if first == nil {
			first = g
		}
	}
	time.Sleep(4 * time.Second) // for notices to go
	tell := func(what string, all *keyTimes) error {
		time.Sleep(2 * time.Second)
		g, err := capitals(first, 150)
		h, herr := capitals(s.host, 150)
		if err = errors.Join(err, herr); err == nil {
			fmt.Printf("  %-18s guest %s\n  %-18s host  %s\n", what, figures(g), "", figures(h))
		}
		all.guest, all.host = append(all.guest, g...), append(all.host, h...)
		return err
	}
	for range 2 {
		if err := tell("29 guests", without); err != nil {
			return err
		}
		end, err := l.misbehave(s)
		if err == nil {
			err = tell("and 3 who are bad", with)
		}
		end()
		if err != nil {
			return err
		}
	}
	return nil
}

// ratio returns how often the median of b goes into that of a.
func ratio(a, b []time.Duration) float64 {
	slices.Sort(a)
	slices.Sort(b)
	return a[len(a)/2].Seconds() / b[len(b)/2].Seconds()
}

// misbehave adds three guests: one on a link of 64 kbit/s, one that is stopped, and one
// that types without end.
func (l *lab) misbehave(s *share) (end func(), err error) {
	var guests []*terminal
	stop := make(chan struct{})
	typed := make(chan struct{})
	close(typed) // nobody types yet
	end = func() {
		close(stop)
		for _, g := range guests {
			g.cmd.Process.Signal(syscall.SIGCONT)
			g.f.SetWriteDeadline(time.Now())
		}
		<-typed
		for _, g := range guests {
			g.end()
		}
	}
	if err := l.setSpur(plain); err != nil {
		return end, err
	}
	for _, from := range []string{netnsC, netnsA, netnsA} {
		s.from = from
		g, err := s.meet(40 * time.Second)
		if err != nil {
			return end, fmt.Errorf("from %s: %w", from, err)
		}
		guests = append(guests, g)
	}
	s.from = ""
	if err := l.setSpur(modem); err != nil {
		return end, err
	}
	if err := guests[1].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return end, err
	}
	typed = make(chan struct{})
	flooding := guests[2]
	go func() {
		defer close(typed)
		p := bytes.Repeat([]byte("x"), 4096)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := flooding.f.Write(p); err != nil {
				return
			}
		}
	}()
	return end, nil
}
