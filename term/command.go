package term

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrHosting means that this system cannot host a shell.
var ErrHosting = errors.New("hosting is not supported on Windows yet")

// DefaultTerm is the kind of terminal that a program behind a PTY is told it
// has, when nobody said otherwise.
const DefaultTerm = "xterm-256color"

// A Command is a program to run behind a PTY.
type Command struct {
	Path string   // the executable
	Args []string // with its own name first
	Dir  string   // where it starts; empty: here
	Env  []string // as of os.Environ; nil: the environment of this process
}

// ResolveCommand returns the command that argv asks for, or the user's shell
// when argv is empty. The shell is $SHELL, else the one in the user's passwd
// entry, else /bin/sh, and it is started as tmux, sshd and login do: with a
// name that begins with "-", which makes it a login shell, interactive because
// it has a terminal. So a session has the same set-up whether the host is
// started from a desktop, over ssh or as a service.
func ResolveCommand(argv []string) (Command, error) {
	if len(argv) > 0 {
		path, err := exec.LookPath(argv[0])
		if err != nil {
			return Command{}, fmt.Errorf("cannot run %q: %w", argv[0], errors.Unwrap(err))
		}
		return Command{Path: path, Args: argv}, nil
	}
	if runtime.GOOS == "windows" {
		return Command{}, ErrHosting
	}
	for _, path := range []string{os.Getenv("SHELL"), passwdShell("/etc/passwd", os.Getuid()), "/bin/sh"} {
		if filepath.IsAbs(path) && executable(path) {
			return Command{Path: path, Args: []string{"-" + filepath.Base(path)}}, nil
		}
	}
	return Command{}, errors.New("no shell found: SHELL is not set and there is no /bin/sh")
}

// executable reports whether path is a program.
func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// passwdShell returns the shell of the user in a file in the form of passwd(5),
// or nothing.
func passwdShell(file string, uid int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) == 7 && fields[2] == strconv.Itoa(uid) {
			return fields[6]
		}
	}
	return ""
}

// Environ returns base as the environment of a shared shell: without the
// variables named in unset, and with those in set, each of the form
// "NAME=value". TERM is kept when it says something, and is DefaultTerm
// otherwise. LINES and COLUMNS, which a change of size would make wrong, are
// taken out.
func Environ(base, set, unset []string) []string {
	name := func(entry string) string {
		n, _, _ := strings.Cut(entry, "=")
		return n
	}
	term := ""
	env := make([]string, 0, len(base)+len(set)+1)
	for _, entry := range base {
		n := name(entry)
		switch {
		case n == "LINES" || n == "COLUMNS" || n == keeperEnv || slices.Contains(unset, n):
			continue
		case slices.ContainsFunc(set, func(s string) bool { return name(s) == n }):
			continue
		case n == "TERM":
			term = entry[len("TERM="):]
		}
		env = append(env, entry)
	}
	env = append(env, set...)
	if term == "" || term == "dumb" || term == "unknown" {
		env = slices.DeleteFunc(env, func(s string) bool { return name(s) == "TERM" })
		env = append(env, "TERM="+DefaultTerm)
	}
	return env
}

// ExitStatus is how a program ended.
type ExitStatus struct {
	status int       // when it ended by itself
	signal os.Signal // when a signal ended it
}

// Code returns what a shell would have in $?: the status, or 128 plus the
// number of the signal.
func (s ExitStatus) Code() int {
	if s.signal != nil {
		return 128 + signalNumber(s.signal)
	}
	return s.status
}

// Signal returns the signal that ended the program, or nil.
func (s ExitStatus) Signal() os.Signal { return s.signal }

// String says how the program ended, as in "exit status 1" or "ended by
// SIGHUP".
func (s ExitStatus) String() string {
	if s.signal != nil {
		return "ended by " + signalName(s.signal)
	}
	return "exit status " + strconv.Itoa(s.status)
}
