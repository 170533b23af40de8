package keys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

func TestGenerate(t *testing.T) {
	for _, kind := range []keys.KeyType{keys.KeyTypeEd25519, keys.KeyTypeECDSA, keys.KeyTypeRSA} {
		for _, word := range []string{"", "pass word"} {
			path := filepath.Join(t.TempDir(), "new", "key")
			pub, err := keys.Generate(kind, path, "alice at work", []byte(word))
			if err != nil {
				t.Fatal(err)
			}
			if runtime.GOOS != "windows" {
				for name, want := range map[string]fs.FileMode{path: 0o600, path + ".pub": 0o644, filepath.Dir(path): 0o700} {
					if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
						t.Errorf("%s: got %v, %v", filepath.Base(name), info.Mode(), err)
					}
				}
			}
			if got := read(t, path+".pub"); got != keys.AuthorizedLine(pub, "alice at work")+"\n" {
				t.Errorf("public line is %q", got)
			}
			// What OpenSSH makes of them.
			for _, name := range []string{path, path + ".pub"} {
				if got := tool(t, "", "ssh-keygen", "-l", "-f", name); !strings.Contains(got, keys.Fingerprint(pub)) || !strings.Contains(got, "alice at work") {
					t.Errorf("ssh-keygen -l says %q", got)
				}
			}
			if got := tool(t, "", "ssh-keygen", "-y", "-P", word, "-f", path); strings.TrimSpace(got) != keys.AuthorizedLine(pub, "alice at work") {
				t.Errorf("ssh-keygen -y says %q", got)
			}
			if word != "" {
				if out, err := tryTool(t, "", "ssh-keygen", "-y", "-P", "wrong", "-f", path); err == nil {
					t.Errorf("ssh-keygen opens the key with a wrong passphrase: %s", out)
				}
			}
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	for _, existing := range []string{path, path + ".pub"} {
		write(t, existing, "mine")
		_, err := keys.Generate(keys.KeyTypeEd25519, path, "", nil)
		if !errors.Is(err, keys.ErrExists) || !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v", err)
		}
		wantError(t, err, existing+": is not overwritten")
		if read(t, existing) != "mine" {
			t.Errorf("%s was overwritten", existing)
		}
		if err := os.Remove(existing); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOOS != "windows" {
		if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Generate(keys.KeyTypeEd25519, path, "", nil); !errors.Is(err, keys.ErrExists) {
			t.Errorf("through a dangling link: got %v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	_, err := keys.Generate(keys.KeyTypeEd25519, path, "two\nlines", nil)
	wantError(t, err, "comment")
	_, err = keys.Generate("dsa", path, "", nil)
	wantError(t, err, `unknown key type "dsa"`)
	_, err = keys.Generate(keys.KeyTypeEd25519, filepath.Join(write(t, filepath.Join(dir, "file"), ""), "key"), "", nil)
	if err == nil {
		t.Error("below a file: no error")
	}
	// A name so long that only the private key's file can be made.
	if _, err := keys.Generate(keys.KeyTypeEd25519, filepath.Join(dir, strings.Repeat("x", 253)), "", nil); err == nil {
		t.Error("name too long: no error")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestGenerateComment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	pub, err := keys.Generate(keys.KeyTypeEd25519, path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if name, host, ok := strings.Cut(keys.DefaultComment(), "@"); !ok || name == "" || host == "" {
		t.Errorf("default comment is %q", keys.DefaultComment())
	}
	if got := read(t, path+".pub"); got != keys.AuthorizedLine(pub, keys.DefaultComment())+"\n" {
		t.Errorf("public line is %q", got)
	}
	signer, err := ssh.ParsePrivateKey([]byte(read(t, path)))
	if err != nil || !keys.Equal(signer.PublicKey(), pub) {
		t.Errorf("private key does not belong to the public one: %v", err)
	}
}
