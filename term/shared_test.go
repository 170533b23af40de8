//go:build unix

package term

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pairterm/pairterm/term/screen"
)

// running is a Shared that runs.
type running struct {
	*Shared
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error
	notify chan struct{}
}

// share runs a shell script on a shared terminal.
func share(t *testing.T, script string, o SharedOptions) *running {
	t.Helper()
	return runShared(t, Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}}, o)
}

func runShared(t *testing.T, c Command, o SharedOptions) *running {
	t.Helper()
	s := NewShared(c, o)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{s, t, cancel, make(chan error, 1), make(chan struct{}, 1)}
	s.Subscribe(r.notify)
	go func() { r.ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		r.wait()
	})
	return r
}

func (r *running) wait() error {
	err := <-r.ended
	r.ended <- err
	return err
}

func (r *running) text() string {
	snap, _ := r.Mark()
	return text(snap)
}

// expect waits until the screen contains want.
func (r *running) expect(want string) {
	r.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		if strings.Contains(r.text(), want) {
			return
		}
		select {
		case <-r.notify:
		case <-timeout:
			r.t.Fatalf("screen does not show %q but\n%s", want, r.text())
		}
	}
}

func TestSharedHeadless(t *testing.T) {
	r := share(t, `stty size; printf '\033[2;5H\033[6n'; stty raw; head -c 6 | od -c; exit 3`, SharedOptions{Size: Size{60, 20}})
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	got := r.text()
	if !strings.HasPrefix(got, "20 60\n") {
		t.Errorf("the program's terminal has another size:\n%s", got)
	}
	if !strings.Contains(got, `033   [   2   ;   5   R`) {
		t.Errorf("nobody said where the cursor is:\n%s", got)
	}
	if code := r.ExitStatus().Code(); code != 3 {
		t.Errorf("exit status %d, want 3", code)
	}
	if err := r.Run(context.Background()); err == nil {
		t.Error("Run could be called twice")
	}
}

func TestSharedExitStatus(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0":        0,
		"exit 77":       77,
		"kill -TERM $$": 128 + 15,
	} {
		r := share(t, script, SharedOptions{})
		if err := r.wait(); err != nil {
			t.Errorf("%s: %v", script, err)
		}
		if got := r.ExitStatus().Code(); got != want {
			t.Errorf("%s: exit status %d (%v), want %d", script, got, r.ExitStatus(), want)
		}
	}
	r := runShared(t, Command{Path: "/no/such/program", Args: []string{"x"}}, SharedOptions{})
	if err := r.wait(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestSharedOwnTerminal looks at what the host's own terminal is sent: what
// the program put out, and nothing else.
func TestSharedOwnTerminal(t *testing.T) {
	e := openTerminal(t, Size{70, 15}).show()
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	r := share(t, `stty size; printf '\033[31mred\033[m\033[6n'; cat`, SharedOptions{TTY: tty})
	e.expect(t, "15 70\r\n\x1b[31mred\x1b[m\x1b[6n")
	e.typed(t, "\x1b[1;1R and typed\r")
	e.expect(t, "^[[1;1R and typed\r\n\x1b[1;1R and typed\r\n")
	e.typed(t, "\x04")
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if err := tty.Restore(); err != nil {
		t.Fatal(err)
	}
	all, ok := r.Since(nil, 0, 1<<20)
	if !ok {
		t.Fatal("the output is not held")
	}
	e.expect(t, undoEnd)
	if got, _ := e.output(); got != pushTitle+string(scrollAway(nil, 15))+string(all)+undoStart+popTitle+undoEnd {
		t.Errorf("terminal was sent\n%q, and the program's output was\n%q", got, all)
	}
}

// TestSharedSettings looks whether the PTY is set as the host's own terminal.
func TestSharedSettings(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	tio := e.termios(t)
	tio.Cc[unix.VINTR] = 5
	tio.Cc[unix.VERASE] = 8
	if err := setTermios(e.slave, &tio); err != nil {
		t.Fatal(err)
	}
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	r := share(t, "stty -a", SharedOptions{TTY: tty})
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"intr = ^E", "erase = ^H", " iutf8"} {
		if !strings.Contains(r.text(), want) {
			t.Errorf("settings lack %q:\n%s", want, r.text())
		}
	}
}

func TestSharedGuestsType(t *testing.T) {
	r := share(t, `stty -echo; echo ready; while read line; do echo "got $line"; done`, SharedOptions{})
	r.expect("ready")
	a := r.NewInput(InputOptions{})
	a.Keys([]byte("one\n"))
	r.expect("got one")
	r.WriteInput([]byte("three\n\x04"))
	a.Close()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if got := r.text(); got != "ready\ngot one\ngot three" {
		t.Errorf("screen is\n%s", got)
	}
}

// TestSharedInterrupt interrupts a program that does not read its terminal
// and that has been typed more at than anything can hold.
func TestSharedInterrupt(t *testing.T) {
	r := share(t, "echo ready; exec sleep 1000", SharedOptions{})
	r.expect("ready")
	in, other := r.NewInput(InputOptions{}), r.NewInput(InputOptions{})
	line := []byte(strings.Repeat("x", 99) + "\n")
	full := 0
	for range 100000 {
		if in.Keys(line) < len(line) {
			if full++; full == 3 {
				break
			}
		}
	}
	if full < 3 {
		t.Fatal("the program reads")
	}
	if n := other.Keys([]byte("y")); n != 1 {
		t.Error("one guest's paste held up another")
	}
	if n := in.Keys([]byte{3}); n != 1 {
		t.Fatal("the interrupt was not taken")
	}
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if got := r.ExitStatus(); got.Signal() != unix.SIGINT {
		t.Errorf("program %v, want SIGINT", got)
	}
}

// TestSharedInterruptUnread interrupts a program that does not read its terminal, and for
// which just as much is held by the terminal's driver as was typed.
func TestSharedInterruptUnread(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	for _, lines := range []int{1, 30, 50, 80, 110, 130} {
		r := share(t, "echo ready; exec sleep 1000", SharedOptions{})
		r.expect("ready")
		in := r.NewInput(InputOptions{})
		in.Keys([]byte(strings.Repeat(line, lines)))
		time.Sleep(20 * time.Millisecond)
		in.Keys([]byte{3})
		select {
		case <-r.ended:
			r.ended <- nil
		case <-time.After(20 * time.Second):
			t.Fatalf("after %d bytes the interrupt has no effect", lines*len(line))
		}
		if got := r.ExitStatus(); got.Signal() != unix.SIGINT {
			t.Errorf("after %d bytes, program %v, want SIGINT", lines*len(line), got)
		}
	}
}

func TestSharedHangup(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		grace        time.Duration
		want         int
	}{
		{"plain", "echo ready; while :; do sleep 1000; done", time.Minute, 128 + int(unix.SIGHUP)},
		{"says goodbye", `trap 'echo bye; exit 5' HUP; echo ready; sleep 1000 & wait; wait`, time.Minute, 5},
		{"does not listen", `trap '' HUP TERM INT; echo ready; exec sleep 1000`, 100 * time.Millisecond, 128 + int(unix.SIGKILL)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := share(t, tt.script, SharedOptions{Grace: tt.grace})
			r.expect("ready")
			r.cancel()
			if err := r.wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("Run returned %v", err)
			}
			if got := r.ExitStatus().Code(); got != tt.want {
				t.Errorf("exit status %d (%v), want %d", got, r.ExitStatus(), tt.want)
			}
			if tt.want == 5 && !strings.HasSuffix(r.text(), "bye") {
				t.Errorf("the last words are missing:\n%s", r.text())
			}
		})
	}
}

// TestSharedHeeds runs programs from a process that ignores what nohup, and a script's
// "&", have it ignore.
func TestSharedHeeds(t *testing.T) {
	const ignoring = "TERM_TEST_IGNORING"
	if os.Getenv(ignoring) == "" {
		// Go has no way back from ignoring a signal: another process does it.
		cmd := exec.Command("/bin/sh", "-c", `trap '' HUP INT; exec "$0" -test.run '^TestSharedHeeds$'`, os.Args[0])
		cmd.Env = append(os.Environ(), ignoring+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if !ossignal.Ignored(unix.SIGHUP) || !ossignal.Ignored(unix.SIGINT) {
		t.Fatal("nothing is ignored")
	}
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		r := share(t, fmt.Sprintf("kill -%d $$; echo still here", sig), SharedOptions{})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if got := r.ExitStatus(); got.Signal() != sig {
			t.Errorf("the program %v, want %v:\n%s", got, sig, r.text())
		}
	}
}

// TestSharedLeftover ends a shell that leaves a program behind which keeps the
// terminal open.
func TestSharedLeftover(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	r := share(t, `trap '' HUP; sleep 1000 & echo $! >`+pidFile+`; echo done`, SharedOptions{})
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if got := r.text(); got != "done" {
		t.Errorf("screen is\n%s", got)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(string(pid), &n); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(n, unix.SIGKILL); err != nil {
		t.Errorf("the program that was left behind: %v", err)
	}
}

func TestSharedResize(t *testing.T) {
	sizes := make(chan Size, 10)
	r := share(t, `trap 'stty size' WINCH; stty size; while :; do read line; done`,
		SharedOptions{Size: Size{80, 24}, OnResize: func(s Size) { sizes <- s }})
	r.expect("24 80")
	pos := r.Head()
	r.Resize(Size{100, 30})
	if got := <-sizes; got != (Size{100, 30}) {
		t.Errorf("size is %v", got)
	}
	r.expect("30 100")
	if _, ok := r.Since(nil, pos, 100); ok {
		t.Error("bytes were told across a change of size")
	}
	snap, after := r.Mark()
	if cols, rows := snap.Size(); cols != 100 || rows != 30 {
		t.Errorf("the screen is %dx%d", cols, rows)
	}
	if after <= pos {
		t.Errorf("a change of size took no position")
	}
	small, wide := r.Constrain(), r.Constrain()
	wide.Set(Size{200, 20})
	if got := <-sizes; got != (Size{100, 20}) {
		t.Errorf("size is %v", got)
	}
	small.Set(Size{60, 40})
	if got := <-sizes; got != (Size{60, 20}) {
		t.Errorf("size is %v", got)
	}
	r.expect("20 60")
	wide.Release()
	if got := <-sizes; got != (Size{60, 30}) {
		t.Errorf("size is %v", got)
	}
	small.Release()
	if got := <-sizes; got != (Size{100, 30}) || r.Size() != got {
		t.Errorf("size is %v", got)
	}
}

// TestSharedStalledTerminal stops the host's own terminal: then the program
// stops, but guests are served, and an end comes all the same.
func TestSharedStalledTerminal(t *testing.T) {
	e := openTerminal(t, DefaultSize) // which nobody reads
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	r := share(t, "yes", SharedOptions{TTY: tty, Grace: 200 * time.Millisecond})
	r.expect("y")
	r.Notice("this cannot be shown and must not wait")
	in := r.NewInput(InputOptions{})
	in.Keys([]byte("x"))
	r.Mark()
	r.cancel()
	if err := r.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if err := tty.Restore(); err != nil {
		t.Fatal(err)
	}
}

// TestSharedConstrained has a guest's window constrain the shared screen, and
// the host's own terminal painted for as long.
func TestSharedConstrained(t *testing.T) {
	size := Size{40, 8}
	e := openTerminal(t, size).show()
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	shows := func(what string, ok func(string) bool) {
		t.Helper()
		e.await(t, what, func(seen string) bool {
			s := screen.New(size.Cols, size.Rows, screen.Options{})
			_, _ = s.Write([]byte(seen))
			return ok(text(s.Snapshot()))
		})
	}
	r := share(t, `trap 'stty size' WINCH; stty size; while :; do read line; done`, SharedOptions{TTY: tty})
	shows("the size", func(s string) bool { return s == "8 40" })
	c := r.Constrain()
	c.Set(Size{20, 5})
	shows("an edge", func(s string) bool {
		rows := strings.Split(s, "\n")
		return len(rows) == 6 && rows[5] == "────────────────────┘" && strings.HasPrefix(rows[1], "5 20 ")
	})
	r.Notice("bob joined")
	shows("a notice", func(s string) bool { return strings.Contains(s, " bob joined\n") })
	c.Release()
	shows("no edge", func(s string) bool { return strings.HasSuffix(s, "\n8 40") && !strings.Contains(s, "─") })
	e.typed(t, "typed")
	shows("what is typed", func(s string) bool { return strings.HasSuffix(s, "typed") })
	r.cancel()
	r.wait()
}

// TestSharedBanner looks at what both sides see first.
func TestSharedBanner(t *testing.T) {
	size := Size{40, 6}
	e := openTerminal(t, size).show()
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	if _, err := tty.Write([]byte("$ pairterm host\r\nlooking for a key\r\n")); err != nil {
		t.Fatal(err)
	}
	r := share(t, "printf prompt; cat", SharedOptions{TTY: tty, Banner: "join with: x\r\n"})
	r.expect("prompt")
	want := "join with: x\nprompt"
	if got := r.text(); got != want {
		t.Errorf("shared screen\n%s\nwant\n%s", got, want)
	}
	e.await(t, want, func(seen string) bool {
		s := screen.New(size.Cols, size.Rows, screen.Options{})
		_, _ = s.Write([]byte(seen))
		snap := s.Snapshot()
		c := snap.Cursor()
		return text(snap) == want && c.X == 6 && c.Y == 1 &&
			bytes.Contains(snap.AppendScrollback(nil, 100), []byte("looking for a key"))
	})
}

// commands records the host's commands.
type commands chan Key

func (c commands) Leader() {}
func (c commands) Done()   {}
func (c commands) Command(key Key) CommandResult {
	c <- key
	return CommandDone
}

func TestSharedCommands(t *testing.T) {
	e := openTerminal(t, DefaultSize).show()
	tty := e.tty(t)
	if err := tty.Raw(); err != nil {
		t.Fatal(err)
	}
	c := make(commands, 1)
	r := share(t, "cat", SharedOptions{TTY: tty, Keyboard: c, Leader: DefaultLeader})
	e.typed(t, "a\x1dwb\r")
	e.expect(t, "ab\r\nab\r\n")
	if key := <-c; key != 'w' {
		t.Errorf("command %q, want w", key)
	}
	e.typed(t, "\x04")
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
}

// TestSourceNotices has somebody look at the screen whenever there is a notice
// of something new: in the end that has to be all.
func TestSourceNotices(t *testing.T) {
	for range 20 {
		s := newSource(DefaultSize, screen.Options{}, false)
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			s.feed()
		}()
		notify := make(chan struct{}, 1)
		defer s.Subscribe(notify)()
		seen := make(chan struct{})
		const size = 2_000_000
		go func() {
			defer close(seen)
			for {
				<-notify
				if _, pos := s.Mark(); pos == size {
					return
				}
			}
		}()
		for range size / 4000 {
			s.append(bytes.Repeat([]byte("some text.\r\n\x1b[1m\x1b[m\x1b[K"), 200)[:4000])
		}
		select {
		case <-seen:
		case <-time.After(20 * time.Second):
			t.Fatal("nobody told that there is more")
		}
		s.end()
		<-fed
	}
}

func TestSourceFlood(t *testing.T) {
	r := share(t, "seq 1 200000", SharedOptions{})
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	snap, pos := r.Mark()
	if pos != r.Head() {
		t.Errorf("the model is at %d of %d", pos, r.Head())
	}
	if got := text(snap); !strings.HasSuffix(got, "199999\n200000") {
		t.Errorf("screen is\n%s", got)
	}
	if _, ok := r.Since(nil, 0, 10); ok {
		t.Error("everything is kept")
	}
	tail, ok := r.Since(nil, pos-8, 100)
	if !ok || !bytes.Equal(tail, []byte("200000\r\n")) {
		t.Errorf("the last bytes are %q, %v", tail, ok)
	}
}
