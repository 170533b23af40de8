//go:build unix

package term

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// terminal is a terminal in a test: the other end of a TTY.
type terminal struct {
	master, slave *os.File

	mu   sync.Mutex
	seen bytes.Buffer
	grew chan struct{} // closed and replaced when seen grows
	read sync.WaitGroup
}

// openTerminal returns a terminal that reads nothing yet.
func openTerminal(t testing.TB, size Size) *terminal {
	t.Helper()
	ptm, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no PTYs here: %v", err)
	}
	master, err := unblock(ptm)
	if err != nil {
		t.Fatal(err)
	}
	e := &terminal{master: master, slave: slave, grew: make(chan struct{})}
	e.resize(t, size)
	t.Cleanup(func() {
		slave.Close()
		master.Close()
		e.read.Wait()
	})
	return e
}

func (e *terminal) resize(t testing.TB, size Size) {
	t.Helper()
	ws := &unix.Winsize{Col: uint16(size.Cols), Row: uint16(size.Rows)}
	err := control(e.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws) })
	if err != nil {
		t.Fatal(err)
	}
}

// show begins to read what is written to the terminal.
func (e *terminal) show() *terminal {
	e.read.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := e.master.Read(buf)
			e.mu.Lock()
			e.seen.Write(buf[:n])
			close(e.grew)
			e.grew = make(chan struct{})
			e.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return e
}

func (e *terminal) output() (string, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.String(), e.grew
}

// expect waits until the terminal has been sent something that ends with, or
// contains, want.
func (e *terminal) expect(t testing.TB, want string) {
	t.Helper()
	e.await(t, want, func(s string) bool { return strings.Contains(s, want) })
}

func (e *terminal) await(t testing.TB, what string, ok func(string) bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		seen, grew := e.output()
		if ok(seen) {
			return
		}
		select {
		case <-grew:
		case <-timeout:
			t.Fatalf("terminal was not sent %q but %q", what, seen)
		}
	}
}

func (e *terminal) typed(t testing.TB, s string) {
	t.Helper()
	if err := e.keys(s); err != nil {
		t.Fatal(err)
	}
}

func (e *terminal) keys(s string) error {
	_, err := e.master.WriteString(s)
	return err
}

func (e *terminal) termios(t testing.TB) unix.Termios {
	t.Helper()
	tio, err := getTermios(e.slave)
	if err != nil {
		t.Fatal(err)
	}
	return *tio
}

// tty opens the terminal as a program would.
func (e *terminal) tty(t testing.TB) *TTY {
	t.Helper()
	tty, err := OpenTTY(e.slave, e.slave)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty
}

func TestOpenTTYOfFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := OpenTTY(f, f); !errors.Is(err, ErrNotTerminal) {
		t.Errorf("error is %v, want ErrNotTerminal", err)
	}
}

func TestRawAndRestore(t *testing.T) {
	e := openTerminal(t, Size{100, 30}).show()
	before := e.termios(t)
	tty := e.tty(t)
	if _, err := tty.Write([]byte("x")); !errors.Is(err, ErrRestored) {
		t.Errorf("write to a terminal that is not raw: %v", err)
	}
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	raw := e.termios(t)
	if raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 || raw.Oflag&unix.OPOST != 0 {
		t.Errorf("terminal is not raw: %+v", raw)
	}
	if size, err := tty.Size(); err != nil || size != (Size{100, 30}) {
		t.Errorf("size is %v, %v", size, err)
	}
	if _, err := tty.Write([]byte("\x1b[?1049h\x1b[?1000h\x1b[?2004hhello")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := tty.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
	want := pushTitle + "\x1b[?1049h\x1b[?1000h\x1b[?2004hhello" +
		undoStart + "\x1b[?1049l\x1b[?1000;2004l" + popTitle + undoEnd
	e.expect(t, undoEnd)
	if got, _ := e.output(); got != want {
		t.Errorf("terminal was sent\n%q, want\n%q", got, want)
	}
	if _, err := tty.Write([]byte("x")); !errors.Is(err, ErrRestored) {
		t.Errorf("write after Restore: %v", err)
	}
	if err := tty.Raw(); err != nil {
		t.Errorf("raw once more: %v", err)
	}
	if err := tty.Close(); err != nil {
		t.Error(err)
	}
	if now := e.termios(t); now != before {
		t.Errorf("after Close, settings are\n%+v, were\n%+v", now, before)
	}
}

// TestRestoreOnPanic restores with a deferred function while a panic passes.
func TestRestoreOnPanic(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	before := e.termios(t)
	tty := e.tty(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_, release := Protect(context.Background(), tty, nil)
		defer release()
		if err := tty.Raw(); err != nil {
			t.Fatal(err)
		}
		panic("on purpose")
	}()
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
}

// TestRestoreStoppedTerminal restores a terminal that takes no output, while
// a write to it is blocked.
func TestRestoreStoppedTerminal(t *testing.T) {
	e := openTerminal(t, DefaultSize) // and nobody reads it
	before := e.termios(t)
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		for {
			if _, err := tty.Write(make([]byte, 64<<10)); err != nil {
				written <- err
				return
			}
		}
	}()
	if err := tty.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := <-written; !errors.Is(err, ErrRestored) {
		t.Errorf("blocked write ended with %v", err)
	}
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
}

func TestRestoreTerminalThatIsGone(t *testing.T) {
	e := openTerminal(t, DefaultSize)
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	e.master.Close()
	if _, err := tty.Write([]byte("x")); !isGone(err) {
		t.Errorf("write to a lost terminal: %v", err)
	}
	if err := tty.Restore(); err != nil {
		t.Errorf("restoring a lost terminal: %v", err)
	}
}

func TestReadDeadline(t *testing.T) {
	e := openTerminal(t, DefaultSize)
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	pump := newPump(e.slave)
	defer pump.Close()
	for name, r := range map[string]deadlineReader{"tty": tty, "pump": pump} {
		t.Run(name, func(t *testing.T) {
			buf := make([]byte, 2)
			ended := make(chan error)
			go func() {
				_, err := r.Read(buf)
				ended <- err
			}()
			if err := r.SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("interrupted read ended with %v", err)
			}
			if err := r.SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			e.typed(t, "abc")
			got := make([]byte, 3)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != "abc" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestResized(t *testing.T) {
	tty := openTerminal(t, DefaultSize).tty(t)
	resized := tty.Resized()
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-resized; !ok {
		t.Error("channel is closed")
	}
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-resized; ok {
		t.Error("channel is open after Close")
	}
}

func TestSuspend(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	before := e.termios(t)
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	raw := e.termios(t)
	if err := tty.Suspend(); err != nil {
		t.Fatal(err)
	}
	if now := e.termios(t); now != before {
		t.Errorf("suspended: settings are\n%+v, were\n%+v", now, before)
	}
	written := make(chan error, 1)
	go func() {
		_, err := tty.Write([]byte("later"))
		written <- err
	}()
	if !tty.Again() {
		t.Error("terminal is not raw again")
	}
	if err := <-written; err != nil {
		t.Errorf("write that had to wait: %v", err)
	}
	if now := e.termios(t); now != raw {
		t.Errorf("again: settings are\n%+v, want\n%+v", now, raw)
	}
	if err := tty.Restore(); err != nil {
		t.Fatal(err)
	}
	if tty.Again() {
		t.Error("a restored terminal was made raw")
	}
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
	e.expect(t, "later")
}

// session is a helper process that has a terminal in its hands.
func session(t *testing.T, e *terminal, helper string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), helperEnv+"="+helper), env...)
	cmd.Stdin, cmd.Stdout = e.slave, e.slave
	if !slices.Contains(env, "PANIC=1") {
		cmd.Stderr = os.Stderr
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func init() {
	helpers["raw"] = func() {
		tty, err := OpenTTY(os.Stdin, os.Stdout)
		if err != nil {
			panic(err)
		}
		ctx, release := Protect(context.Background(), tty, func() {
			_, _ = tty.Write([]byte("repainted"))
			if os.Getenv("STOP") != "" {
				_ = unix.Kill(os.Getpid(), unix.SIGTERM)
			}
		})
		if os.Getenv("KEEPER") != "" {
			if err := StartKeeper(tty); err != nil {
				panic(err)
			}
		}
		if err := tty.Raw(); err != nil {
			panic(err)
		}
		_, _ = tty.Write([]byte("\x1b[?1049h\x1b[?1003hready"))
		if os.Getenv("NORMAL") != "" {
			_ = tty.Close()
			os.Exit(7)
		}
		if os.Getenv("STOP") != "" {
			_ = unix.Kill(os.Getpid(), unix.SIGTSTP)
		}
		if os.Getenv("PANIC") != "" {
			go func() { panic("on purpose") }()
		}
		<-ctx.Done()
		if os.Getenv("HANGUP") != "" {
			_ = unix.Kill(os.Getpid(), unix.SIGHUP)
		}
		code := 1
		if sig := new(SignalError); errors.As(context.Cause(ctx), &sig) {
			code = sig.Code()
		}
		release()
		_ = tty.Close()
		os.Exit(code)
	}
}

func TestSignals(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			e := openTerminal(t, DefaultSize).show()
			before := e.termios(t)
			cmd := session(t, e, "raw", "KEEPER=1")
			e.expect(t, "ready")
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != 128+int(sig) {
				t.Errorf("exit status %d, want %d", got, 128+int(sig))
			}
			if now := e.termios(t); now != before {
				t.Errorf("settings are\n%+v, were\n%+v", now, before)
			}
			want := "ready" + undoStart + "\x1b[?1049l\x1b[?1003l" + popTitle + undoEnd
			e.expect(t, want)
			if got, _ := e.output(); !strings.HasSuffix(got, want) {
				t.Errorf("something was written after the terminal was restored: %q", got)
			}
		})
	}
}

// When a window is closed, SIGHUP comes from the system and from the shell.
func TestHangUpTwice(t *testing.T) {
	for _, first := range []unix.Signal{unix.SIGHUP, unix.SIGTERM} {
		e := openTerminal(t, DefaultSize).show()
		cmd := session(t, e, "raw", "HANGUP=1")
		e.expect(t, "ready")
		if err := cmd.Process.Signal(first); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 128+int(first) {
			t.Errorf("%v, then SIGHUP: %v, want exit status %d", first, cmd.ProcessState, 128+int(first))
		}
	}
}

func TestStopAndContinue(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	before := e.termios(t)
	cmd := session(t, e, "raw")
	e.expect(t, "ready")
	raw := e.termios(t)
	// A session leader is in an orphaned process group, which nobody would
	// continue, so it is not stopped; see TestStopJob for those that are. Either
	// way the terminal is given back and taken again.
	if err := cmd.Process.Signal(unix.SIGTSTP); err != nil {
		t.Fatal(err)
	}
	e.expect(t, "ready"+undoStart+"\x1b[?1049l\x1b[?1003l"+popTitle+undoEnd+pushTitle+"repainted")
	if now := e.termios(t); now != raw {
		t.Errorf("settings are\n%+v, want\n%+v", now, raw)
	}
	// A stop that nobody can see coming; meanwhile a shell changes settings.
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := setTermios(e.slave, &before); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	e.await(t, "repainted twice", func(s string) bool { return strings.Count(s, "repainted") == 2 })
	if now := e.termios(t); now != raw {
		t.Errorf("settings are\n%+v, want\n%+v", now, raw)
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
}

// startJob has a shell with job control run a script, in which "$0" is a program that
// takes the terminal and stops.
func startJob(t *testing.T, e *terminal, script string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "set -m; "+script, exe)
	cmd.Env = append(os.Environ(), helperEnv+"=raw", "STOP=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.slave, e.slave, e.slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// A stopped job is ended by a shell, which first tells it to end and then to go on, in the
// background.
func TestEndStoppedJob(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	before := e.termios(t)
	// The first to be waited for may be that it has stopped.
	cmd := startJob(t, e, `"$0"; echo stopped; kill %1; kill -CONT %1; s=147; while [ $s = 147 ]; do sleep 0.02; wait %1; s=$?; done; echo "ended $s"`)
	e.await(t, "end of the job", func(s string) bool { return strings.Contains(s, "ended 143") })
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
}

// A job of a shell stops, with the terminal as the shell knows it, and goes on where it
// was.
func TestStopJob(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	before := e.termios(t)
	cmd := startJob(t, e, `"$0"; echo stopped; read line; fg`)
	e.expect(t, "ready"+undoStart+"\x1b[?1049l\x1b[?1003l"+popTitle+undoEnd)
	e.expect(t, "stopped")
	if got, _ := e.output(); strings.Contains(got, "repainted") {
		t.Fatalf("went on by itself: %q", got)
	}
	if now := e.termios(t); now != before {
		t.Errorf("settings of the shell are\n%+v, were\n%+v", now, before)
	}
	e.typed(t, "\n")
	e.expect(t, "repainted")
	_ = cmd.Wait()
	if now := e.termios(t); now != before {
		t.Errorf("settings are\n%+v, were\n%+v", now, before)
	}
}

func TestKeeper(t *testing.T) {
	undone := "\x1b[?1003hready" + undoStart + "\x1b[?1049l\x1b[?1003l" + popTitle + undoEnd
	t.Run("killed", func(t *testing.T) {
		e := openTerminal(t, DefaultSize).show()
		before := e.termios(t)
		cmd := session(t, e, "raw", "KEEPER=1")
		e.expect(t, "ready")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		e.expect(t, undone+"\r")
		if now := e.termios(t); now != before {
			t.Errorf("settings are\n%+v, were\n%+v", now, before)
		}
	})
	t.Run("whole group killed", func(t *testing.T) {
		e := openTerminal(t, DefaultSize).show()
		cmd := session(t, e, "raw", "KEEPER=1")
		e.expect(t, "ready")
		if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		e.expect(t, undone+"\r")
	})
	t.Run("panic on another goroutine", func(t *testing.T) {
		e := openTerminal(t, DefaultSize).show()
		before := e.termios(t)
		cmd := session(t, e, "raw", "KEEPER=1", "PANIC=1")
		_ = cmd.Wait()
		e.expect(t, undone+"\r")
		if now := e.termios(t); now != before {
			t.Errorf("settings are\n%+v, were\n%+v", now, before)
		}
	})
	t.Run("settings that a shell has changed stay", func(t *testing.T) {
		e := openTerminal(t, DefaultSize).show()
		cmd := session(t, e, "raw", "KEEPER=1")
		e.expect(t, "ready")
		changed := e.termios(t)
		changed.Lflag |= unix.ECHO
		if err := setTermios(e.slave, &changed); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		e.expect(t, undone+"\r")
		if now := e.termios(t); now != changed {
			t.Errorf("settings are\n%+v, want\n%+v", now, changed)
		}
	})
	t.Run("normal end", func(t *testing.T) {
		e := openTerminal(t, DefaultSize).show()
		cmd := session(t, e, "raw", "KEEPER=1", "NORMAL=1")
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 7 {
			t.Errorf("exit status %d, want 7", got)
		}
		// Close has waited for the keeper, so all that it would write is there
		// when the terminal ends.
		e.slave.Close()
		e.read.Wait()
		if got, _ := e.output(); got != pushTitle+"\x1b[?1049h"+undone {
			t.Errorf("terminal was sent\n%q, want\n%q", got, pushTitle+"\x1b[?1049h"+undone)
		}
	})
}
