package keys_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/keys"
)

func TestParseSource(t *testing.T) {
	key := line(signerOf(t, "ed25519"), "alice")
	for spec, kind := range map[string]keys.SourceKind{
		"alice.pub":                   keys.SourceFile,
		"~/keys/alice.pub":            keys.SourceFile,
		"/a b/ssh-ed25519":            keys.SourceFile,
		"./github:alice":              keys.SourceFile,
		`C:\keys\alice.pub`:           keys.SourceFile,
		key:                           keys.SourceLine,
		`role="view" ` + key:          keys.SourceLine,
		"# team\n" + key + "\n" + key: keys.SourceLine,
		"github:alice":                keys.SourceGitHub,
		"GitHub:octo-cat_emu":         keys.SourceGitHub,
		"gitlab:alice.b_c":            keys.SourceGitLab,
		"https://example.org/keys":    keys.SourceURL,
		"HTTPS://example.org:8443/?a": keys.SourceURL,
	} {
		s, err := keys.ParseSource(spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
			continue
		}
		remote := kind == keys.SourceGitHub || kind == keys.SourceGitLab || kind == keys.SourceURL
		if s.Kind() != kind || s.String() != spec || s.Remote() != remote {
			t.Errorf("%q: got kind %d, %q, remote %v", spec, s.Kind(), s, s.Remote())
		}
	}
}

func TestParseSourceRefuses(t *testing.T) {
	key := line(signerOf(t, "ed25519"), "alice")
	for spec, want := range map[string]string{
		"":                                  "no key, file or address",
		"http://example.org/keys":           "not fetched over http://",
		"HTTP://example.org/keys":           "not fetched over http://",
		"ftp://example.org/keys":            "only https://",
		"https://":                          "names no host",
		"https:///keys":                     "names no host",
		"https:example.org":                 "names no host",
		"https://user:word@example.org/":    "user name or password",
		"https://example.org:port/":         "not a valid address",
		"github:":                           "not the name of a GitHub account",
		"github:../x":                       "not the name of a GitHub account",
		"github:-x":                         "not the name of a GitHub account",
		"github:a/b":                        "not the name of a GitHub account",
		"github:a?b":                        "not the name of a GitHub account",
		"github:a.keys":                     "not the name of a GitHub account",
		"gitlab:..":                         "not the name of a GitLab account",
		"gitlab:a%2f":                       "not the name of a GitLab account",
		"a\x00b":                            "zero byte",
		"no-pty " + key:                     `option "no-pty"`,
		"ssh-ed25519 AAAA alice":            "damaged",
		"ssh-ed448 AAAA alice":              `"ssh-ed448" is not supported`,
		line(signerOf(t, "rsa1024"), ""):    "1024 bits",
		"-----BEGIN OPENSSH PRIVATE KEY---": "private key",
	} {
		_, err := keys.ParseSource(spec)
		if err == nil {
			t.Errorf("%q: no error", spec)
			continue
		}
		wantError(t, err, want)
	}
	_, err := keys.ParseSource("-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n")
	if !errors.Is(err, keys.ErrPrivateKey) || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("private key: got %v", err)
	}
}

func FuzzParseSource(f *testing.F) {
	for _, seed := range []string{
		"alice.pub", "~/x", "github:alice", "gitlab:a.b", "https://example.org/k", "http://x", "file:///etc/passwd",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINNwMHM8lLcve+HMdKmjaanRnkdOE0Sm3ZUxkjv5LTgg alice",
	} {
		f.Add(seed)
	}
	if err := os.Setenv("HOME", f.TempDir()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := keys.ParseSource(spec)
		if err != nil {
			return
		}
		again, err := keys.ParseSource(s.String())
		if err != nil || again != s {
			t.Fatalf("%q becomes %v, then %v, %v", spec, s, again, err)
		}
		if s.Kind() == keys.SourceFile && strings.Contains(spec, "://") {
			t.Fatalf("%q is taken for a file", spec)
		}
	})
}
