//go:build unix

package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/pairterm/pairterm/term/screen"
)

// patience is how long a script waits for what must come. It is never waited
// out by a test that passes.
const patience = 20 * time.Second

// terminal is a PTY with a program in it and a model of the screen outside,
// which answers what a terminal answers.
type terminal struct {
	master *os.File
	cmd    *exec.Cmd
	before *unix.Termios // settings before the program started

	mu     sync.Mutex
	change sync.Cond
	screen *screen.Screen
	raw    []byte // all output so far
	closed bool   // the program has closed it
	waited bool
	status int
}

type terminals struct {
	web *httptest.Server // the last of httpsCommand

	mu    sync.Mutex
	named map[string]*terminal
}

type terminalsKey struct{}

func newTerminals() *terminals { return &terminals{named: map[string]*terminal{}} }

// close ends all programs that are still there.
func (ts *terminals) close() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.named {
		t.cmd.Process.Kill()
		t.until(func() bool { return t.waited })
		t.master.Close()
	}
}

// ptyCommand drives terminals:
//
//	pty start NAME [-size COLSxROWS] PROGRAM ARGS…
//	pty type NAME TEXT             Go escapes are understood: \r, \x1d, …
//	pty expect NAME REGEXP         waits until the screen matches
//	! pty expect NAME REGEXP       the screen does not match now
//	pty raw NAME REGEXP            waits until all that was ever output matches
//	! pty raw NAME REGEXP          nothing output so far matches
//	pty capture NAME VAR REGEXP    sets VAR to the first group of what was output
//	pty same NAME OTHER            waits until both show the same screen
//	pty resize NAME COLSxROWS
//	pty wait NAME [STATUS]         waits for the program's end
//	pty kill NAME SIGNAL
//	pty hangup NAME                closes the window: the terminal is gone
//	pty restored NAME              after the end: settings and modes are as before
//	pty screen NAME                prints the screen
func ptyCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: pty COMMAND NAME …")
	}
	all := ts.Value(terminalsKey{}).(*terminals)
	verb, name, args := args[0], args[1], args[2:]
	if verb == "start" {
		t, err := startTerminal(ts, args)
		ts.Check(err)
		all.mu.Lock()
		all.named[name] = t
		all.mu.Unlock()
		return
	}
	all.mu.Lock()
	t := all.named[name]
	all.mu.Unlock()
	if t == nil {
		ts.Fatalf("there is no terminal %q", name)
	}
	need := func(n int) {
		if len(args) < n {
			ts.Fatalf("pty %s: too few arguments", verb)
		}
	}
	switch verb {
	case "type":
		need(1)
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.Join(args, " "), `"`, `\"`) + `"`)
		ts.Check(err)
		_, err = t.master.WriteString(text)
		ts.Check(err)
	case "expect":
		need(1)
		re := regexp.MustCompile(args[0])
		if neg {
			if t.text() != "" && re.MatchString(t.text()) {
				ts.Fatalf("the screen of %s matches %q:\n%s", name, re, t.text())
			}
			return
		}
		if !t.until(func() bool { return re.MatchString(t.textLocked()) }) {
			ts.Fatalf("the screen of %s does not match %q:\n%s", name, re, t.text())
		}
	case "raw", "capture":
		pattern := args[len(args)-1]
		re := regexp.MustCompile(pattern)
		if neg {
			if m := re.FindString(t.output()); m != "" {
				ts.Fatalf("%s has output %q", name, m)
			}
			return
		}
		var groups []string
		if !t.until(func() bool { groups = re.FindStringSubmatch(string(t.raw)); return groups != nil }) {
			ts.Fatalf("%s has not output %q but\n%q", name, re, t.output())
		}
		if verb == "capture" {
			ts.Setenv(args[0], groups[1])
		}
	case "same":
		need(1)
		o := all.named[args[0]]
		if !t.until(func() bool { return t.textLocked() == o.text() }) {
			ts.Fatalf("%s shows\n%s\nand %s shows\n%s", name, t.text(), args[0], o.text())
		}
	case "resize":
		need(1)
		cols, rows := parseSize(ts, args[0])
		t.mu.Lock()
		t.screen.Resize(cols, rows)
		t.mu.Unlock()
		ts.Check(pty.Setsize(t.master, &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}))
	case "wait":
		if !t.until(func() bool { return t.waited }) {
			ts.Fatalf("%s has not ended:\n%s", name, t.text())
		}
		if len(args) > 0 && strconv.Itoa(t.status) != args[0] {
			ts.Fatalf("%s ended with status %d, want %s:\n%s", name, t.status, args[0], t.text())
		}
	case "kill":
		need(1)
		sig := unix.SignalNum(args[0])
		if sig == 0 {
			ts.Fatalf("unknown signal %q", args[0])
		}
		ts.Check(t.cmd.Process.Signal(sig))
	case "hangup":
		ts.Check(t.master.Close())
	case "restored":
		if err := t.restored(); err != nil {
			ts.Fatalf("%s: %v\noutput %q", name, err, t.output())
		}
	case "screen":
		fmt.Fprintln(ts.Stdout(), t.text())
	default:
		ts.Fatalf("unknown command pty %s", verb)
	}
}

func parseSize(ts *testscript.TestScript, s string) (cols, rows int) {
	if _, err := fmt.Sscanf(s, "%dx%d", &cols, &rows); err != nil {
		ts.Fatalf("size %q: %v", s, err)
	}
	return cols, rows
}

func startTerminal(ts *testscript.TestScript, args []string) (*terminal, error) {
	cols, rows := 80, 24
	if args[0] == "-size" {
		cols, rows = parseSize(ts, args[1])
		args = args[2:]
	}
	path, err := exec.LookPath(args[0])
	if args[0] == "pairterm" {
		path, err = exec.LookPath(ts.Getenv("PATH_PAIRTERM"))
		if ts.Getenv("PATH_PAIRTERM") == "" {
			path, err = findIn(ts.Getenv("PATH"), "pairterm")
		}
	}
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Dir = ts.Getenv("WORK")
	for _, kv := range []string{"PATH", "HOME", "USER", "SHELL", "PS1", "TERM", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE",
		"SSH_AUTH_SOCK", "PAIRTERM_SESSION", "PAIRTERM_SIGNAL", "PAIRTERM_NATS", "PAIRTERM_NATS_USER", "PAIRTERM_NATS_PASSWORD_FILE", "PAIRTERM_GITHUB_URL", "XDG_CONFIG_HOME", "GOCOVERDIR"} {
		if v := ts.Getenv(kv); v != "" {
			cmd.Env = append(cmd.Env, kv+"="+v)
		}
	}
	return openTerminal(cmd, cols, rows, cmd.Start)
}

// openTerminal starts a command, in its own way, on a terminal of its own.
func openTerminal(cmd *exec.Cmd, cols, rows int, start func() error) (*terminal, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}); err != nil {
		return nil, err
	}
	before, err := unix.IoctlGetTermios(int(slave.Fd()), termiosGet)
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := start(); err != nil {
		master.Close()
		return nil, err
	}
	t := &terminal{master: master, cmd: cmd, before: before}
	t.change.L = &t.mu
	t.screen = screen.New(cols, rows, screen.Options{Reply: func(p []byte) {
		// The program may be gone, or stopped with a full input queue.
		p = append([]byte(nil), p...)
		go master.Write(p)
	}})
	go t.read()
	go t.wait()
	return t, nil
}

func findIn(path, name string) (string, error) {
	for _, dir := range strings.Split(path, string(os.PathListSeparator)) {
		if p, err := exec.LookPath(dir + "/" + name); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("no %s in %s", name, path)
}

// read feeds the model until the terminal is closed.
func (t *terminal) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		t.screen.Write(buf[:n])
		t.raw = append(t.raw, buf[:n]...)
		t.closed = err != nil
		t.change.Broadcast()
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *terminal) wait() {
	err := t.cmd.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waited {
		return
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.status = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			t.status = 128 + int(ws.Signal())
		}
	}
	t.waited = true
	t.change.Broadcast()
}

// until waits for cond, which is called with mu held.
func (t *terminal) until(cond func() bool) bool {
	deadline := time.Now().Add(patience)
	timer := time.AfterFunc(patience, t.change.Broadcast)
	defer timer.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for !cond() {
		if time.Now().After(deadline) {
			return false
		}
		t.change.Wait()
	}
	return true
}

func (t *terminal) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.textLocked()
}

func (t *terminal) textLocked() string {
	s := t.screen.Snapshot()
	_, rows := s.Size()
	var b []byte
	for y := range rows {
		b = append(s.AppendRow(b, y), '\n')
	}
	return strings.TrimRight(string(b), "\n")
}

func (t *terminal) output() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.raw)
}

// restored waits until the program's traces are gone: a killed one has a
// keeper, which takes its moment and makes no sound.
func (t *terminal) restored() error {
	deadline := time.Now().Add(patience)
	for {
		err := t.restoredNow()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (t *terminal) restoredNow() error {
	after, err := unix.IoctlGetTermios(int(t.master.Fd()), termiosGet)
	if err != nil {
		return err
	}
	if *after != *t.before {
		return fmt.Errorf("the terminal's settings are %+v, were %+v", *after, *t.before)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return modesRestored(t.screen.Snapshot())
}

func modesRestored(s *screen.Snapshot) error {
	if s.Alternate() {
		return errors.New("still on the alternate screen")
	}
	fresh := screen.New(80, 24, screen.Options{}).Snapshot()
	for m := screen.ModeInsert; m < screen.ModeCount; m++ {
		if s.Mode(m) != fresh.Mode(m) {
			return fmt.Errorf("mode %v is %v", m, s.Mode(m))
		}
	}
	return nil
}
