//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"

	"github.com/pairterm/pairterm/term/screen"
)

const (
	cols, lines = 80, 24
	ready       = "on-the-screen"
	prompt      = "PROMPT>"
	theEnd      = "the-end"
	bulkSize    = 50 << 20
)

// scripts are what is shared.
var scripts = map[string]string{
	// The echo is the terminal driver's, on the line after the first one.
	"echo.sh":  "stty -icanon\nclear\necho " + ready + "\nexec cat >/dev/null\n",
	"shell.sh": "clear\necho " + ready + "\nPS1='" + prompt + " ' exec sh -i\n",
	// Only capitals are echoed, whatever else is typed.
	"keys.sh": "stty raw -echo\nclear\necho " + ready + "\nexec stdbuf -o0 tr -dc A-Z\n",
	"bulk.sh": "stty -echo\nclear\necho " + ready + "\nwhile read x; do cat \"${0%/*}/big\"; echo " + theEnd + "; done\n",
}

// terminal is a program on a PTY, with a model of its screen.
type terminal struct {
	f   *os.File
	cmd *exec.Cmd

	mu     sync.Mutex
	change sync.Cond
	screen *screen.Screen // nil: only tail is kept
	tail   []byte         // the end of the output
	at     time.Time      // of the latest output
	closed bool
	bytes  int

	onOutput func(at time.Time) // called with mu held
}

// start runs a program in a namespace.
func (l *lab) start(ns string, model bool, args ...string) (*terminal, error) {
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	cmd.Env, cmd.Dir = l.env(), l.dir
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: cols, Rows: lines})
	if err != nil {
		return nil, err
	}
	t := &terminal{f: f, cmd: cmd}
	t.change.L = &t.mu
	if model {
		t.screen = screen.New(cols, lines, screen.Options{Reply: func(p []byte) {
			p = bytes.Clone(p)
			go f.Write(p)
		}})
	}
	go t.read()
	return t, nil
}

func (t *terminal) read() {
	buf := make([]byte, 256<<10)
	for {
		n, err := t.f.Read(buf)
		at := time.Now()
		t.mu.Lock()
		t.at = at
		t.bytes += n
		if t.tail = append(t.tail, buf[:n]...); len(t.tail) > 8<<10 {
			t.tail = append(t.tail[:0], t.tail[len(t.tail)-4<<10:]...)
		}
		if t.screen != nil {
			t.screen.Write(buf[:n])
		}
		if t.onOutput != nil {
			t.onOutput(at)
		}
		t.closed = err != nil
		t.change.Broadcast()
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for cond, which is called with mu held, and returns when the
// output came that made it true.
func (t *terminal) until(patience time.Duration, cond func() bool) (time.Time, error) {
	deadline := time.Now().Add(patience)
	timer := time.AfterFunc(patience, t.change.Broadcast)
	defer timer.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for !cond() {
		switch {
		case t.closed:
			return time.Time{}, fmt.Errorf("%s ended: %q", t.cmd.Args[4], t.tail)
		case !time.Now().Before(deadline):
			return time.Time{}, fmt.Errorf("waited for %v: %w", patience, errLate)
		}
		t.change.Wait()
	}
	return t.at, nil
}

var errLate = errors.New("too late")

// row returns the text of a line of the screen. Call it with mu held.
func rowText(s *screen.Snapshot, y int) string {
	return strings.TrimRight(string(s.AppendRow(nil, y)), " ")
}

// shows reports whether a line of the screen begins with text.
func (t *terminal) shows(text string) bool {
	s := t.screen.Snapshot()
	for y := range lines {
		if strings.HasPrefix(rowText(s, y), text) {
			return true
		}
	}
	return false
}

// atPrompt reports whether the cursor is at an empty prompt.
func (t *terminal) atPrompt() bool {
	s := t.screen.Snapshot()
	c := s.Cursor()
	return c.X == len(prompt)+1 && rowText(s, c.Y) == prompt
}

func (t *terminal) pid() int { return t.cmd.Process.Pid }

func (t *terminal) end() {
	if t == nil {
		return
	}
	t.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(3*time.Second, func() { t.cmd.Process.Kill() })
	t.cmd.Wait()
	kill.Stop()
	t.f.Close()
}

// share is something shared, to which guests can go.
type share struct {
	l      *lab
	system string
	script string
	addr   string // of the host
	from   string // the namespace of further guests, where it is not the one that goes with addr
	host   *terminal
	ticket string
	socket string
}

var ticketLine = regexp.MustCompile(`pairterm join (pt1[a-z0-9]+)\r`)

// share starts a host.
func (l *lab) share(system, script, addr string) (*share, error) {
	l.count++
	s := &share{l: l, system: system, script: l.dir + "/" + script, addr: addr}
	var err error
	switch system {
	case "pairterm":
		args := append([]string{*binary, "host", "--signal-listen", addr + ":0"}, l.logFlags("host")...)
		if s.host, err = l.start(netnsB, false, append(args, "--", s.script)...); err != nil {
			return nil, err
		}
		if _, err := s.host.until(10*time.Second, func() bool {
			if m := ticketLine.FindSubmatch(s.host.tail); m != nil {
				s.ticket = string(m[1])
			}
			return s.ticket != ""
		}); err != nil {
			return nil, err
		}
	case "ssh+tmux", "mosh+tmux":
		s.socket = fmt.Sprintf("%s/tmux%d", l.dir, l.count)
		s.host, err = l.start(netnsB, false, "tmux", "-S", s.socket, "-f", l.dir+"/tmux.conf", "new-session", s.script)
		if err != nil {
			return nil, err
		}
		if _, err := s.host.until(10*time.Second, func() bool { return bytes.Contains(s.host.tail, []byte(ready)) }); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// logFlags keeps the logs where they are wanted.
func (l *lab) logFlags(who string) []string {
	if *logDir == "" {
		return nil
	}
	l.count++
	return []string{"-v", "--log", fmt.Sprintf("%s/%s-%s-%d.log", *logDir, l.row, who, l.count)}
}

// guest starts a guest.
func (s *share) guest() (*terminal, error) {
	ns := netnsA
	switch {
	case s.from != "":
		ns = s.from
	case s.addr == "127.0.0.1":
		ns = netnsB
	}
	remote := []string{s.script}
	if s.socket != "" {
		remote = []string{"tmux", "-S", s.socket, "attach"}
	}
	var args []string
	switch s.system {
	case "pairterm":
		args = append(append([]string{*binary, "join"}, s.l.logFlags("join")...), s.ticket)
	case "ssh", "ssh+tmux":
		args = append(append(append(args, s.l.ssh...), "-t", "root@"+s.addr), remote...)
	default:
		args = append([]string{"mosh", "--ssh=" + strings.Join(s.l.ssh, " "), "root@" + s.addr, "--"}, remote...)
	}
	return s.l.start(ns, true, args...)
}

// meet starts a guest, and waits for its first screen.
func (s *share) meet(patience time.Duration) (*terminal, error) {
	g, err := s.guest()
	if err != nil {
		return nil, err
	}
	if _, err := g.until(patience, func() bool { return g.shows(ready) }); err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

func (s *share) end() {
	if s.socket != "" {
		_ = sh("tmux", "-S", s.socket, "kill-server")
	}
	s.host.end()
}

// pair is a host and a guest who have met on a good link.
func (l *lab) pair(system, script, addr string) (*share, *terminal, error) {
	s, err := l.share(system, script, addr)
	if err != nil {
		return nil, nil, err
	}
	g, err := s.meet(20 * time.Second)
	if err != nil {
		s.end()
		return nil, nil, err
	}
	return s, g, nil
}
