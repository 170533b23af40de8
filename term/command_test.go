package term

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestResolveCommand(t *testing.T) {
	dir := t.TempDir()
	shell := filepath.Join(dir, "mysh")
	if err := os.WriteFile(shell, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SHELL", shell)
	c, err := ResolveCommand(nil)
	if err != nil || c.Path != shell || !slices.Equal(c.Args, []string{"-mysh"}) {
		t.Errorf("shell is %+v, %v", c, err)
	}
	for _, useless := range []string{"", "mysh", filepath.Join(dir, "none"), dir} {
		t.Setenv("SHELL", useless)
		c, err := ResolveCommand(nil)
		if err != nil || !executable(c.Path) || c.Path == useless || c.Args[0][0] != '-' {
			t.Errorf("with SHELL=%q, shell is %+v, %v", useless, c, err)
		}
	}
	c, err = ResolveCommand([]string{"sh", "-c", "exit 1"})
	if err != nil || !filepath.IsAbs(c.Path) || !slices.Equal(c.Args, []string{"sh", "-c", "exit 1"}) {
		t.Errorf("command is %+v, %v", c, err)
	}
	if _, err := ResolveCommand([]string{"no-such-program-here"}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error is %v, want exec.ErrNotFound", err)
	}
	if _, err := ResolveCommand([]string{filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want fs.ErrNotExist", err)
	}
}

func TestPasswdShell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	text := "root:x:0:0:root:/root:/bin/bash\n# comment\nbroken:1\nann:x:1000:1000::/home/ann:/bin/zsh\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]string{0: "/bin/bash", 1000: "/bin/zsh", 1: ""} {
		if got := passwdShell(file, uid); got != want {
			t.Errorf("shell of %d is %q, want %q", uid, got, want)
		}
	}
	if got := passwdShell(file+".none", 0); got != "" {
		t.Errorf("shell is %q without a file", got)
	}
}

func TestEnviron(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		base, set, unset, want []string
	}{
		{"kept", []string{"TERM=tmux-256color", "A=1"}, nil, nil, []string{"TERM=tmux-256color", "A=1"}},
		{"no TERM", []string{"A=1"}, nil, nil, []string{"A=1", "TERM=xterm-256color"}},
		{"dumb TERM", []string{"TERM=dumb", "A=1"}, nil, nil, []string{"A=1", "TERM=xterm-256color"}},
		{"set", []string{"TERM=x", "A=1", "B=2"}, []string{"A=3", "C=4"}, nil, []string{"TERM=x", "B=2", "A=3", "C=4"}},
		{"unset", []string{"TERM=x", "SECRET=s", "SECRETS=t"}, nil, []string{"SECRET"}, []string{"TERM=x", "SECRETS=t"}},
		{"size", []string{"TERM=x", "LINES=10", "COLUMNS=20", keeperEnv + "=1"}, nil, nil, []string{"TERM=x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Environ(tt.base, tt.set, tt.unset); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
