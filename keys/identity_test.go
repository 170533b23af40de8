package keys_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/pairterm/pairterm/keys"
)

// person is a home directory, perhaps with an agent.
type person struct {
	t        *testing.T
	home     string
	warnings []error

	mu      sync.Mutex
	answers []string // guarded by mu; to the coming prompts
	asked   []string // guarded by mu; the prompts so far
}

func newPerson(t *testing.T) *person {
	t.Helper()
	p := &person{t: t, home: t.TempDir()}
	t.Setenv("HOME", p.home)
	t.Setenv("USERPROFILE", p.home)
	t.Setenv("AppData", filepath.Join(p.home, "AppData"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(p.home, "config"))
	t.Setenv("SSH_AUTH_SOCK", "")
	return p
}

func (p *person) path(elem ...string) string {
	return filepath.Join(append([]string{p.home}, elem...)...)
}

// keygen makes a key pair with ssh-keygen and returns the path and public key.
func (p *person) keygen(name string, args ...string) (string, ssh.PublicKey) {
	p.t.Helper()
	path := p.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if len(args) == 0 {
		args = []string{"-t", "ed25519", "-N", ""}
	}
	tool(p.t, "", "ssh-keygen", append([]string{"-q", "-C", "comment of " + name, "-f", path}, args...)...)
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(read(p.t, path+".pub")))
	if err != nil {
		p.t.Fatal(err)
	}
	return path, pub
}

// certify makes FILE-cert.pub with ssh-keygen.
func (p *person) certify(path string, args ...string) ssh.PublicKey {
	p.t.Helper()
	authority := p.path("authority")
	if _, err := os.Stat(authority); err != nil {
		p.keygen("authority")
	}
	args = append([]string{"-q", "-s", authority, "-I", "id", "-n", "alice"}, args...)
	tool(p.t, "", "ssh-keygen", append(args, path+".pub")...)
	pub, _, err := keys.ParsePublicKey(read(p.t, path+"-cert.pub"))
	if err != nil {
		p.t.Fatal(err)
	}
	return pub
}

// startAgent runs a real ssh-agent for the rest of the test.
func (p *person) startAgent() {
	p.t.Helper()
	path, err := exec.LookPath("ssh-agent")
	if err != nil {
		p.t.Skip("ssh-agent is not installed")
	}
	// Paths of sockets are short; those of test directories often are not.
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		p.t.Fatal(err)
	}
	sock := filepath.Join(dir, "s")
	cmd := exec.Command(path, "-D", "-a", sock)
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	// The agent prints how to reach it once it listens.
	if _, err := out.Read(make([]byte, 1)); err != nil {
		p.t.Fatal(err)
	}
	p.t.Setenv("SSH_AUTH_SOCK", sock)
}

func (p *person) options() keys.IdentityOptions {
	return keys.IdentityOptions{
		Prompt: func(ctx context.Context, prompt string) ([]byte, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asked = append(p.asked, prompt)
			if len(p.answers) == 0 {
				return nil, errors.New("nobody is there")
			}
			answer := p.answers[0]
			p.answers = p.answers[1:]
			return []byte(answer), nil
		},
		Warn: func(err error) { p.warnings = append(p.warnings, err) },
	}
}

// identities finds the identities of p; file may be empty.
func (p *person) identities(file string) []keys.Identity {
	p.t.Helper()
	o := p.options()
	o.File = file
	ids, err := keys.Identities(p.t.Context(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	return ids
}

// want checks that ids are those of the given sources and public keys, in order,
// and that each can sign.
func (p *person) want(ids []keys.Identity, sourceAndKey ...any) {
	p.t.Helper()
	var got, want []string
	for _, id := range ids {
		got = append(got, id.Source()+" "+id.Public().Type()+" "+keys.Fingerprint(id.Public()))
	}
	for i := 0; i < len(sourceAndKey); i += 2 {
		pub := sourceAndKey[i+1].(ssh.PublicKey)
		want = append(want, sourceAndKey[i].(string)+" "+pub.Type()+" "+keys.Fingerprint(pub))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		p.t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, id := range ids {
		p.signs(id)
	}
}

func (p *person) signs(id keys.Identity) {
	p.t.Helper()
	proof, err := id.Sign(p.t.Context(), testNamespace, testMessage)
	if err != nil {
		p.t.Errorf("%s: %v", id.Source(), err)
		return
	}
	if err := keys.Verify(id.Public(), testNamespace, testMessage, proof); err != nil {
		p.t.Errorf("%s: %v", id.Source(), err)
	}
}

// warned checks that there was one warning for each list of parts.
func (p *person) warned(parts ...string) {
	p.t.Helper()
	if len(p.warnings) != len(parts) {
		p.t.Errorf("got warnings %v, want %q", p.warnings, parts)
		return
	}
	for i, part := range parts {
		wantError(p.t, p.warnings[i], part)
	}
}

func TestIdentitiesNone(t *testing.T) {
	p := newPerson(t)
	_, err := keys.Identities(t.Context(), p.options())
	if !errors.Is(err, keys.ErrNoIdentity) {
		t.Fatalf("got %v", err)
	}

	p.keygen(".ssh/id_ed25519")
	if runtime.GOOS != "windows" {
		if err := os.Chmod(p.path(".ssh/id_ed25519"), 0o644); err != nil {
			t.Fatal(err)
		}
		o := p.options()
		o.Agent = p.path("no-agent")
		_, err = keys.Identities(t.Context(), o)
		var mode *keys.ModeError
		if !errors.Is(err, keys.ErrNoIdentity) || !errors.As(err, &mode) || mode.Path != p.path(".ssh/id_ed25519") {
			t.Fatalf("got %v", err)
		}
		wantError(t, err, "cannot reach the agent at "+o.Agent, "no such file", "permissions 0644 are too open", "chmod 600 "+mode.Path)
	}
}

func TestIdentitiesOrder(t *testing.T) {
	p := newPerson(t)
	rsaPath, rsa := p.keygen(".ssh/id_rsa", "-t", "rsa", "-b", "2048", "-N", "")
	edPath, ed := p.keygen(".ssh/id_ed25519")
	ecPath, ec := p.keygen(".ssh/id_ecdsa", "-t", "ecdsa", "-N", "")
	own, err := keys.OwnKeyPath()
	if err != nil {
		t.Fatal(err)
	}
	ownKey, err := keys.Generate(keys.KeyTypeEd25519, own, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	p.keygen(".ssh/id_dsa_like_other_names")
	ecCert := p.certify(ecPath)

	ids := p.identities("")
	p.want(ids, edPath, ed, ecPath, ecCert, ecPath, ec, rsaPath, rsa, own, ownKey)
	p.warned()
	if c := ids[0].Comment(); c != "comment of .ssh/id_ed25519" {
		t.Errorf("comment is %q", c)
	}

	// The agent's keys come first, and those that are files too come once.
	p.startAgent()
	otherPath, other := p.keygen("other")
	otherCert := p.certify(otherPath)
	tool(t, "", "ssh-add", "-q", otherPath) // adds the certificate, too
	tool(t, "", "ssh-add", "-q", rsaPath)
	rsaCert := p.certify(rsaPath) // which the agent has not
	ids = p.identities("")
	a := keys.SourceAgent
	p.want(ids, a, otherCert, a, other, a, rsaCert, a, rsa, edPath, ed, ecPath, ecCert, ecPath, ec, own, ownKey)
	if c := ids[1].Comment(); c != "comment of other" {
		t.Errorf("comment is %q", c)
	}

	o := p.options()
	o.Agent = "none"
	if ids, err := keys.Identities(t.Context(), o); err != nil || ids[0].Source() != edPath {
		t.Errorf("without the agent: got %v, %v", ids, err)
	}
	p.warned()
}

func TestIdentitiesSkips(t *testing.T) {
	p := newPerson(t)
	edPath, ed := p.keygen(".ssh/id_ed25519")
	p.certify(edPath, "-V", "20200101:20200102")
	p.keygen(".ssh/id_rsa", "-t", "rsa", "-b", "1024", "-N", "")
	write(t, p.path(".ssh/id_ecdsa"), "no key at all")
	t.Setenv("SSH_AUTH_SOCK", p.path("gone"))
	p.want(p.identities(""), edPath, ed)
	p.warned("cannot reach the agent", "id_ed25519-cert.pub: the certificate expired at 2020-01-02", "id_ecdsa: is not a private key", "RSA key of 1024 bits")

	// A certificate of another key, and a host certificate.
	p.warnings = nil
	otherPath, _ := p.keygen("other")
	p.certify(otherPath)
	if err := os.Rename(otherPath+"-cert.pub", edPath+"-cert.pub"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id_rsa", "id_ecdsa"} {
		if err := os.Remove(p.path(".ssh", name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	p.want(p.identities(""), edPath, ed)
	p.warned("the certificate is for another key")
	p.certify(edPath, "-h")
	p.warnings = nil
	p.want(p.identities(""), edPath, ed)
	p.warned("not a user certificate")
}

func TestIdentityNamed(t *testing.T) {
	p := newPerson(t)
	path, pub := p.keygen("keys/alice")
	_, def := p.keygen(".ssh/id_ed25519")
	p.want(p.identities(path), path, pub)
	p.want(p.identities(path+".pub"), path, pub)
	p.want(p.identities("~/keys/alice"), path, pub)
	cert := p.certify(path)
	for _, file := range []string{path, path + ".pub", path + "-cert.pub"} {
		p.want(p.identities(file), path, cert, path, pub)
	}

	// With the private half in the agent only.
	p.startAgent()
	tool(t, "", "ssh-add", "-q", path)
	private := read(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a := keys.SourceAgent
	for _, file := range []string{path + ".pub", path + "-cert.pub"} {
		p.want(p.identities(file), a, cert, a, pub)
	}
	// In the agent as a certificate only, which has ssh-add forget the key.
	tool(t, "", "ssh-add", "-q", "-D")
	write(t, path, private)
	tool(t, "", "ssh-add", "-q", path)
	if err := os.Rename(path+"-cert.pub", path+"-kept.pub"); err != nil {
		t.Fatal(err)
	}
	tool(t, "", "ssh-add", "-q", "-d", path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p.want(p.identities(path+".pub"), a, cert, a, pub)
	p.want(p.identities(""), a, cert, p.path(".ssh/id_ed25519"), def)
	p.want(p.identities(path+"-kept.pub"), a, cert, a, pub)
	p.warned()
}

// TestIdentityExpiredInAgent has an expired certificate in the agent, which must
// neither be offered nor hide its key.
func TestIdentityExpiredInAgent(t *testing.T) {
	p := newPerson(t)
	path, pub := p.keygen("alice")
	p.certify(path, "-V", "20200101:20200102")
	p.startAgent()
	if out, err := tryTool(t, "", "ssh-add", "-q", path); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.want(p.identities(""), keys.SourceAgent, pub)
	p.warned("expired at 2020-01-02")
}

func TestIdentityNamedRefuses(t *testing.T) {
	p := newPerson(t)
	path, _ := p.keygen("alice")
	otherPath, _ := p.keygen("other")
	lonely := write(t, p.path("lonely.pub"), read(t, path+".pub"))
	mixed := write(t, p.path("mixed.pub"), read(t, path+".pub"))
	write(t, p.path("mixed"), read(t, otherPath))
	stray := write(t, p.path("stray"), read(t, path+".pub"))
	short, _ := p.keygen("short", "-t", "rsa", "-b", "1024", "-N", "")
	pkcs8 := write(t, p.path("pkcs8"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for file, want := range map[string]string{
		p.path("missing"):                "no such file",
		p.home:                           "not a regular file",
		lonely:                           "neither in the agent nor in " + p.path("lonely"),
		mixed:                            "holds another key",
		stray:                            "private half is not in the agent",
		short:                            "1024 bits",
		pkcs8:                            "PKCS #8",
		write(t, p.path("junk"), "junk"): "not a public key",
		write(t, p.path("two"), read(t, lonely)+read(t, lonely)):      "more than one line",
		write(t, p.path("big"), strings.Repeat("#", 1<<20+1)):         "too long",
		write(t, p.path("cut"), read(t, path)[:100]):                  "not a private key",
		write(t, p.path("ppk"), "PuTTY-User-Key-File-3: ssh-ed25519"): "not a private key",
	} {
		o := p.options()
		o.File = file
		ids, err := keys.Identities(t.Context(), o)
		if err == nil {
			t.Errorf("%s: got %v", file, ids)
			continue
		}
		wantError(t, err, file+": ", want)
	}
}

func TestIdentityPassphrase(t *testing.T) {
	const right = "open sesame"
	for name, args := range map[string][]string{
		"OpenSSH":     {"-t", "ed25519"},
		"OpenSSH RSA": {"-t", "rsa", "-b", "2048"},
		"PEM":         {"-t", "rsa", "-b", "2048", "-m", "PEM"},
		"PEM ECDSA":   {"-t", "ecdsa", "-m", "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPerson(t)
			path, pub := p.keygen("key", append(args, "-N", right)...)
			sign := func(answers ...string) error {
				t.Helper()
				p.answers, p.asked = answers, nil
				id := p.identities(path)[0]
				if !keys.Equal(id.Public(), pub) || len(p.asked) != 0 {
					t.Fatalf("got %s, having asked %q", keys.Fingerprint(id.Public()), p.asked)
				}
				_, err := id.Sign(t.Context(), testNamespace, testMessage)
				if err == nil { // and not asked again
					p.signs(id)
				}
				return err
			}
			if err := sign(right); err != nil || len(p.asked) != 1 || p.asked[0] != "Passphrase for "+path+": " {
				t.Errorf("got %v, asked %q", err, p.asked)
			}
			if err := sign("one", "two", right); err != nil || len(p.asked) != 3 || !strings.Contains(p.asked[2], "(3 of 3)") {
				t.Errorf("got %v, asked %q", err, p.asked)
			}
			if err := sign("one", "two", "three", right); !errors.Is(err, keys.ErrWrongPassphrase) || len(p.asked) != 3 {
				t.Errorf("got %v, asked %q", err, p.asked)
			}
			if err := sign(""); !errors.Is(err, keys.ErrPassphraseNeeded) || len(p.asked) != 1 {
				t.Errorf("empty: got %v, asked %q", err, p.asked)
			}
			err := sign()
			if !errors.Is(err, keys.ErrPassphraseNeeded) {
				t.Errorf("no answer: got %v", err)
			}
			wantError(t, err, path+": ", "nobody is there")

			ids, err := keys.Identities(t.Context(), keys.IdentityOptions{File: path})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ids[0].Sign(t.Context(), testNamespace, testMessage); !errors.Is(err, keys.ErrPassphraseNeeded) {
				t.Errorf("nobody to ask: got %v", err)
			}
		})
	}
}

// TestIdentityPassphraseOnce signs from several goroutines at once.
func TestIdentityPassphraseOnce(t *testing.T) {
	p := newPerson(t)
	path, _ := p.keygen("key", "-t", "ed25519", "-N", "word")
	p.answers = []string{"word"}
	id := p.identities(path)[0]
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { p.signs(id) })
	}
	wg.Wait()
	if len(p.asked) != 1 {
		t.Errorf("asked %d times", len(p.asked))
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan bool)
	ids, err := keys.Identities(ctx, keys.IdentityOptions{File: path, Prompt: func(ctx context.Context, _ string) ([]byte, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	// Two wait for the passphrase, one in the prompt, one behind it.
	for range 2 {
		wg.Go(func() {
			if _, err := ids[0].Sign(ctx, testNamespace, testMessage); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	<-asked
	cancel()
	wg.Wait()
	for range 20 { // would close asked once more if it asked
		if _, err := ids[0].Sign(ctx, testNamespace, testMessage); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

// TestIdentityWrongPassphrasePEM gives many wrong passphrases to a key in the
// old format, which takes one in 256 of them for right and then finds noise.
func TestIdentityWrongPassphrasePEM(t *testing.T) {
	p := newPerson(t)
	path, _ := p.keygen("key", "-t", "ecdsa", "-m", "PEM", "-N", "the right one")
	id := p.identities(path)[0]
	for i := range 1000 {
		p.answers = []string{fmt.Sprint(i), fmt.Sprint(-i), "wrong"}
		if _, err := id.Sign(t.Context(), testNamespace, testMessage); !errors.Is(err, keys.ErrWrongPassphrase) {
			t.Fatalf("passphrases %d: got %v", i, err)
		}
	}
}

// TestIdentityFormats opens private keys that are not in OpenSSH's format.
func TestIdentityFormats(t *testing.T) {
	p := newPerson(t)
	for _, args := range [][]string{
		{"-t", "rsa", "-b", "2048", "-m", "PEM"},
		{"-t", "rsa", "-b", "2048", "-m", "PKCS8"},
		{"-t", "ecdsa", "-m", "PEM"},
		{"-t", "ecdsa", "-b", "521", "-m", "PKCS8"},
	} {
		path, pub := p.keygen("key", append(args, "-N", "")...)
		if strings.Contains(read(t, path), "OPENSSH") {
			t.Fatalf("%q makes a key in OpenSSH's format", args)
		}
		for range 2 { // with and without the public key beside it
			p.want(p.identities(path), path, pub)
			os.Remove(path + ".pub")
		}
		os.Remove(path)
	}
	dsa, err := asn1.Marshal(struct{ V, P, Q, G, Y, X int }{0, 7, 3, 2, 4, 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"unsuitable key":        {Type: "DSA PRIVATE KEY", Bytes: dsa},
		"damaged OpenSSH":       {Type: "OPENSSH PRIVATE KEY", Bytes: []byte("openssh-key-v0\x00")},
		"a damaged OpenSSH":     {Type: "OPENSSH PRIVATE KEY", Bytes: []byte("openssh-key-v1\x00\x00\x00\x00\x09")},
		"is damaged or of an":   {Type: "RSA PRIVATE KEY", Bytes: dsa},
		"damaged or of an unkn": {Type: "ANY PRIVATE KEY"},
	} {
		path := write(t, p.path("bad"), string(pem.EncodeToMemory(block)))
		_, err := keys.Identities(t.Context(), keys.IdentityOptions{File: path})
		wantError(t, err, path+": ", name)
	}
}

func TestIdentityOldEncrypted(t *testing.T) {
	p := newPerson(t)
	path, _ := p.keygen("key", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "a word")
	if err := os.Remove(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	_, err := keys.Identities(t.Context(), keys.IdentityOptions{File: path})
	wantError(t, err, "old format", "ssh-keygen -p -f "+path)

	// A public key beside it that is not its own must not be signed for.
	_, other := p.keygen("other")
	write(t, path+".pub", keys.AuthorizedLine(other, ""))
	p.answers = []string{"a word"}
	_, err = p.identities(path)[0].Sign(t.Context(), testNamespace, testMessage)
	wantError(t, err, "not that of the public key "+keys.Fingerprint(other))
}

// TestIdentityChangedFile replaces the key between the offer and the signature.
func TestIdentityChangedFile(t *testing.T) {
	p := newPerson(t)
	path, _ := p.keygen("key")
	otherPath, _ := p.keygen("other")
	id := p.identities(path)[0]
	write(t, path, read(t, otherPath))
	_, err := id.Sign(t.Context(), testNamespace, testMessage)
	wantError(t, err, path, "is not that of the public key")
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	var mode *keys.ModeError
	if _, err := id.Sign(t.Context(), testNamespace, testMessage); !errors.As(err, &mode) {
		t.Errorf("got %v", err)
	}
}

// TestIdentitySecurityKeyFile has a file that refers to a FIDO key, as
// "ssh-keygen -t ed25519-sk" writes it.
func TestIdentitySecurityKeyFile(t *testing.T) {
	p := newPerson(t)
	token := newToken(t, "ed25519")
	path := write(t, p.path("id_ed25519_sk"), opensshPrivateKey(token.pub))
	o := p.options()
	o.File = path
	_, err := keys.Identities(t.Context(), o)
	wantError(t, err, path, "ssh-add")

	o.Agent = serveAgent(t, &tokenAgent{token: token})
	ids, err := keys.Identities(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	p.want(ids, keys.SourceAgent, token.pub)
	o.File = ""
	if ids, err = keys.Identities(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	p.want(ids, keys.SourceAgent, token.pub)
	token.flags = 0
	_, err = ids[0].Sign(t.Context(), testNamespace, testMessage)
	wantError(t, err, "user presence")
}

// opensshPrivateKey returns a private key file whose private part is of no use.
func opensshPrivateKey(pub ssh.PublicKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: append([]byte("openssh-key-v1\x00"), ssh.Marshal(struct {
		Cipher, KDF, Options string
		N                    uint32
		Public, Private      []byte
	}{"none", "none", "", 1, pub.Marshal(), nil})...)}))
}

// serveAgent serves a at a socket until the end of the test, and returns its
// path.
func serveAgent(t *testing.T, a agent.Agent) string {
	t.Helper()
	return listenUnix(t, func(c net.Conn) { agent.ServeAgent(a, c) })
}

// listenUnix has serve handle every connection to the socket it returns. At the
// end of the test the connections are closed and waited for.
func listenUnix(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
		os.RemoveAll(dir)
	})
	return sock
}

// tokenAgent is an agent that holds one security key.
type tokenAgent struct {
	agent.ExtendedAgent // nil: everything else is not asked of it
	token               *token
}

func (a *tokenAgent) List() ([]*agent.Key, error) {
	return []*agent.Key{
		{Format: "ssh-new", Blob: ssh.Marshal(struct{ Type string }{"ssh-new"}), Comment: "from the future"},
		{Format: a.token.pub.Type(), Blob: a.token.pub.Marshal(), Comment: "token"},
	}, nil
}

func (a *tokenAgent) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return a.token.Sign(nil, data)
}

// oldAgent is an agent from before RSA with SHA-2: it does not know the flags.
type oldAgent struct {
	agent.Agent
	signer ssh.AlgorithmSigner
}

func (a *oldAgent) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: ssh.KeyAlgoRSA, Blob: a.signer.PublicKey().Marshal()}}, nil
}

func (a *oldAgent) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return a.signer.SignWithAlgorithm(nil, data, ssh.KeyAlgoRSA)
}

func TestAgentRefuses(t *testing.T) {
	newPerson(t)
	log.SetOutput(io.Discard) // agent.ServeAgent logs why it fails
	defer log.SetOutput(os.Stderr)
	old := serveAgent(t, &oldAgent{signer: signerOf(t, "rsa2048").(ssh.AlgorithmSigner)})
	ids, err := keys.Identities(t.Context(), keys.IdentityOptions{Agent: old})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ids[0].Sign(t.Context(), testNamespace, testMessage)
	wantError(t, err, "signature just made is not usable", `"ssh-rsa" is not accepted`)

	ring := agent.NewKeyring()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: "a\x1b[31mlice"}); err != nil {
		t.Fatal(err)
	}
	ids, err = keys.Identities(t.Context(), keys.IdentityOptions{Agent: serveAgent(t, ring)})
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	_, err = ids[0].Sign(t.Context(), testNamespace, testMessage)
	if !errors.Is(err, keys.ErrNotSigned) {
		t.Errorf("%v is not told from other errors", err)
	}
	wantError(t, err, "ssh-agent did not sign with "+keys.Fingerprint(ids[0].Public())+" (a[31mlice): ")
}

// TestAgentStuck has an agent that accepts connections and says nothing.
func TestAgentStuck(t *testing.T) {
	p := newPerson(t)
	reached := make(chan bool, 1)
	sock := listenUnix(t, func(c net.Conn) {
		var b [64]byte
		for {
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			select {
			case reached <- true:
			default:
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	o := p.options()
	o.Agent = sock
	start := time.Now()
	if _, err := keys.Identities(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("gave up after %v", d)
	}
}

func TestNewIdentity(t *testing.T) {
	for _, kind := range goodKinds {
		signer := signerOf(t, kind)
		id, err := keys.NewIdentity(signer, "comment", "test")
		if err != nil {
			t.Fatal(err)
		}
		if !keys.Equal(id.Public(), signer.PublicKey()) || id.Comment() != "comment" || id.Source() != "test" {
			t.Errorf("got %+v", id)
		}
		(&person{t: t}).signs(id)
	}
	if _, err := keys.NewIdentity(signerOf(t, "rsa1024"), "", ""); !errors.Is(err, keys.ErrUnsuitableKey) {
		t.Errorf("short RSA key: got %v", err)
	}
	authority, alice := signerOf(t, "ed25519"), signerOf(t, "rsa2048")
	signer, err := ssh.NewCertSigner(certify(t, authority, alice.PublicKey()), alice)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.NewIdentity(signer, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	(&person{t: t}).signs(id)
}
