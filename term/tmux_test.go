//go:build unix

package term

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tmuxPane is a shell in a real terminal emulator.
type tmuxPane struct {
	t      *testing.T
	socket string
}

func startTmux(t *testing.T) *tmuxPane {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not installed")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	p := &tmuxPane{t, filepath.Join(t.TempDir(), "tmux")}
	p.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", bash, "--norc", "--noprofile")
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", p.socket, "kill-server").Run() })
	return p
}

func (p *tmuxPane) tmux(args ...string) string {
	p.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color", "TMUX=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// typed types a line.
func (p *tmuxPane) typed(line string) {
	p.t.Helper()
	p.tmux("send-keys", "-l", line)
	p.tmux("send-keys", "Enter")
}

// await waits until ok. It looks again and again, since nothing tells.
func (p *tmuxPane) await(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited for %s in vain; the pane shows\n%s", what, p.tmux("capture-pane", "-p"))
		}
	}
}

// expect waits until the pane has a line that is want.
func (p *tmuxPane) expect(want string) {
	p.t.Helper()
	p.await(want, func() bool {
		return slices.Contains(strings.Split(p.tmux("capture-pane", "-p"), "\n"), want)
	})
}

// settings returns what stty says of the pane, where the shell has to be.
func (p *tmuxPane) settings() (settings string) {
	p.t.Helper()
	file := filepath.Join(filepath.Dir(p.socket), "stty")
	p.typed("stty -a >" + file + ".new; mv " + file + ".new " + file)
	p.await("the settings", func() bool {
		out, err := os.ReadFile(file)
		settings = string(out)
		return err == nil
	})
	if err := os.Remove(file); err != nil {
		p.t.Fatal(err)
	}
	return settings
}

// modes says whether programs use the alternate screen and the mouse.
func (p *tmuxPane) modes() string {
	p.t.Helper()
	return strings.TrimSpace(p.tmux("display-message", "-p", "#{alternate_on}#{mouse_all_flag}"))
}

// TestKeeperInShell kills a program under a real shell, in a real terminal
// emulator: both must be as before.
func TestKeeperInShell(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range []string{"KILL", "SEGV", "TERM", "HUP"} {
		t.Run(signal, func(t *testing.T) {
			p := startTmux(t)
			before := p.settings()
			p.typed(helperEnv + "=raw KEEPER=1 " + exe + " 2>/dev/null")
			p.await("the program", func() bool { return p.modes() == "11" })
			p.expect("ready")
			p.tmux("run-shell", "kill -"+signal+" $(ps -o pid= --ppid #{pane_pid} | head -n 1)")
			p.await("the modes to come back", func() bool { return p.modes() == "00" })
			if after := p.settings(); after != before {
				t.Errorf("settings are\n%s\nwere\n%s", after, before)
			}
			p.typed("clear; echo type''d")
			p.expect("typed")
		})
	}
}
