//go:build unix

package term

import (
	"context"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pairterm/pairterm/term/screen"
)

// painting is a Painter that runs on a real terminal.
type painting struct {
	*Painter
	e      *terminal
	tty    *TTY
	cancel context.CancelFunc
	ended  chan error
}

func paintOn(t *testing.T, e *terminal) *painting {
	t.Helper()
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	p := NewPainter(tty)
	ctx, cancel := context.WithCancel(context.Background())
	r := &painting{p, e, tty, cancel, make(chan error, 1)}
	go func() { r.ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		r.wait()
	})
	return r
}

func (r *painting) wait() error {
	err := <-r.ended
	r.ended <- err
	return err
}

// shows waits until the terminal shows want.
func (r *painting) shows(t *testing.T, size Size, want string) {
	t.Helper()
	r.e.await(t, want, func(seen string) bool {
		s := screen.New(size.Cols, size.Rows, screen.Options{})
		_, _ = s.Write([]byte(seen))
		return strings.Contains(text(s.Snapshot()), want)
	})
}

func frameOf(size Size, output string) []byte {
	s := screen.New(size.Cols, size.Rows, screen.Options{})
	_, _ = s.Write([]byte(output))
	return appendFrame(nil, nil, s.Snapshot())
}

func TestPainterRun(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	before := e.termios(t)
	r := paintOn(t, e)
	if _, err := r.Frame(nil, 0, 5, frameOf(DefaultSize, "$ one\x1b[?2004h\x1b[?1000h")); err != nil {
		t.Fatal(err)
	}
	r.shows(t, DefaultSize, "$ one")
	r.Log(5, []byte(" two\r\nthree"))
	r.shows(t, DefaultSize, "$ one two\nthree")
	r.Notice("bob joined")
	r.shows(t, DefaultSize, "bob joined")
	r.cancel()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if err := r.tty.Restore(); err != nil {
		t.Fatal(err)
	}
	e.expect(t, "\r\n"+undoStart)
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
	r.shows(t, DefaultSize, "$ one two\nthree")
}

func TestPainterFollowsWindow(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	r := paintOn(t, e)
	if _, err := r.Frame(nil, 0, 5, frameOf(DefaultSize, "\x1b[24;79Hxy")); err != nil {
		t.Fatal(err)
	}
	r.shows(t, DefaultSize, "xy")
	e.resize(t, Size{70, 20})
	// The test is not in the terminal's session, which the kernel would tell.
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	e.expect(t, "columns 11–80 of 80, rows 6–24 of 24")
}

func TestPainterStalledTerminal(t *testing.T) {
	e := openTerminal(t, DefaultSize) // which nobody reads
	before := e.termios(t)
	r := paintOn(t, e)
	if _, err := r.Frame(nil, 0, 5, frameOf(DefaultSize, "hello")); err != nil {
		t.Fatal(err)
	}
	flood := []byte(strings.Repeat("a line of output\r\n", 1000))
	for pos := uint64(5); pos < 4<<20; pos += uint64(len(flood)) {
		r.Log(pos, flood)
	}
	r.cancel()
	if err := r.wait(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if err := r.tty.Restore(); err != nil {
		t.Fatal(err)
	}
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
}

func TestPainterLostTerminal(t *testing.T) {
	e := openTerminal(t, DefaultSize)
	r := paintOn(t, e)
	e.master.Close()
	if _, err := r.Frame(nil, 0, 5, frameOf(DefaultSize, "hello")); err != nil {
		t.Fatal(err)
	}
	if err := r.wait(); !isGone(err) {
		t.Errorf("Run returned %v", err)
	}
}

func TestPainterRestoredTerminal(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	r := paintOn(t, e)
	if err := r.tty.Restore(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Frame(nil, 0, 5, frameOf(DefaultSize, "hello")); err != nil {
		t.Fatal(err)
	}
	if err := r.wait(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if seen, _ := e.output(); strings.Contains(seen, "hello") {
		t.Errorf("a restored terminal was written to: %q", seen)
	}
}
