//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

// tmuxServer is a tmux of the test's own, as a terminal that is not ours.
type tmuxServer struct {
	t      *testing.T
	socket string
	env    []string
	dir    string
}

func newTmux(t *testing.T) *tmuxServer {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not here")
	}
	dir, err := os.MkdirTemp("", "pairterm-programs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(dir) })
	s := &tmuxServer{t: t, dir: dir, socket: filepath.Join(dir, "tmux.sock")}
	conf := filepath.Join(dir, "tmux.conf")
	err = os.WriteFile(conf, []byte("set -g status off\nset -g default-terminal tmux-256color\nset -sg escape-time 0\nset -g remain-on-exit on\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "PAIRTERM_") && !strings.HasPrefix(name, "TMUX") && name != "HOME" && name != "SSH_AUTH_SOCK" {
			s.env = append(s.env, kv)
		}
	}
	s.env = append(s.env, "HOME="+dir, "LC_ALL=C.UTF-8", "SHELL=/bin/sh", "LESS=", "EDITOR=vi")
	s.tmux("-f", conf, "new-session", "-d", "-s", "idle", "-x", "80", "-y", "24", "cat")
	t.Cleanup(func() {
		s.tmux("kill-server")
		// The tmux among the programs is detached, not ended, when its terminal goes.
		_ = exec.Command("tmux", "-S", filepath.Join(dir, innerSocket), "kill-server").Run()
	})
	return s
}

// innerSocket is of the tmux that is one of the programs.
const innerSocket = "inner.sock"

// removeAll removes a directory in which programs that were hung up may still
// be writing their last.
func removeAll(dir string) {
	deadline := time.Now().Add(patience)
	for os.RemoveAll(dir) != nil && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
}

// tmux runs a tmux command and returns what it prints.
func (s *tmuxServer) tmux(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", s.socket}, args...)...)
	cmd.Env, cmd.Dir = s.env, s.dir
	out, err := cmd.CombinedOutput()
	if err != nil && args[0] != "kill-server" {
		s.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// pane starts a program in a pane of its own.
func (s *tmuxServer) pane(name string, cols, rows int, argv ...string) *pane {
	s.t.Helper()
	args := []string{"new-session", "-d", "-s", name, "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows), "-c", s.dir}
	s.tmux(append(args, argv...)...)
	return &pane{s, name}
}

// leaving is pane for a program that is to end. It is not what leads the terminal's session:
// with that, the kernel throws away what the terminal has not read yet.
func (s *tmuxServer) leaving(name string, cols, rows int, argv ...string) *pane {
	s.t.Helper()
	return s.pane(name, cols, rows, append([]string{"sh", "-c", `"$@"; exec cat`, "sh"}, argv...)...)
}

type pane struct {
	*tmuxServer
	name string
}

func (p *pane) keys(keys ...string) {
	p.t.Helper()
	p.tmux(append([]string{"send-keys", "-t", p.name}, keys...)...)
}

// screen is what the pane shows: text with attributes, cursor and modes.
func (p *pane) screen() string {
	p.t.Helper()
	// tmux keeps a wrap pending over an EL, which xterm, and our model with it,
	// does not: to it column 80 of 80 is the last column.
	last := func(state string) string {
		if rest, ok := strings.CutPrefix(state, "80,"); ok {
			return "79," + rest
		}
		return state
	}
	state := "#{cursor_x},#{cursor_y} alt=#{alternate_on} insert=#{insert_flag} keypad=#{keypad_flag} cursorkeys=#{keypad_cursor_flag} wrap=#{wrap_flag} mouse=#{mouse_any_flag} visible=#{cursor_flag}"
	return canonical(p.tmux("capture-pane", "-p", "-e", "-N", "-t", p.name)) +
		last(p.tmux("display-message", "-p", "-t", p.name, state))
}

// canonical returns what tmux captured in one form: the same cells can be
// captured with different sequences.
func canonical(captured string) string {
	lines := strings.Split(strings.TrimSuffix(captured, "\n"), "\n")
	s := screen.New(200, len(lines), screen.Options{})
	s.Write([]byte(strings.Join(lines, "\r\n")))
	var b strings.Builder
	snap := s.Snapshot()
	var last screen.Cell
	for y := range lines {
		cells := snap.Row(y)
		for len(cells) > 0 && cells[len(cells)-1].Bg == 0 && string(snap.AppendText(nil, cells[len(cells)-1])) == " " {
			cells = cells[:len(cells)-1]
		}
		for _, c := range cells {
			if c.Fg != last.Fg || c.Bg != last.Bg || c.Attr != last.Attr {
				fmt.Fprintf(&b, "<%v %v %v>", c.Fg, c.Bg, c.Attr)
				last = c
			}
			b.Write(snap.AppendText(nil, c))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (p *pane) text() string {
	p.t.Helper()
	return p.tmux("capture-pane", "-p", "-t", p.name)
}

// await looks at the pane until ok, since tmux has no way to be told.
func (p *pane) await(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: waited in vain for %s; it shows\n%s", p.name, what, p.screen())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *pane) expect(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	p.await(pattern, func() bool { return re.MatchString(p.text()) })
}

// program is one that is run the same way twice: on a bare terminal, and
// shared.
type program struct {
	name string
	argv []string
	keys [][]string // typed one after the other
	want []string   // what the screen must match before each and at the end
	live bool       // it shows the time, so no two runs are the same
}

func programs(dir string) []program {
	file := filepath.Join(dir, "file.txt")
	return []program{
		{"bash", []string{"bash", "--norc", "--noprofile"}, [][]string{{"PS1='> '; clear", "Enter"}, {"seq 40; printf '\\033[1;31mred\\033[0m \\033[4:3mcurly\\033[0m 漢字 é\\n'", "Enter"}, {"echo unfinished"}},
			[]string{`[$#]`, `(?m)^>`, `curly.*\n>`, `(?m)unfinished$`}, false},
		{"vim", []string{"vim", "-n", "-u", "NONE", "-N", file}, [][]string{{":set number hlsearch laststatus=2", "Enter"}, {"/line 1", "Enter"}, {":vsplit", "Enter"}, {"ostill here", "Escape"}, {"V", "3j"}},
			[]string{`line 1`, `  1 `, `line 1`, `│|\|`, `still here`, `VISUAL LINE`}, false},
		{"less", []string{"less", file}, [][]string{{"Space"}, {"/line 99", "Enter"}, {"u"}},
			[]string{`line 1`, `line 30`, `line 99`, `line 9`}, false},
		{"nano", []string{"nano", "-I", file}, [][]string{{"new text "}, {"C-w", "line 50", "Enter"}},
			[]string{`line 1`, `new text`, `line 50`}, false},
		{"mc", []string{"mc", "-u", "-d", dir, dir}, [][]string{{"Down", "Down"}, {"F9"}},
			[]string{`file\.txt`, `(?m)^│/\.[a-z]+ +││`, `Command`}, false},
		{"git-log", []string{"git", "-C", filepath.Join(dir, "repo"), "log", "--graph", "--color"}, [][]string{{"Space"}},
			[]string{`commit 1[0-9]`, `commit`}, false},
		{"man", []string{"man", "-P", "less", "git"}, [][]string{{"Space"}},
			[]string{`NAME`, `.`}, false},
		{"tmux", []string{"tmux", "-S", filepath.Join(dir, innerSocket), "-f", "/dev/null", "new-session", "cat"}, [][]string{{"typed"}, {"C-b", "%"}},
			[]string{`\[0\]`, `typed`, `│`}, true},
		{"htop", []string{"htop", "-d", "50"}, [][]string{{"F6"}}, []string{`PID`, `PERCENT_CPU`}, true},
		{"top", []string{"top", "-d", "3"}, [][]string{{"1"}}, []string{`PID`, `PID`}, true},
	}
}

// play types a program's keys, each when the screen is ready for it.
func (p *pane) play(pr program) {
	p.t.Helper()
	for i, keys := range pr.keys {
		p.expect(pr.want[i])
		p.keys(keys...)
	}
	p.expect(pr.want[len(pr.want)-1])
}

// TestPrograms runs real programs on a bare terminal and through host and
// guest, with the same keys: all three terminals must show the same, cell for
// cell, a guest that comes late included.
func TestPrograms(t *testing.T) {
	s := newTmux(t)
	binary := filepath.Join(s.dir, "pairterm")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	prepareFiles(t, s.dir)
	for _, pr := range programs(s.dir) {
		t.Run(pr.name, func(t *testing.T) {
			s := *s
			s.t = t
			if _, err := exec.LookPath(pr.argv[0]); err != nil {
				t.Skipf("%s is not here", pr.argv[0])
			}
			host := s.pane(pr.name+"-host", 80, 24, append([]string{binary, "host", "--quiet", "--signal-listen", "127.0.0.1:0", "--"}, prelude(pr.argv)...)...)
			host.expect(`pairterm join`)
			ticket := regexp.MustCompile(`pt1[a-z0-9]+`).FindString(s.tmux("capture-pane", "-p", "-J", "-t", host.name))
			host.keys("Enter")
			host.expect(`^ready`)
			early := s.leaving(pr.name+"-early", 80, 24, binary, "join", "--quiet", ticket)
			early.expect(`^ready`)
			wide := s.leaving(pr.name+"-wide", 100, 32, binary, "join", "--quiet", ticket)
			wide.expect(`^ready`)
			host.keys("Enter")
			early.play(pr) // the guest types
			late := s.leaving(pr.name+"-late", 80, 24, binary, "join", "--quiet", ticket)
			same := func(p *pane) {
				t.Helper()
				defer func() {
					if t.Failed() {
						t.Log(firstDifference(p.screen(), host.screen()))
					}
				}()
				p.await("the host's screen", func() bool { return p.screen() == host.screen() })
			}
			same(early)
			same(late)
			wide.await("the host's screen in a larger window", func() bool { return contains(wide.text(), host.text()) })
			if !pr.live {
				bare := s.pane(pr.name+"-bare", 80, 24, prelude(pr.argv)...)
				bare.keys("Enter")
				bare.expect(`^ready`)
				bare.keys("Enter")
				bare.play(pr)
				defer func() {
					if t.Failed() {
						t.Log(firstDifference(bare.screen(), host.screen()))
					}
				}()
				bare.await("the same as when shared", func() bool { return bare.screen() == host.screen() })
			}
			for _, p := range []*pane{early, late, wide} {
				p.keys("C-]", "d")
				p.expect(`you left`)
			}
			s.tmux("kill-session", "-t", host.name)
		})
	}
}

// firstDifference returns the first lines in which two screens differ.
func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return fmt.Sprintf("line %d is\n%q, at the host\n%q", i, as[i], bs[i])
		}
	}
	return fmt.Sprintf("%d lines, %d at the host", len(as), len(bs))
}

// prelude is a command that waits for Enter twice before it becomes the program.
func prelude(argv []string) []string {
	return append([]string{"sh", "-c", `read x; clear; echo ready; read x; exec "$@"`, "sh"}, argv...)
}

// contains reports whether the upper left part of a window shows text.
func contains(window, text string) bool {
	w, h := strings.Split(window, "\n"), strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(w) < len(h) {
		return false
	}
	for i, row := range h {
		if !strings.HasPrefix(w[i], row) {
			return false
		}
	}
	return true
}

func prepareFiles(t *testing.T, dir string) {
	t.Helper()
	var text strings.Builder
	for i := range 200 {
		fmt.Fprintf(&text, "line %d of a file, with some words in it\n", i+1)
	}
	if err := os.WriteFile(filepath.Join(dir, "file.txt"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(dir, "repo")
	script := `git init -q . && for i in 1 2 3 4 5 6 7 8 9 10 11 12; do git -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m "commit $i"; done`
	if err := os.MkdirAll(repo, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = repo
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("no repository for git log: %v\n%s", err, out)
	}
}
