package term

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

// ownTerminal is a host's own terminal in a test, and what shares it.
type ownTerminal struct {
	t   *testing.T
	tty *fakeTerminal
	src *source
	d   *display
}

// withDisplay runs f while a display runs, in a time of its own.
func withDisplay(t *testing.T, size Size, f func(o *ownTerminal)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tty := newFakeTerminal(size)
		src := newSource(size, screen.Options{}, false)
		o := &ownTerminal{t, tty, src, newDisplay(tty, src, size)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			o.d.run(ctx)
		}()
		synctest.Wait()
		f(o)
		cancel()
		<-done
	})
}

func (o *ownTerminal) print(s string) {
	o.d.output([]byte(s))
	synctest.Wait()
}

func (o *ownTerminal) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (o *ownTerminal) shows() string { return text(o.tty.snapshot()) }

// mustEqual checks that the terminal is in the state of the shared screen.
func (o *ownTerminal) mustEqual(when string) {
	o.t.Helper()
	want := o.src.settle().Snapshot
	if !o.tty.snapshot().Equal(want) {
		o.t.Fatalf("%s the terminal is in another state:\n%s\nshared\n%s", when, o.shows(), text(want))
	}
}

func TestDisplayNotice(t *testing.T) {
	withDisplay(t, Size{60, 5}, func(o *ownTerminal) {
		o.print("$ make\r\n\x1b[32mok\x1b[m ")
		o.d.notice("alice joined")
		synctest.Wait()
		if got := o.shows(); !strings.HasSuffix(strings.Split(got, "\n")[0], " alice joined") {
			t.Errorf("terminal shows\n%s", got)
		}
		if got := o.tty.snapshot().Cursor(); got.X != 3 || got.Y != 1 {
			t.Errorf("the notice took the cursor to %d,%d", got.X, got.Y)
		}
		// Output takes it away before it does anything else.
		o.print("\r\nmore\r\nand more\r\n")
		o.mustEqual("with output,")
		o.wait(noticeQuiet)
		if got := o.shows(); !strings.Contains(got, "alice joined") {
			t.Errorf("the notice does not come back:\n%s", got)
		}
		o.wait(noticeTime)
		o.mustEqual("after the notice")
		// On the first row it would be in the way.
		o.print("\x1b[H")
		o.d.notice("bob joined")
		o.wait(2 * noticeQuiet)
		rows := strings.Split(o.shows(), "\n")
		if !strings.HasSuffix(rows[len(rows)-1], " bob joined") {
			t.Errorf("terminal shows\n%s", o.shows())
		}
		o.d.status("and a status")
		o.wait(noticeTime)
		if !strings.Contains(o.shows(), "and a status") {
			t.Errorf("terminal shows\n%s", o.shows())
		}
		o.d.status("")
		o.wait(0)
		o.mustEqual("after the status")
	})
}

// TestDisplayNoticeWaits puts no notice where it would do harm.
func TestDisplayNoticeWaits(t *testing.T) {
	withDisplay(t, Size{60, 5}, func(o *ownTerminal) {
		for _, begun := range []string{"\x1b", "\x1b[3", "\x1b]0;tit", "\xe6\x97", "\x1bP1;2q", "\x1b[?2026h"} {
			o.print("x" + begun)
			o.d.notice("knock")
			o.wait(time.Second)
			if strings.Contains(o.shows(), "knock") {
				t.Errorf("after %q a notice was shown", begun)
			}
			o.print("\x18\x1b[?2026l")
			o.wait(noticeQuiet)
			if !strings.Contains(o.shows(), "knock") {
				t.Errorf("after %q no notice was shown in the end", begun)
			}
			o.wait(noticeTime)
			o.mustEqual("in the end")
		}
	})
}

// TestDisplayBusy has a program that is never quiet.
func TestDisplayBusy(t *testing.T) {
	withDisplay(t, Size{60, 10}, func(o *ownTerminal) {
		o.d.notice("alice joined")
		seen := 0
		for i := range 400 {
			o.print(fmt.Sprintf("\x1b[%d;1Hframe %d", 3+i%5, i))
			if strings.Contains(o.shows(), "alice") {
				seen++
			}
			o.wait(20 * time.Millisecond)
		}
		if seen == 0 || seen > 30 {
			t.Errorf("the notice was drawn %d times in 400 frames of 20 ms", seen)
		}
		o.mustEqual("in the end")
	})
}

// TestDisplayRecordings shows notices at any moment over real programs.
func TestDisplayRecordings(t *testing.T) {
	for name, output := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			output := output[:min(len(output), 60000)]
			rng := rand.New(rand.NewPCG(1, 9))
			withDisplay(t, DefaultSize, func(o *ownTerminal) {
				for n := 0; len(output) > 0 && n < 40; n++ {
					piece := 1 + rng.IntN(1+rng.IntN(len(output)))
					o.print(output[:piece])
					output = output[piece:]
					if rng.IntN(3) == 0 {
						o.d.notice("a notice")
					}
					o.wait(time.Duration(rng.IntN(3)) * noticeQuiet)
				}
				o.print("\x18\x1b\\\x1b[?2026l")
				o.wait(maxNotices * noticeTime)
				o.mustEqual("in the end")
			})
		})
	}
}

// TestDisplayConstrained has a shared screen that is smaller than the host's
// own terminal for a while.
func TestDisplayConstrained(t *testing.T) {
	withDisplay(t, Size{20, 6}, func(o *ownTerminal) {
		o.print("$ one\r\n$ ")
		o.d.resize(Size{20, 6}, Size{10, 3}, true)
		if o.d.answers() {
			t.Error("a terminal that is painted answers queries")
		}
		o.wait(frameInterval)
		o.print("two\x1b[6n\x1b[?1000h")
		o.wait(2 * feedAfter)
		o.wait(frameInterval)
		want := "$ one     │\n$ two     │\n          │\n──────────┘"
		if got := o.shows(); got != want {
			t.Errorf("terminal shows\n%s\nwant\n%s", got, want)
		}
		if !o.tty.snapshot().Mode(screen.ModeMouseNormal) {
			t.Error("the program's mouse mode was not set")
		}
		if x, y, ok := o.d.MapMouse(10, 3); x != 10 || y != 3 || !ok {
			t.Errorf("the mouse at 10,3 is at %d,%d, %v", x, y, ok)
		}
		if _, _, ok := o.d.MapMouse(11, 3); ok {
			t.Error("the mouse on the edge is on the shared screen")
		}
		if o.d.move(1, 0) {
			t.Error("a view of everything can be moved")
		}
		o.d.notice("alice joined")
		o.wait(frameInterval)
		if !strings.Contains(o.shows(), "alice") {
			t.Errorf("terminal shows\n%s", o.shows())
		}
		o.wait(noticeTime)
		// Not while the program is in the middle of a sequence.
		o.print("\x1b[3")
		o.d.resize(Size{20, 6}, Size{20, 6}, true)
		o.wait(time.Second)
		o.print("1mred\r\n")
		o.wait(time.Second)
		if !o.d.answers() {
			t.Error("the terminal is still painted")
		}
		o.mustEqual("in the end")
		o.print("direct")
		o.mustEqual("with output,")
	})
}

// TestDisplayResized has a terminal that moves its lines in its own way when its
// window grows, for example because it fetches some from before the session.
func TestDisplayResized(t *testing.T) {
	withDisplay(t, Size{20, 6}, func(o *ownTerminal) {
		o.print("$ one\r\n$ two\r\n\x1b[3")
		o.tty.mu.Lock()
		o.tty.screen.Resize(20, 8)
		o.tty.screen.Write([]byte("\x18\x1b7\x1b[H\x1b[2Learlier\x1b8\x1b[2B\x1b[3"))
		o.tty.mu.Unlock()
		o.d.resize(Size{20, 8}, Size{20, 8}, true)
		o.wait(time.Second)
		o.print("1mred\x1b[1;7Hx")
		o.mustEqual("in another size")
	})
}

// TestDisplayFinish leaves the cursor at the beginning of a line.
func TestDisplayFinish(t *testing.T) {
	var tty *fakeTerminal
	withDisplay(t, Size{20, 6}, func(o *ownTerminal) {
		tty = o.tty
		o.d.notice("bye")
		o.print("killed here")
		o.wait(time.Second)
	})
	if got := text(tty.snapshot()); got != "killed here" {
		t.Errorf("terminal shows\n%s", got)
	}
	if got := tty.snapshot().Cursor(); got.X != 0 || got.Y != 1 {
		t.Errorf("the cursor is at %d,%d", got.X, got.Y)
	}
}
