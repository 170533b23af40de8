//go:build unix

package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestScrollback looks at the scrollback of a guest's terminal, a tmux: it has the lines
// that had left the host's screen when the guest came, and those of a flood that it was
// spared, in their order, without gaps but for one that says so.
func TestScrollback(t *testing.T) {
	s := newTmux(t)
	binary := filepath.Join(s.dir, "pairterm")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.tmux("set-option", "-g", "history-limit", "50000")
	script := `n=1; while read k; do seq -f 'line %.0f' $n $((n+k-1)); n=$((n+k)); done`
	host := s.pane("host", 80, 24, binary, "host", "--quiet", "--signal-listen", "127.0.0.1:0", "--", "sh", "-c", script)
	host.expect(`pairterm join`)
	ticket := regexp.MustCompile(`pt1[a-z0-9]+`).FindString(s.tmux("capture-pane", "-p", "-J", "-t", host.name))
	host.keys("100", "Enter")
	host.expect(`(?m)^line 100$`)
	guest := s.pane("guest", 80, 24, "sh", "-c", `echo my own; exec "$@"`, "sh", binary, "join", "--quiet", ticket)
	guest.expect(`(?m)^line 100$`)
	// A gap may be where a line says so, and nowhere else.
	said := regexp.MustCompile(`^-- (\d+) lines left out --$`)
	lines := func() (first, last, gaps int, wrong string) {
		for line := range strings.Lines(s.tmux("capture-pane", "-p", "-S", "-", "-t", guest.name)) {
			line = strings.TrimSpace(line)
			if m := said.FindStringSubmatch(line); m != nil {
				left, _ := strconv.Atoi(m[1])
				last += left
				gaps++
			}
			number, ok := strings.CutPrefix(line, "line ")
			if !ok {
				continue
			}
			n, _ := strconv.Atoi(number)
			switch {
			case first == 0:
				first = n
			case n > last+1 || n <= last && gaps == 0:
				return first, last, gaps, line
			}
			last = n // what was typed is a line, too, and counts as left out
		}
		return first, last, gaps, ""
	}
	defer func() {
		if t.Failed() {
			first, last, gaps, wrong := lines()
			t.Logf("the scrollback has lines %d to %d with %d gaps, up to %q", first, last, gaps, wrong)
		}
	}()
	guest.await("the lines from before it came", func() bool {
		first, last, gaps, wrong := lines()
		return first == 1 && last == 100 && gaps == 0 && wrong == ""
	})
	guest.keys("500", "Enter")
	guest.await("all of 500 lines", func() bool {
		first, last, gaps, wrong := lines()
		return first == 1 && last == 600 && gaps == 0 && wrong == ""
	})
	guest.keys("400000", "Enter")
	guest.await("400,000 lines, or the last ones", func() bool {
		_, last, _, wrong := lines()
		return last == 400600 && wrong == ""
	})
	first, _, _, _ := lines() // where the guest could follow, tmux may have dropped the first ones
	if all := s.tmux("capture-pane", "-p", "-S", "-", "-t", guest.name); first == 1 && !strings.HasPrefix(all, "my own\n") {
		t.Errorf("what was before is gone: it begins with %.100q", all)
	}
}
