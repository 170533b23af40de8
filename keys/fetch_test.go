package keys_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/keys"
)

// site is a local stand-in for GitHub, GitLab and other https sites.
type site struct {
	*httptest.Server
	cache string
}

// newSite returns a TLS server that answers as h does.
func newSite(t *testing.T, h http.HandlerFunc) *site {
	s := &site{httptest.NewTLSServer(h), filepath.Join(t.TempDir(), "cache")}
	t.Cleanup(s.Close)
	return s
}

// fetch loads one source from s anew and returns the list and the warnings.
func (s *site) fetch(t *testing.T, spec string) (*keys.List, []error, error) {
	t.Helper()
	source, err := keys.ParseSource(spec)
	if err != nil {
		t.Fatal(err)
	}
	var warnings []error
	a, err := keys.NewAllowlist(keys.AllowlistOptions{
		Grants:    []keys.Grant{{Source: source, Role: keys.RoleType}},
		GitHubURL: s.URL,
		GitLabURL: s.URL + "/gitlab/",
		CacheDir:  s.cache,
		Transport: s.Client().Transport,
		Warn:      func(err error) { warnings = append(warnings, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	err = a.Load(t.Context())
	return a.Current(), warnings, err
}

func TestFetch(t *testing.T) {
	alice, bob := signerOf(t, "ed25519"), signerOf(t, "ecdsa256")
	plain := line(alice, "") + "\n" + line(bob, "") + "\n"
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/alice.keys", "/list":
			fmt.Fprint(w, plain)
		case "/gitlab/alice.keys":
			fmt.Fprint(w, line(alice, "Alice (gitlab.example)"))
		case "/options":
			fmt.Fprintf(w, `role="view",expiry-time="20990101Z" %s`, line(alice, ""))
		case "/options.keys":
			fmt.Fprintf(w, "%s\n%s\n", line(bob, ""), "cert-authority "+line(alice, ""))
		case "/old.keys":
			fmt.Fprintf(w, "%s\n%s\n%s\n", line(signerOf(t, "rsa1024"), ""), "ssh-dss AAAA", line(alice, ""))
		case "/bad.keys":
			fmt.Fprintf(w, "%s\n%s\n", line(signerOf(t, "rsa1024"), ""), `role="view" `+line(alice, ""))
		case "/empty.keys", "/gitlab/empty.keys":
		case "/page":
			fmt.Fprint(w, "<html>\n<body>Please log in</body>\n")
		case "/long":
			fmt.Fprint(w, strings.Repeat("#\n", 128<<10), "#")
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/3", "/2", "/1":
			http.Redirect(w, r, map[string]string{"/3": "/2", "/2": "/1", "/1": "/list"}[r.URL.Path], http.StatusFound)
		case "/4":
			http.Redirect(w, r, "/3", http.StatusFound)
		case "/down":
			http.Redirect(w, r, "http://"+r.Host+"/list", http.StatusFound)
		case "/login":
			http.Redirect(w, r, "https://user:word@"+r.Host+"/list", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})

	for spec, comment := range map[string]string{
		"github:alice":   "github:alice",
		"gitlab:alice":   "Alice (gitlab.example)",
		s.URL + "/list":  s.URL + "/list",
		s.URL + "/3":     s.URL + "/3",
		"github:old":     "github:old",
		"github:options": "github:options",
	} {
		l, warnings, err := s.fetch(t, spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if e := l.Entries()[0]; e.Comment != comment || e.Role != keys.RoleType {
			t.Errorf("%s: got %+v", spec, e)
		}
		switch spec {
		case "github:old":
			if l.Len() != 1 || len(warnings) != 1 {
				t.Fatalf("%s: got %d keys, warnings %v", spec, l.Len(), warnings)
			}
			wantError(t, warnings[0], "github:old:1: ", "1024 bits", "github:old:2: ", "DSA")
		case "github:options":
			if _, err := l.Lookup(alice.PublicKey(), day); err == nil || l.Len() != 1 || len(warnings) != 1 {
				t.Fatalf("%s: got %d keys, warnings %v", spec, l.Len(), warnings)
			}
			wantError(t, warnings[0], "github:options:2: options are not accepted")
		default:
			if len(warnings) != 0 {
				t.Errorf("%s: warnings %v", spec, warnings)
			}
		}
	}

	l, _, err := s.fetch(t, s.URL+"/options")
	if err != nil || l.Entries()[0].Role != keys.RoleView {
		t.Errorf("options from an address: got %v, %v", l.Entries(), err)
	}

	for spec, want := range map[string]string{
		"github:empty":    "the account has no public keys",
		"gitlab:empty":    "the account has no public keys",
		"github:nobody":   "no such account",
		"github:bad":      "there is no usable key in what the server sent\ngithub:bad:1: unsuitable key: RSA key of 1024 bits, at least 2048 are needed\ngithub:bad:2: options",
		s.URL + "/none":   "404 Not Found",
		s.URL + "/teapot": "418",
		s.URL + "/page":   "no usable key",
		s.URL + "/long":   "longer than 256 KiB",
		s.URL + "/4":      "more than 3",
		s.URL + "/down":   "not an https:// address",
		s.URL + "/login":  "user name or password",
	} {
		l, _, err := s.fetch(t, spec)
		if err == nil || l.Len() != 0 {
			t.Errorf("%s: got %d keys, %v", spec, l.Len(), err)
			continue
		}
		wantError(t, err, spec+": ", want)
	}
}

func TestFetchChecksCertificate(t *testing.T) {
	s := &site{httptest.NewUnstartedServer(http.NotFoundHandler()), t.TempDir()}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it is told what the test is about
	s.StartTLS()
	defer s.Close()
	source, err := keys.ParseSource(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	a, err := keys.NewAllowlist(keys.AllowlistOptions{Grants: []keys.Grant{{Source: source, Role: keys.RoleType}}, CacheDir: s.cache})
	if err != nil {
		t.Fatal(err)
	}
	err = a.Load(t.Context())
	wantError(t, err, s.URL+": ", "certificate")
	if strings.Count(err.Error(), s.URL) != 1 {
		t.Errorf("the address is told more than once: %v", err)
	}
	if a.Current().Len() != 0 {
		t.Error("keys were taken from a site that nobody vouches for")
	}
}

func TestFetchCache(t *testing.T) {
	alice := signerOf(t, "ed25519")
	status := http.StatusOK
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintln(w, line(alice, ""))
	})
	if _, warnings, err := s.fetch(t, "github:alice"); err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	files, err := filepath.Glob(filepath.Join(s.cache, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("cache holds %q, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the copy is %v, %v", info.Mode(), err)
	}

	// stale wants the copy to be used, with a warning that has all parts.
	stale := func(parts ...string) {
		t.Helper()
		l, warnings, err := s.fetch(t, "github:alice")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Lookup(alice.PublicKey(), day); err != nil {
			t.Error(err)
		}
		var stale *keys.StaleError
		if len(warnings) != 1 || !errors.As(warnings[0], &stale) || stale.Source.String() != "github:alice" {
			t.Fatalf("got warnings %v", warnings)
		}
		wantError(t, warnings[0], parts...)
	}
	// refused wants the copy not to be used.
	refused := func(parts ...string) {
		t.Helper()
		l, _, err := s.fetch(t, "github:alice")
		wantError(t, err, parts...)
		if l.Len() != 0 {
			t.Errorf("got %d keys", l.Len())
		}
	}
	age := func(d time.Duration) {
		t.Helper()
		lines := strings.SplitN(read(t, files[0]), "\n", 3)
		lines[1] = "# at " + time.Now().Add(-d).UTC().Format(time.RFC3339)
		write(t, files[0], strings.Join(lines, "\n"))
	}

	status = http.StatusInternalServerError
	stale("github:alice: using the list fetched", "seconds ago", "500")
	status = http.StatusTooManyRequests
	stale("429")
	status = http.StatusNotFound
	refused("no such account")
	status = http.StatusForbidden
	refused("403")
	s.Close()
	age(3 * time.Hour)
	stale("3 hours ago", "refused")
	age(6*24*time.Hour + time.Hour)
	stale("6 days ago")
	age(8 * 24 * time.Hour)
	refused("8 days ago", "too old")
	age(time.Hour)
	write(t, files[0], strings.Replace(read(t, files[0]), "alice.keys", "mallory.keys", 1))
	refused("refused")
	write(t, files[0], line(alice, ""))
	refused("refused")

	if left, _ := filepath.Glob(filepath.Join(s.cache, ".*")); len(left) != 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// TestFetchWithoutCache has the cache in a place that cannot be written to.
func TestFetchWithoutCache(t *testing.T) {
	alice := signerOf(t, "ed25519")
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, line(alice, "")) })
	s.cache = filepath.Join(write(t, filepath.Join(t.TempDir(), "file"), ""), "cache")
	l, warnings, err := s.fetch(t, "github:alice")
	if err != nil || l.Len() != 1 || len(warnings) != 1 {
		t.Fatal(l.Len(), warnings, err)
	}
	wantError(t, warnings[0], "cannot keep a copy of github:alice")
}

// silent is a site that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestFetchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, err := keys.ParseSource("https://example.org/keys")
		if err != nil {
			t.Fatal(err)
		}
		a, err := keys.NewAllowlist(keys.AllowlistOptions{
			Grants:    []keys.Grant{{Source: source, Role: keys.RoleType}},
			CacheDir:  t.TempDir(),
			Transport: silent{},
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		wantError(t, a.Load(t.Context()), "no answer within 10 seconds")
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("took %v", d)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Load(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that ends: got %v", err)
		}
	})
}
