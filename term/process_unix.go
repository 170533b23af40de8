//go:build unix

package term

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	ossignal "os/signal"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// drainQuiet is how long the terminal of a program that has ended may be quiet
// before its output counts as complete. Programs that it left behind can keep
// the terminal open.
const drainQuiet = 100 * time.Millisecond

// process is a program behind a PTY. Reads, writes and the rest may be called
// from different goroutines.
type process struct {
	master *os.File
	r      deadlineReader
	name   string // of the slave
	cmd    *exec.Cmd

	done   chan struct{} // closed when the program has ended
	status ExitStatus    // set before done is closed
}

// startProcess runs c in a new session on a new PTY. The PTY has the settings
// of the terminal like, if there is one, so that the keys for erasing and
// interrupting are the same on both.
func startProcess(c Command, size Size, like *TTY) (*process, error) {
	ptm, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a PTY: %w", err)
	}
	defer slave.Close()
	master, err := unblock(ptm)
	if err != nil {
		return nil, fmt.Errorf("open a PTY: %w", err)
	}
	p := &process{master: master, r: quickReader(master), name: slave.Name(), done: make(chan struct{})}
	if master.SetReadDeadline(time.Time{}) != nil {
		p.r = newPump(master)
	}
	width, height := 0, 0
	if like != nil {
		width, height = like.cellPixels()
	}
	if err := errors.Join(p.resize(size, width, height), prepare(slave, like)); err != nil {
		master.Close()
		return nil, fmt.Errorf("set up a PTY: %w", err)
	}
	p.cmd = &exec.Cmd{
		Path:        c.Path,
		Args:        c.Args,
		Dir:         c.Dir,
		Env:         c.Env,
		Stdin:       slave,
		Stdout:      slave,
		Stderr:      slave,
		SysProcAttr: &unix.SysProcAttr{Setsid: true, Setctty: true},
	}
	if err := startHeeding(p.cmd); err != nil {
		master.Close()
		return nil, fmt.Errorf("cannot run %q: %w", c.Path, err)
	}
	return p, nil
}

// startHeeding starts cmd with the default for signals that this process may have been
// started to ignore, as nohup or a script's "&" do: the programs in a terminal that is
// shared are to be hung up and interrupted like those in any other. Go sets to the default
// in a child what the parent is notified of, and leaves what it ignores.
func startHeeding(cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 1)
	ossignal.Notify(signals, unix.SIGHUP, unix.SIGINT)
	defer ossignal.Stop(signals)
	return cmd.Start()
}

// unblock returns a file for the same PTY master that takes deadlines, and
// closes f. The package that opened it leaves it blocking.
func unblock(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	master := os.NewFile(uintptr(fd), f.Name())
	if master.SetReadDeadline(time.Time{}) != nil {
		if err := unix.SetNonblock(fd, false); err != nil {
			master.Close()
			return nil, err
		}
	}
	return master, nil
}

// prepare gives the slave the settings of the terminal like.
func prepare(slave *os.File, like *TTY) error {
	tio, err := getTermios(slave)
	if err != nil {
		return err
	}
	if like != nil {
		if found := like.found(); found != nil {
			tio.Iflag, tio.Oflag, tio.Lflag = found.Iflag, found.Oflag, found.Lflag
			tio.Cc = found.Cc
		}
	}
	// Erasing a character of several bytes takes IUTF8.
	tio.Iflag |= iutf8
	return setTermios(slave, tio)
}

// found returns the settings that the terminal has outside of pairterm.
func (t *TTY) found() *settings {
	t.hands.Lock()
	defer t.hands.Unlock()
	if t.saved != nil {
		return t.saved
	}
	tio, err := getTermios(t.in)
	if err != nil {
		return nil
	}
	return tio
}

// wait waits for the program to end. It is called once.
func (p *process) wait() ExitStatus {
	_ = p.cmd.Wait()
	if state := p.cmd.ProcessState; state != nil {
		if ws, ok := state.Sys().(interface {
			Signaled() bool
			Signal() unix.Signal
		}); ok && ws.Signaled() {
			p.status.signal = ws.Signal()
		} else {
			p.status.status = state.ExitCode()
		}
	}
	close(p.done)
	return p.status
}

// Read reads the program's output. After the program has ended it returns
// io.EOF when there is no more.
func (p *process) Read(buf []byte) (int, error) {
	for {
		n, err := p.r.Read(buf)
		switch {
		case n > 0 || err == nil:
			p.quiet()
			return n, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if p.ended() {
				return 0, io.EOF
			}
		case isGone(err) || errors.Is(err, os.ErrClosed):
			// Linux says EIO when the last program has closed the terminal.
			// One may open it again, as long as the shell lives.
			if p.ended() || errors.Is(err, os.ErrClosed) {
				return 0, io.EOF
			}
			<-p.done
		default:
			return 0, err
		}
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// quiet starts the wait for the end of the output anew, once the program has
// ended.
func (p *process) quiet() {
	if p.ended() {
		_ = p.r.SetReadDeadline(time.Now().Add(drainQuiet))
	}
}

func (p *process) Write(b []byte) (int, error) { return p.master.Write(b) }

func (p *process) SetWriteDeadline(d time.Time) error { return p.master.SetWriteDeadline(d) }

// resize sets the size of the terminal, and that of a cell in pixels where it
// is known. The foreground programs are told by the kernel.
func (p *process) resize(size Size, cellWidth, cellHeight int) error {
	ws := &unix.Winsize{
		Col: uint16(size.Cols), Row: uint16(size.Rows),
		Xpixel: uint16(min(size.Cols*cellWidth, 0xffff)),
		Ypixel: uint16(min(size.Rows*cellHeight, 0xffff)),
	}
	return control(p.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws)
	})
}

// signals returns the keys that make signals on the terminal now.
func (p *process) signals() (keys signalKeys) {
	tio, err := getTermios(p.master)
	if err != nil || tio.Lflag&unix.ISIG == 0 || tio.Lflag&unix.NOFLSH != 0 {
		return keys
	}
	keys.keys = [3]byte{tio.Cc[unix.VINTR], tio.Cc[unix.VQUIT], tio.Cc[unix.VSUSP]}
	if tio.Lflag&unix.ICANON != 0 && tio.Lflag&unix.IEXTEN != 0 {
		keys.literal = tio.Cc[unix.VLNEXT]
	}
	return keys
}

// flushInput throws away what the program has not read of its input.
func (p *process) flushInput() {
	slave, err := os.OpenFile(p.name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer slave.Close()
	flushInput(p.master, slave)
}

// hangup tells the programs on the terminal that it is gone, as the kernel
// does when a terminal's line is cut.
func (p *process) hangup() {
	p.signal(unix.SIGHUP)
	p.signal(unix.SIGCONT)
}

func (p *process) kill() { p.signal(unix.SIGKILL) }

// signal signals the shell's process group and the one in the foreground.
func (p *process) signal(sig unix.Signal) {
	if p.ended() {
		return
	}
	leader := p.cmd.Process.Pid // of its session and its group
	var group int
	err := control(p.master, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	if err == nil && group > 1 && group != leader {
		_ = unix.Kill(-group, sig)
	}
	_ = unix.Kill(-leader, sig)
}

// close hangs up. It makes a Read under way return.
func (p *process) close() {
	p.master.Close()
	if c, ok := p.r.(*pump); ok {
		c.Close()
	}
}
