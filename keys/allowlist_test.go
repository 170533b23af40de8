package keys_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

// grants parses alternating roles and sources.
func grants(t *testing.T, specs ...string) []keys.Grant {
	t.Helper()
	var out []keys.Grant
	for i := 0; i < len(specs); i += 2 {
		role, err := keys.ParseRole(specs[i])
		if err != nil {
			t.Fatal(err)
		}
		source, err := keys.ParseSource(specs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, keys.Grant{Source: source, Role: role})
	}
	return out
}

// watched is a running allowlist in a synctest bubble: time only passes when
// the test sleeps, and passes at once.
type watched struct {
	*keys.Allowlist
	t *testing.T

	mu       sync.Mutex
	warnings []error // guarded by mu
}

// newAllowlist returns an allowlist that is not loaded yet.
func newAllowlist(t *testing.T, specs ...string) *watched {
	t.Helper()
	w := &watched{t: t}
	a, err := keys.NewAllowlist(keys.AllowlistOptions{
		Grants:   grants(t, specs...),
		CacheDir: t.TempDir(),
		Warn: func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.warnings = append(w.warnings, err)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Allowlist = a
	return w
}

// watch loads an allowlist and runs it for as long as the test does.
func watch(t *testing.T, specs ...string) *watched {
	t.Helper()
	w := newAllowlist(t, specs...)
	if err := w.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-w.Changes()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// within sleeps for two seconds, the time in which every change must show, and
// tells whether one did.
func (w *watched) within() bool {
	time.Sleep(2 * time.Second)
	synctest.Wait()
	select {
	case <-w.Changes():
		return true
	default:
		return false
	}
}

// admits tells what the key may do now.
func (w *watched) admits(s ssh.Signer) keys.Role {
	m, err := w.Current().Lookup(s.PublicKey(), time.Now())
	if err != nil {
		return keys.RoleNone
	}
	return m.Role
}

// want checks that changed is what within says and who is admitted then.
func (w *watched) want(what string, changed bool, roles map[ssh.Signer]keys.Role) {
	w.t.Helper()
	if got := w.within(); got != changed {
		w.t.Errorf("%s: change noticed: %v", what, got)
	}
	for s, role := range roles {
		if got := w.admits(s); got != role {
			w.t.Errorf("%s: %s is admitted as %v, want %v", what, keys.Fingerprint(s.PublicKey()), got, role)
		}
	}
}

// warned returns the warnings since the last call, as text.
func (w *watched) warned() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, err := range w.warnings {
		fmt.Fprintln(&b, err)
	}
	w.warnings = nil
	return b.String()
}

type roles = map[ssh.Signer]keys.Role

const (
	none  = keys.RoleNone
	view  = keys.RoleView
	typer = keys.RoleType
)

func TestWatchEdits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob, carol := signerOf(t, "ed25519"), signerOf(t, "ed25519"), signerOf(t, "ed25519")
		a, b, c := line(alice, "alice"), line(bob, "bob"), line(carol, "carol")
		dir := t.TempDir()
		path := write(t, filepath.Join(dir, "list"), a+"\n")
		w := watch(t, "type", path, "view", c)

		w.want("nothing happens", false, roles{alice: typer, bob: none, carol: view})
		write(t, path, a+"\n"+b)
		w.want("added", true, roles{alice: typer, bob: typer, carol: view})
		write(t, path, b)
		w.want("removed", true, roles{alice: none, bob: typer, carol: view})
		write(t, path, `role="view" `+b)
		w.want("narrowed", true, roles{bob: view})
		write(t, path, "# "+b+"\n"+a)
		w.want("commented out", true, roles{alice: typer, bob: none})
		next := write(t, filepath.Join(dir, "next"), b)
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
		w.want("renamed over", true, roles{alice: none, bob: typer})
		write(t, path, "")
		w.want("emptied", true, roles{alice: none, bob: none, carol: view})
		if s := w.warned(); s != "" {
			t.Errorf("warnings: %s", s)
		}
	})
}

// TestWatchSameTimeAndSize replaces a file by one that stat cannot tell apart.
func TestWatchSameTimeAndSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := signerOf(t, "ed25519"), signerOf(t, "ed25519")
		path := write(t, filepath.Join(t.TempDir(), "list"), line(alice, "x"))
		w := watch(t, "type", path)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, line(bob, "x"))
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		w.want("same time and size", true, roles{alice: none, bob: typer})
	})
}

// TestWatchSymlink swaps links the way a mounted secret is updated: list is a
// link to ..data/list, and ..data one to a directory.
func TestWatchSymlink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege on Windows")
	}
	synctest.Test(t, func(t *testing.T) {
		alice, bob := signerOf(t, "ed25519"), signerOf(t, "ed25519")
		dir := t.TempDir()
		write(t, filepath.Join(dir, "v1", "list"), line(alice, "alice"))
		write(t, filepath.Join(dir, "v2", "list"), line(bob, "bob"))
		link := func(to, name string) {
			t.Helper()
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		link("v1", "..data")
		link(filepath.Join("..data", "list"), "list")
		w := watch(t, "type", filepath.Join(dir, "list"))
		link("v2", "..tmp")
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "v1")); err != nil {
			t.Fatal(err)
		}
		w.want("swapped", true, roles{alice: none, bob: typer})
	})
}

// TestWatchHalfWritten catches a file in the middle of being written: nobody
// may lose a session over it.
func TestWatchHalfWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := signerOf(t, "ed25519"), signerOf(t, "ed25519")
		whole := line(alice, "alice") + "\n" + line(bob, "bob") + "\n"
		path := write(t, filepath.Join(t.TempDir(), "list"), whole)
		w := watch(t, "type", path)

		// Gone for a tenth of a second, at all moments between two polls.
		for i := range 30 {
			if i < 15 {
				write(t, path, "")
			} else if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			write(t, path, whole)
			time.Sleep(time.Second)
		}
		w.want("gone for moments", false, roles{alice: typer, bob: typer})

		// A file that never rests counts in the end, and in time.
		deadline := time.Now().Add(2 * time.Second)
		for i := 0; time.Now().Before(deadline); i++ {
			next := write(t, path+".next", fmt.Sprintf("# %d\n%s", i, line(alice, "alice")))
			if err := os.Rename(next, path); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if w.admits(alice) != typer || w.admits(bob) != none {
			t.Errorf("never at rest: alice %v, bob %v", w.admits(alice), w.admits(bob))
		}
		if s := w.warned(); s != "" {
			t.Errorf("warnings: %s", s)
		}
	})
}

func TestWatchUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := signerOf(t, "ed25519"), signerOf(t, "ed25519")
		path := write(t, filepath.Join(t.TempDir(), "list"), line(alice, "alice"))
		w := watch(t, "type", path)

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		w.want("deleted", false, roles{alice: typer})
		if s := w.warned(); strings.Count(s, "\n") != 1 || !strings.Contains(s, path+": keeping the last good list: ") {
			t.Errorf("deleted: warnings %q", s)
		}
		w.want("still deleted", false, roles{alice: typer})
		if s := w.warned(); s != "" {
			t.Errorf("still deleted: warned again: %q", s)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		w.want("a directory", false, roles{alice: typer})
		if s := w.warned(); !strings.Contains(s, "is a directory") {
			t.Errorf("directory: warnings %q", s)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		write(t, path, line(alice, "alice"))
		w.want("back", false, roles{alice: typer})
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		w.want("a directory again", false, roles{alice: typer})
		if s := w.warned(); !strings.Contains(s, "is a directory") {
			t.Errorf("a directory again: warnings %q", s)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		write(t, path, line(bob, "bob"))
		w.want("replaced", true, roles{alice: none, bob: typer})
	})
}

func TestWatchBadLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob, carol := signerOf(t, "ed25519"), signerOf(t, "ed25519"), signerOf(t, "ed25519")
		a, b, c := line(alice, "alice"), line(bob, "bob"), line(carol, "carol")
		path := write(t, filepath.Join(t.TempDir(), "list"), a+"\n"+b+"\n")
		w := watch(t, "type", path)

		// A slip in one line must not keep a key alive that was removed.
		write(t, path, `role="veiw" `+a+"\n"+c+"\n")
		w.want("one bad line", true, roles{alice: typer, bob: none, carol: typer})
		if s := w.warned(); strings.Count(s, "\n") != 1 || !strings.Contains(s, path+`:1: option "role": unknown role "veiw"`) {
			t.Errorf("one bad line: warnings %q", s)
		}
		write(t, path, `role="view" `+a+"\n"+c+"\n")
		w.want("put right", true, roles{alice: view, carol: typer})

		write(t, path, "no-pty "+a+"\n")
		w.want("only a bad line, for a known key", true, roles{alice: view, carol: none})
		write(t, path, "<html>\n<body>404</body>\n")
		w.want("something else", false, roles{alice: view})
		write(t, path, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
		w.warned()
		w.want("a private key", false, roles{alice: view})
		if s := w.warned(); !strings.Contains(s, "private key") {
			t.Errorf("a private key: warnings %q", s)
		}
		// A bad line brings nothing that was not there.
		write(t, path, a+"\nno-pty "+b+"\n")
		w.want("bad line for an unknown key", true, roles{alice: typer, bob: none})
	})
}

func TestWatchExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := signerOf(t, "ed25519"), signerOf(t, "ed25519")
		in := func(d time.Duration) string {
			return `expiry-time="` + time.Now().Add(d).UTC().Format("20060102150405Z") + `" `
		}
		path := write(t, filepath.Join(t.TempDir(), "list"), in(10*time.Second)+line(alice, "")+"\n"+in(20*time.Second)+line(bob, ""))
		w := watch(t, "type", path)
		start := time.Now()
		for i, s := range []ssh.Signer{alice, bob} {
			if w.admits(s) != typer {
				t.Errorf("key %d is not admitted", i)
			}
			<-w.Changes()
			if d, want := time.Since(start), time.Duration(i+1)*10*time.Second; d > want || d <= want-time.Second {
				t.Errorf("key %d: told after %v", i, d)
			}
			if _, err := w.Current().Lookup(s.PublicKey(), time.Now()); !errors.Is(err, keys.ErrExpired) {
				t.Errorf("key %d: got %v", i, err)
			}
		}
		w.want("both expired", false, roles{alice: none, bob: none})
		write(t, path, in(time.Hour)+line(alice, ""))
		w.want("prolonged", true, roles{alice: typer, bob: none})
	})
}

func TestLoadStrict(t *testing.T) {
	alice := signerOf(t, "ed25519")
	dir := t.TempDir()
	good := write(t, filepath.Join(dir, "good"), line(alice, "alice"))
	bad := write(t, filepath.Join(dir, "bad"), line(alice, "alice")+"\nno-pty "+line(alice, "alice"))
	private := write(t, filepath.Join(dir, "private"), "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA")
	missing := filepath.Join(dir, "missing")

	w := newAllowlist(t, "type", good, "type", bad, "type", private, "view", missing, "view", dir)
	err := w.Load(t.Context())
	wantError(t, err, bad+`:2: option "no-pty"`, private+": this is a private key", missing+": ", dir+": is a directory")
	if !errors.Is(err, keys.ErrPrivateKey) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error cannot be told: %v", err)
	}
	if w.Current().Len() != 0 {
		t.Error("part of the list is in force")
	}

	write(t, bad, "")
	write(t, private, "")
	write(t, missing, "")
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	w = newAllowlist(t, "type", bad, "type", private, "view", missing)
	if err := w.Load(t.Context()); err != nil || w.Current().Len() != 0 {
		t.Errorf("empty files: got %d entries, %v", w.Current().Len(), err)
	}
}

// TestLoadAgain is what a server does on SIGHUP.
func TestLoadAgain(t *testing.T) {
	alice, bob := signerOf(t, "ed25519"), signerOf(t, "ed25519")
	dir := t.TempDir()
	first := write(t, filepath.Join(dir, "first"), line(alice, "alice"))
	second := write(t, filepath.Join(dir, "second"), line(bob, "bob"))
	w := newAllowlist(t, "type", first, "view", second)
	load := func(want ...string) {
		t.Helper()
		err := w.Load(t.Context())
		if len(want) == 0 && err != nil {
			t.Fatal(err)
		} else if len(want) > 0 {
			wantError(t, err, want...)
		}
	}
	load()
	<-w.Changes()
	load()
	select {
	case <-w.Changes():
		t.Error("a change without one")
	default:
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	write(t, first, line(bob, "bob"))
	load(second + ": ")
	<-w.Changes()
	if w.admits(alice) != none || w.admits(bob) != view {
		t.Errorf("alice %v, bob %v", w.admits(alice), w.admits(bob))
	}
}

// TestRolesOfSources gives one key by several sources.
func TestRolesOfSources(t *testing.T) {
	alice := signerOf(t, "ed25519")
	key := line(alice, "alice")
	dir := t.TempDir()
	plain := write(t, filepath.Join(dir, "plain"), key)
	typing := write(t, filepath.Join(dir, "typing"), `role="type" `+key)
	viewing := write(t, filepath.Join(dir, "viewing"), `role="view" `+key)
	for _, tt := range []struct {
		specs []string
		want  keys.Role
		warn  string
	}{
		{[]string{"type", plain}, typer, ""},
		{[]string{"view", plain}, view, ""},
		{[]string{"type", key}, typer, ""},
		{[]string{"type", viewing}, view, ""},
		{[]string{"view", typing}, view, `typing:1: the line says "type", but the list was given for "view"`},
		{[]string{"type", plain, "view", plain}, view, `"view" holds`},
		{[]string{"view", key, "type", plain}, view, `"view" holds`},
		{[]string{"type", plain, "type", key}, typer, ""},
	} {
		w := newAllowlist(t, tt.specs...)
		if err := w.Load(t.Context()); err != nil {
			t.Errorf("%q: %v", tt.specs, err)
		}
		if got := w.admits(alice); got != tt.want {
			t.Errorf("%q: admitted as %v", tt.specs, got)
		}
		if s := w.warned(); tt.warn == "" && s != "" || !strings.Contains(s, tt.warn) || strings.Count(s, "\n") > 1 {
			t.Errorf("%q: warnings %q", tt.specs, s)
		}
	}
}

func TestAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := signerOf(t, "ed25519"), signerOf(t, "ed25519")
		path := write(t, filepath.Join(t.TempDir(), "bob.pub"), "junk")
		w := watch(t, "type", line(alice, "alice"))
		g := grants(t, "view", path)[0]
		wantError(t, w.Add(t.Context(), g), path+":1: ")
		w.want("not added", false, roles{alice: typer, bob: none})
		write(t, path, line(bob, "bob"))
		if err := w.Add(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		w.want("added", true, roles{alice: typer, bob: view})
		write(t, path, "")
		w.want("added and watched", true, roles{alice: typer, bob: none})
		if err := w.Add(t.Context(), keys.Grant{Source: g.Source}); err == nil {
			t.Error("a grant without a role: no error")
		}
		if err := w.Add(t.Context(), keys.Grant{Role: view}); err == nil {
			t.Error("a grant without a source: no error")
		}
	})
}

// TestLoadPipe reads a list as from the shell's <(command), once.
func TestLoadPipe(t *testing.T) {
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip("there is no /dev/fd")
	}
	alice := signerOf(t, "ed25519")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := fmt.Fprintln(w, line(alice, "alice")); err != nil {
		t.Fatal(err)
	}
	spec := fmt.Sprintf("/dev/fd/%d", r.Fd())
	ctx, cancel := context.WithCancel(t.Context())
	l := newAllowlist(t, "type", spec)
	go cancel() // while the pipe's writer is still there
	if err := l.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ends: got %v", err)
	}

	if r, w, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, line(alice, "alice"))
	w.Close()
	l = newAllowlist(t, "type", fmt.Sprintf("/dev/fd/%d", r.Fd()))
	for range 2 {
		if err := l.Load(t.Context()); err != nil || l.admits(alice) != typer {
			t.Fatalf("got %v, %v", l.admits(alice), err)
		}
		r.Close() // the shell's pipe is gone by the time of a second Load
	}
}

func TestWorldWritableList(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no mode bits on Windows")
	}
	path := write(t, filepath.Join(t.TempDir(), "list"), "")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	w := newAllowlist(t, "type", path)
	if err := w.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := w.warned(); !strings.Contains(s, "everybody on this machine can write") {
		t.Errorf("warnings %q", s)
	}
}

func TestDefaultGrants(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	if g, err := keys.DefaultGrants(); err != nil || g != nil {
		t.Errorf("without a file: got %v, %v", g, err)
	}
	alice := signerOf(t, "ed25519")
	path := write(t, filepath.Join(dir, "pairterm", "authorized_keys"), line(alice, ""))
	g, err := keys.DefaultGrants()
	if err != nil || len(g) != 1 || g[0].Source.String() != path || g[0].Role != typer {
		t.Fatalf("got %v, %v", g, err)
	}
	w := newAllowlist(t, "type", g[0].Source.String())
	if err := w.Load(t.Context()); err != nil || w.admits(alice) != typer {
		t.Errorf("got %v, %v", w.admits(alice), err)
	}
}
