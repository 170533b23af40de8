package main

import (
	"sync/atomic"
	"time"

	"github.com/pairterm/pairterm/term"
)

// announcer tells the person at the host what happens: on stderr, or, while
// the terminal is raw, on one line of it that disappears again. Its methods may be
// called concurrently, and wait for nobody: whoever reads stderr may have
// stopped, and that must not stop the session.
type announcer struct {
	ui     *ui
	quiet  bool                        // nothing but warnings while the terminal is raw
	shared atomic.Pointer[term.Shared] // nil while the terminal is not raw
	lines  chan func()                 // what waits to be printed
	done   chan struct{}               // closed when all of it was
}

// Bounds of what waits for a reader of stderr.
const (
	maxAnnouncements = 64
	announcePatience = time.Second
)

func newAnnouncer(ui *ui, quiet bool) *announcer {
	a := &announcer{ui: ui, quiet: quiet, lines: make(chan func(), maxAnnouncements), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		for print := range a.lines {
			print()
		}
	}()
	return a
}

// close waits a moment until everything was printed. Nothing may be announced
// after it.
func (a *announcer) close() {
	close(a.lines)
	select {
	case <-a.done:
	case <-time.After(announcePatience):
	}
}

// through makes announcements go through shared from now on, or to stderr
// again when it is nil.
func (a *announcer) through(shared *term.Shared) { a.shared.Store(shared) }

// repaint draws the terminal anew, if it is raw.
func (a *announcer) repaint() {
	if s := a.shared.Load(); s != nil {
		s.Repaint()
	}
}

// info announces text; an empty one is nothing to announce.
func (a *announcer) info(text string) {
	if text == "" {
		return
	}
	if s := a.shared.Load(); s != nil {
		if !a.quiet {
			s.Notice("pairterm: " + text)
		}
		return
	}
	a.print(func() { a.ui.infof("%s", text) })
}

// warn announces what the host should know.
func (a *announcer) warn(err error) {
	if s := a.shared.Load(); s != nil {
		s.Notice("pairterm: warning: " + err.Error())
		return
	}
	a.print(func() { a.ui.warnf("%v", err) })
}

func (a *announcer) print(f func()) {
	select {
	case a.lines <- f:
	default: // nobody reads
	}
}
