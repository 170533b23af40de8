package keys_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signerOf returns a signer for a new key, which stays the same for RSA keys
// because making them takes long.
func signerOf(t testing.TB, kind string) ssh.Signer {
	t.Helper()
	var key any
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ecdsa521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "rsa2048":
		key, err = rsaKeys[0]()
	case "rsa1024":
		key, err = rsaKeys[1]()
	case "sk-ed25519":
		return newToken(t, "ed25519")
	case "sk-ecdsa":
		return newToken(t, "ecdsa256")
	default:
		t.Fatalf("no such kind of key: %s", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

var rsaKeys = [2]func() (*rsa.PrivateKey, error){
	sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
	sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 1024) }),
}

// goodKinds are all kinds of keys that are accepted.
var goodKinds = []string{"ed25519", "ecdsa256", "ecdsa384", "ecdsa521", "rsa2048", "sk-ed25519", "sk-ecdsa"}

// token is a FIDO security key in software (PROTOCOL.u2f of OpenSSH).
type token struct {
	inner ssh.Signer
	pub   ssh.PublicKey
	flags byte // what it asserts; 1 is the user's presence
}

const tokenApplication = "ssh:"

func newToken(t testing.TB, kind string) *token {
	inner := signerOf(t, kind)
	var wire []byte
	switch kind {
	case "ed25519":
		var k struct {
			Type string
			Key  []byte
		}
		if err := ssh.Unmarshal(inner.PublicKey().Marshal(), &k); err != nil {
			t.Fatal(err)
		}
		wire = ssh.Marshal(struct {
			Type        string
			Key         []byte
			Application string
		}{ssh.KeyAlgoSKED25519, k.Key, tokenApplication})
	default:
		var k struct {
			Type, Curve string
			Key         []byte
		}
		if err := ssh.Unmarshal(inner.PublicKey().Marshal(), &k); err != nil {
			t.Fatal(err)
		}
		wire = ssh.Marshal(struct {
			Type, Curve string
			Key         []byte
			Application string
		}{ssh.KeyAlgoSKECDSA256, k.Curve, k.Key, tokenApplication})
	}
	pub, err := ssh.ParsePublicKey(wire)
	if err != nil {
		t.Fatal(err)
	}
	return &token{inner: inner, pub: pub, flags: 1}
}

func (k *token) PublicKey() ssh.PublicKey { return k.pub }

func (k *token) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	const counter = 7
	application, message := sha256.Sum256([]byte(tokenApplication)), sha256.Sum256(data)
	signed := append(application[:], k.flags)
	signed = binary.BigEndian.AppendUint32(signed, counter)
	signed = append(signed, message[:]...)
	sig, err := k.inner.Sign(r, signed)
	if err != nil {
		return nil, err
	}
	return &ssh.Signature{
		Format: k.pub.Type(),
		Blob:   sig.Blob,
		Rest:   binary.BigEndian.AppendUint32([]byte{k.flags}, counter),
	}, nil
}

// certify returns a user certificate for pub, changed by the given functions
// before authority signs it.
func certify(t testing.TB, authority ssh.Signer, pub ssh.PublicKey, change ...func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	cert := &ssh.Certificate{
		Key:             pub,
		Serial:          1,
		CertType:        ssh.UserCert,
		KeyId:           "test",
		ValidPrincipals: []string{"alice"},
		ValidBefore:     ssh.CertTimeInfinity,
	}
	for _, f := range change {
		f(cert)
	}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return cert
}

// line returns the authorized_keys line for a signer's key.
func line(s ssh.Signer, comment string) string {
	return keys.AuthorizedLine(s.PublicKey(), comment)
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// tool runs a program of OpenSSH and returns what it printed.
func tool(t testing.TB, stdin string, name string, args ...string) string {
	t.Helper()
	out, err := tryTool(t, stdin, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func tryTool(t testing.TB, stdin string, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// wantError fails unless err is there and its text has every one of parts.
func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// day is a moment that tests take for now where they can choose.
var day = time.Date(2030, 5, 17, 12, 0, 0, 0, time.UTC)
