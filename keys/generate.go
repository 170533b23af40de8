package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// KeyType is a type of key pair that [Generate] makes, by ssh-keygen's names.
type KeyType string

const (
	KeyTypeEd25519 KeyType = "ed25519"
	KeyTypeECDSA   KeyType = "ecdsa" // NIST P-256
	KeyTypeRSA     KeyType = "rsa"   // 3,072 bits
)

// rsaBits is the size of new RSA keys; ssh-keygen's default.
const rsaBits = 3072

// ParseKeyType parses the name of a key type.
func ParseKeyType(s string) (KeyType, error) {
	switch t := KeyType(s); t {
	case KeyTypeEd25519, KeyTypeECDSA, KeyTypeRSA:
		return t, nil
	}
	return "", fmt.Errorf("unknown key type %q: there are ed25519, ecdsa and rsa", Printable(s))
}

// ErrExists is wrapped by the error of [Generate] for a file that is there
// already.
var ErrExists = fmt.Errorf("is not overwritten: %w", fs.ErrExist)

// DefaultComment returns the comment that ssh-keygen would give a key made
// here and now: user@host.
func DefaultComment() string {
	name, host := "user", "localhost"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username[strings.LastIndexByte(u.Username, '\\')+1:] // DOMAIN\user on Windows
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		host = h
	}
	return Printable(name + "@" + host)
}

// Generate makes a key pair and writes the private key to path, in OpenSSH
// format and with mode 0600, and the public line to path+".pub" with mode 0644.
// With a passphrase the private key is encrypted; an empty comment stands for
// [DefaultComment]. Missing directories are made, for the owner alone.
//
// Neither file may exist; otherwise the error wraps [ErrExists] and nothing is
// touched. After any other error neither file is left behind.
func Generate(t KeyType, path, comment string, passphrase []byte) (ssh.PublicKey, error) {
	if comment == "" {
		comment = DefaultComment()
	}
	if Printable(comment) != comment {
		return nil, errors.New("the comment has characters that cannot be shown, or is too long")
	}
	for _, p := range []string{path, path + ".pub"} {
		if _, err := os.Lstat(p); err == nil {
			return nil, fmt.Errorf("%s: %w", printablePath(p), ErrExists)
		}
	}
	private, pub, err := newKeyPair(t)
	if err != nil {
		return nil, err
	}
	var block *pem.Block
	if len(passphrase) > 0 {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, comment, passphrase)
	} else {
		block, err = ssh.MarshalPrivateKey(private, comment)
	}
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := writeNew(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	if err := writeNew(path+".pub", []byte(AuthorizedLine(pub, comment)+"\n"), 0o644); err != nil {
		os.Remove(path)
		return nil, err
	}
	return pub, nil
}

func newKeyPair(t KeyType) (private crypto.Signer, pub ssh.PublicKey, err error) {
	switch t {
	case KeyTypeEd25519:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case KeyTypeECDSA:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case KeyTypeRSA:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		_, err = ParseKeyType(string(t))
	}
	if err != nil {
		return nil, nil, err
	}
	pub, err = ssh.NewPublicKey(private.Public())
	return private, pub, err
}

// writeNew writes a file that did not exist, or leaves none.
func writeNew(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", printablePath(path), ErrExists)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
