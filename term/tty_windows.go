package term

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// settings are the modes of a console's two halves.
type settings struct {
	in, out uint32
}

// sizeInterval is how often the size of a console is looked at: nothing tells
// of its changes but its input records, which are read as bytes here.
const sizeInterval = 250 * time.Millisecond

// IsTerminal reports whether f is a console.
func IsTerminal(f *os.File) bool {
	var mode uint32
	return windows.GetConsoleMode(windows.Handle(f.Fd()), &mode) == nil
}

func (t *TTY) open() {
	p := newPump(t.in)
	t.r, t.w, t.writer = p, t.out, t.out
	t.owned = append(t.owned, p)
}

func (t *TTY) makeRaw() (before, after *settings, err error) {
	in, out := windows.Handle(t.in.Fd()), windows.Handle(t.out.Fd())
	before = &settings{}
	if err := windows.GetConsoleMode(in, &before.in); err != nil {
		return nil, nil, os.NewSyscallError("GetConsoleMode", err)
	}
	if err := windows.GetConsoleMode(out, &before.out); err != nil {
		return nil, nil, os.NewSyscallError("GetConsoleMode", err)
	}
	after = &settings{
		in: before.in&^(windows.ENABLE_ECHO_INPUT|windows.ENABLE_PROCESSED_INPUT|windows.ENABLE_LINE_INPUT) |
			windows.ENABLE_VIRTUAL_TERMINAL_INPUT,
		out: before.out | windows.ENABLE_PROCESSED_OUTPUT |
			windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING | windows.DISABLE_NEWLINE_AUTO_RETURN,
	}
	if err := windows.SetConsoleMode(out, after.out); err != nil {
		return nil, nil, os.NewSyscallError("SetConsoleMode", err)
	}
	if err := windows.SetConsoleMode(in, after.in); err != nil {
		_ = windows.SetConsoleMode(out, before.out)
		return nil, nil, os.NewSyscallError("SetConsoleMode", err)
	}
	return before, after, nil
}

func (t *TTY) restore(saved *settings) error {
	return errors.Join(
		windows.SetConsoleMode(windows.Handle(t.in.Fd()), saved.in),
		windows.SetConsoleMode(windows.Handle(t.out.Fd()), saved.out),
	)
}

func (t *TTY) mayTouch() bool { return true }

func isGone(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_HANDLE) || errors.Is(err, io.EOF)
}

// Size returns the size of the console's window.
func (t *TTY) Size() (Size, error) {
	var info windows.ConsoleScreenBufferInfo
	if err := windows.GetConsoleScreenBufferInfo(windows.Handle(t.out.Fd()), &info); err != nil {
		return DefaultSize, os.NewSyscallError("GetConsoleScreenBufferInfo", err)
	}
	return Size{
		Cols: int(info.Window.Right-info.Window.Left) + 1,
		Rows: int(info.Window.Bottom-info.Window.Top) + 1,
	}.Clamp(), nil
}

func (t *TTY) cellPixels() (width, height int) { return 0, 0 }

func (w *watcher) run(t *TTY, ready chan<- struct{}) {
	ticker := time.NewTicker(sizeInterval)
	defer ticker.Stop()
	last, _ := t.Size()
	close(ready)
	for {
		select {
		case <-ticker.C:
			if size, err := t.Size(); err == nil && size != last {
				last = size
				w.notify()
			}
		case <-w.quit:
			return
		}
	}
}
