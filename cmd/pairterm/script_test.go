//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pairterm/pairterm/term"
)

func TestMain(m *testing.M) {
	if term.RunKeeper() {
		os.Exit(0)
	}
	testscript.Main(tidying{m}, map[string]func(){
		"pairterm": func() {
			os.Exit(run(context.Background(), os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
		},
	})
}

// tidying removes what build has made when all tests are through.
type tidying struct{ *testing.M }

func (m tidying) Run() int {
	defer func() { os.RemoveAll(builtIn) }()
	return m.M.Run()
}

// builtIn is the directory of the program, once build has been called.
var builtIn string

// build makes the program as people have it, without what the test's own binary may have
// of coverage and race detection: for tests that run dozens of processes at a time.
var build = sync.OnceValues(func() (path string, err error) {
	if builtIn, err = os.MkdirTemp("", "pairterm-test"); err != nil {
		return "", err
	}
	path = filepath.Join(builtIn, "pairterm")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// TestScript runs the scripts in testdata/script: the real program in real
// processes on real terminals. See pty_test.go for the commands about those.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
				return err
			}
			e.Setenv("HOME", home)
			e.Setenv("USER", "tester")
			e.Setenv("SHELL", "/bin/sh")
			e.Setenv("PS1", "$ ")
			e.Setenv("TERM", "xterm-256color")
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("LC_ALL", "C.UTF-8")
			for _, name := range []string{"SSH_AUTH_SOCK", "PAIRTERM_SESSION", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"} {
				e.Setenv(name, "")
			}
			terminals := newTerminals()
			e.Values[terminalsKey{}] = terminals
			e.Values[natsKey{}] = new(atomic.Pointer[natsserver.Server])
			e.Defer(terminals.close)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"pty":     ptyCommand,
			"https":   httpsCommand,
			"nats":    natsCommand,
			"balance": balanceCommand,
			"replace": replaceCommand,
			"exits":   exitsCommand,
		},
		Condition: func(cond string) (bool, error) {
			name, _, _ := cutPrefix(cond, "has:")
			_, err := exec.LookPath(name)
			return err == nil, nil
		},
	})
}

// exitsCommand: exits STATUS PROGRAM ARG…, where exec knows only of success and failure.
func exitsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("%v: exit status %d, want %d", args[1:], code, want)
	}
}

func cutPrefix(s, prefix string) (string, bool, error) {
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true, nil
	}
	return s, false, nil
}

// replaceCommand: replace FILE OLD NEW, in place and atomically, as editors do.
func replaceCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: replace FILE CONTENT-FILE")
	}
	data := ts.ReadFile(args[1])
	path := ts.MkAbs(args[0])
	tmp := path + ".new"
	ts.Check(os.WriteFile(tmp, []byte(data), 0o644))
	ts.Check(os.Rename(tmp, path))
}
