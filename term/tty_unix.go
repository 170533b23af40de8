//go:build unix

package term

import (
	"errors"
	"io"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// settings are a terminal's line settings.
type settings = unix.Termios

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := getTermios(f)
	return err == nil
}

// open gives t descriptions of its own of the terminal, or else uses the
// caller's.
func (t *TTY) open() {
	t.w, t.writer = t.out, t.out
	if f := reopen(t.out); f != nil {
		t.w, t.writer, t.pollable = f, quickWriter(f), true
		t.owned = append(t.owned, f)
		if sameDevice(t.in, t.out) {
			t.r = f
			return
		}
	}
	if f := reopen(t.in); f != nil {
		t.r = f
		t.owned = append(t.owned, f)
		return
	}
	p := newPump(t.in)
	t.r = p
	t.owned = append(t.owned, p)
}

// reopen opens the terminal f once more, in such a way that reads and writes
// take deadlines. It returns nil where that is not to be had: then the name is
// not visible from here, or it is another user's terminal.
func reopen(f *os.File) *os.File {
	for _, name := range terminalNames(f) {
		g, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		// kqueue does not know every device; such a file would be neither
		// blocking nor polled.
		if g.SetDeadline(time.Time{}) == nil {
			return g
		}
		g.Close()
	}
	return nil
}

// terminalNames returns paths under which the terminal f can be opened, the
// best one first.
func terminalNames(f *os.File) []string {
	var names []string
	if runtime.GOOS == "linux" {
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", fdString(f))); err == nil {
			names = append(names, name)
		}
	} else {
		for _, pattern := range []string{"/dev/tty?*", "/dev/pts/*"} {
			if found, err := filepath.Glob(pattern); err == nil {
				names = append(names, found...)
			}
		}
	}
	same := names[:0]
	for _, name := range names {
		if isDevice(f, name) {
			same = append(same, name)
		}
	}
	// A terminal that another user owns, as after su, opens as the
	// controlling terminal all the same.
	var session int
	err := control(f, func(fd int) (err error) {
		session, err = unix.IoctlGetInt(fd, ioctlSession)
		return err
	})
	if own, _ := unix.Getsid(0); err == nil && own == session {
		same = append(same, "/dev/tty")
	}
	return same
}

func fdString(f *os.File) string {
	var fd int
	_ = control(f, func(n int) error { fd = n; return nil })
	return strconv.Itoa(fd)
}

// sameDevice reports whether two files are the same terminal.
func sameDevice(a, b *os.File) bool {
	var x, y unix.Stat_t
	return stat(a, &x) == nil && stat(b, &y) == nil && x.Rdev == y.Rdev
}

// isDevice reports whether name is the terminal f.
func isDevice(f *os.File, name string) bool {
	var x, y unix.Stat_t
	return stat(f, &x) == nil && unix.Stat(name, &y) == nil &&
		y.Mode&unix.S_IFMT == unix.S_IFCHR && x.Rdev == y.Rdev
}

func stat(f *os.File, st *unix.Stat_t) error {
	return control(f, func(fd int) error { return unix.Fstat(fd, st) })
}

// control calls fn with f's descriptor. Unlike Fd it leaves alone whether the
// description blocks.
func control(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func getTermios(f *os.File) (tio *unix.Termios, err error) {
	err = control(f, func(fd int) error {
		tio, err = unix.IoctlGetTermios(fd, ioctlReadTermios)
		return err
	})
	return tio, err
}

func setTermios(f *os.File, tio *unix.Termios) error {
	return control(f, func(fd int) error {
		return unix.IoctlSetTermios(fd, ioctlWriteTermios, tio)
	})
}

// makeRaw changes the terminal's settings as cfmakeraw(3) does, and returns
// those before and after.
func (t *TTY) makeRaw() (before, after *settings, err error) {
	before, err = getTermios(t.in)
	if err != nil {
		return nil, nil, &os.PathError{Op: "read settings of", Path: "terminal", Err: err}
	}
	raw := *before
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP |
		unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN] = 1
	raw.Cc[unix.VTIME] = 0
	if err := setTermios(t.in, &raw); err != nil {
		return nil, nil, &os.PathError{Op: "change settings of", Path: "terminal", Err: err}
	}
	// The kernel may have adjusted what it does not support.
	after, err = getTermios(t.in)
	return before, after, err
}

func (t *TTY) restore(saved *settings) error { return setTermios(t.in, saved) }

// mayTouch reports whether the terminal is ours to change. In the background
// it is not: another program has it, and the shell has put it right; to change
// it would only stop this process with SIGTTOU on its way out.
func (t *TTY) mayTouch() bool {
	var group int
	err := control(t.in, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return err != nil || group == 0 || group == unix.Getpgrp()
}

// isGone reports whether err says that a terminal is no more: its window was
// closed, or its connection was lost.
func isGone(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.ENXIO) ||
		errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EBADF) || errors.Is(err, io.EOF)
}

// Size returns the terminal's size. Where the terminal does not say, it is
// DefaultSize.
func (t *TTY) Size() (Size, error) {
	ws, err := t.winsize()
	if err != nil {
		return DefaultSize, err
	}
	if ws.Col == 0 || ws.Row == 0 {
		return DefaultSize, nil
	}
	return Size{Cols: int(ws.Col), Rows: int(ws.Row)}.Clamp(), nil
}

func (t *TTY) winsize() (ws *unix.Winsize, err error) {
	err = control(t.out, func(fd int) error {
		ws, err = unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		return err
	})
	return ws, err
}

// cellPixels returns the size of a cell in pixels, or zeros.
func (t *TTY) cellPixels() (width, height int) {
	ws, err := t.winsize()
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return 0, 0
	}
	return int(ws.Xpixel) / int(ws.Col), int(ws.Ypixel) / int(ws.Row)
}

func (w *watcher) run(t *TTY, ready chan<- struct{}) {
	signals := make(chan os.Signal, 1)
	ossignal.Notify(signals, unix.SIGWINCH)
	defer ossignal.Stop(signals)
	close(ready)
	for {
		select {
		case <-signals:
			w.notify()
		case <-w.quit:
			return
		}
	}
}
