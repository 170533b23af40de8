//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// signalProcess is a `pairterm signal` in a process of its own.
type signalProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string
	passed []string // what says has passed over
}

// startSignal starts one, with the files passed as by systemd. NOFILE in its
// environment is how many files it may have open.
func startSignal(t *testing.T, env []string, files []*os.File, args ...string) *signalProcess {
	t.Helper()
	script := `[ -z "$NOFILE" ] || ulimit -n "$NOFILE"; LISTEN_PID=$$ exec pairterm signal "$@"`
	p := &signalProcess{t: t, cmd: exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...), lines: make(chan string, 1000)}
	p.cmd.Env = append(append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "XDG_STATE_HOME=", "XDG_CACHE_HOME="), env...)
	if len(files) > 0 {
		p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(files)))
		p.cmd.ExtraFiles = files
	}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// says waits for a line that was not asked for before, and returns its groups. Lines may
// be asked for in any order.
func (p *signalProcess) says(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for i, line := range p.passed {
		if m := re.FindStringSubmatch(line); m != nil {
			p.passed = slices.Delete(p.passed, i, i+1)
			return m
		}
	}
	late := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
			if p.passed = append(p.passed, line); ok {
				continue
			}
		case <-late:
		}
		p.t.Fatalf("the server has not said %q but:\n%s", pattern, strings.Join(p.passed, "\n"))
	}
}

// end sends a signal and returns the exit status.
func (p *signalProcess) end(sig syscall.Signal) int {
	_ = p.cmd.Process.Signal(sig)
	for range p.lines {
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func serverIdentity(t *testing.T, comment string) keys.Identity {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.NewIdentity(signer, comment, "memory")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func replaceFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func registerAs(t *testing.T, url string, ids ...keys.Identity) (*signal.Registration, error) {
	t.Helper()
	reg, err := signal.Register(t.Context(), url, signaltest.NewKey(t), &signal.Options{Identities: ids})
	if err == nil {
		t.Cleanup(func() { _ = reg.Close() })
	}
	return reg, err
}

// Keys come and go while the server runs; what it says of them is in the log.
func TestSignalAuthorizedKeys(t *testing.T) {
	alice, bob := serverIdentity(t, "alice"), serverIdentity(t, "bob")
	line := func(id keys.Identity) string { return keys.AuthorizedLine(id.Public(), id.Comment()) + "\n" }
	list := filepath.Join(t.TempDir(), "authorized_keys")
	replaceFile(t, list, line(alice))
	p := startSignal(t, nil, nil, "--listen", "127.0.0.1:0", "--stun", "none", "--log-format", "json",
		"--metrics", "127.0.0.1:0", "--authorized-keys", list)
	url := "ws://" + p.says(`signaling on (127[0-9.:]+)`)[1]
	metricsURL := p.says(`metrics on (http://[^"]+)`)[1]
	p.says(`who hosts needs one of 1 keys`)

	reg, err := registerAs(t, url, bob, alice)
	if err != nil {
		t.Fatal(err)
	}
	p.says(`"msg":"allowed".*"key":"` + regexp.QuoteMeta(keys.Fingerprint(alice.Public())) + `","comment":"alice"`)
	if _, err := registerAs(t, url, bob); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("bob: %v", err)
	}
	p.says(`"msg":"denied".*` + regexp.QuoteMeta(keys.Fingerprint(bob.Public())))

	const changed = `"msg":"the list of keys has changed"`
	if slices.ContainsFunc(p.passed, func(line string) bool { return strings.Contains(line, changed) }) {
		t.Error("the list that it began with counts as changed")
	}
	replaceFile(t, list, line(bob))
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := reg.Accept(ctx); !errors.Is(err, signal.ErrNotAllowed) {
		t.Errorf("alice, whose key was removed, was told %v", err)
	}
	p.says(changed + `,"keys":1`)
	p.says(`"msg":"revoked".*"comment":"alice"`)
	if _, err := registerAs(t, url, bob); err != nil {
		t.Errorf("bob, whose key was added: %v", err)
	}
	for u, want := range map[string]string{
		strings.Replace(url, "ws", "http", 1) + "/readyz": "ok",
		strings.Replace(url, "ws", "http", 1) + "/":       "an SSH key that this server's operator has",
		metricsURL: "pairterm_signal_allowed_total 2",
	} {
		if got := get(t, u); !strings.Contains(got, want) {
			t.Errorf("%s says %q, want %q", u, got, want)
		}
	}
	if code := p.end(syscall.SIGTERM); code != 143 {
		t.Errorf("exit status %d", code)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A restart of a socket activated server refuses nobody: whoever connects
// meanwhile waits. systemd hears how it goes.
func TestSignalSocketActivation(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	lf, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	uf, err := u.File()
	if err != nil {
		t.Fatal(err)
	}
	url := "ws://" + l.Addr().String()
	stunAddr := u.LocalAddr().String()
	_, _ = l.Close(), u.Close()
	defer func() { _, _ = lf.Close(), uf.Close() }()

	path := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = notify.Close() }()
	hears := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		_ = notify.SetReadDeadline(time.Now().Add(30 * time.Second))
		for {
			n, err := notify.Read(b)
			if err != nil {
				t.Fatalf("systemd has not heard %s: %v", want, err)
			}
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}

	files := []*os.File{lf, uf}
	env := []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=1000000"}
	first := startSignal(t, env, files, "--open")
	hears("READY=1")
	hears("WATCHDOG=1")
	if err := first.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hears("RELOADING=1\nMONOTONIC_USEC=")
	hears("READY=1")

	registered := make(chan signal.Info, 10)
	host, err := signal.NewListener(signaltest.NewKey(t), []string{url}, nil, func(s signal.State) {
		if s.Phase == signal.PhaseRegistered {
			registered <- s.Info
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	if info := <-registered; len(info.STUN) != 1 || info.STUN[0] != stunAddr {
		t.Errorf("STUN is at %v, want %s", info.STUN, stunAddr)
	}

	if code := first.end(syscall.SIGTERM); code != 143 {
		t.Errorf("exit status %d", code)
	}
	hears("STOPPING=1")
	// Nobody serves now. A host that comes is not refused.
	waits := make(chan error, 1)
	go func() {
		_, err := registerAs(t, url)
		waits <- err
	}()
	startSignal(t, env, files, "--open")
	hears("READY=1")
	if err := <-waits; err != nil {
		t.Errorf("a host that came during the restart: %v", err)
	}
	<-registered // the first one comes back by itself
}
