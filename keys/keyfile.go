package keys

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/crypto/ssh"
)

const (
	// maxKeyFile bounds a key file in bytes.
	maxKeyFile = 1 << 20
	// passphraseTries is how often a passphrase is asked for, as ssh does.
	passphraseTries = 3
)

var (
	// ErrPassphraseNeeded: the key is encrypted and there is nobody to ask, or
	// nothing was answered.
	ErrPassphraseNeeded = errors.New("the key is encrypted and its passphrase is needed")
	// ErrWrongPassphrase: the right passphrase was not among three given.
	ErrWrongPassphrase = errors.New("wrong passphrase")
)

// ModeError is the refusal of a private key file that others can read.
type ModeError struct {
	Path string
	Mode fs.FileMode
}

// Error says what is wrong and what sets it right.
func (e *ModeError) Error() string {
	return fmt.Sprintf("permissions %#o are too open for a private key (chmod 600 %s)", e.Mode.Perm(), printablePath(e.Path))
}

// securityKeyError is returned for a file that refers to a FIDO security key.
type securityKeyError struct{ pub ssh.PublicKey }

func (e *securityKeyError) Error() string {
	return "the key is on a security key, which is used through ssh-agent (ssh-add FILE)"
}

// fileIdentity is a private key file. The private key is read, and if need be
// decrypted, when it is first to sign.
type fileIdentity struct {
	described
	prompt Prompt

	// turn holds the signer once there is one, and lets one goroutine at a
	// time ask for the passphrase. It is a channel and not a mutex because
	// asking takes as long as a person does, and must end with the context.
	turn chan ssh.Signer // of capacity one, never empty but while being used
}

// openKeyFile returns the identity of a private key file, having read only its
// public half.
func openKeyFile(path string, prompt Prompt) (Identity, error) {
	data, err := readPrivateFile(path)
	if err != nil {
		return nil, err
	}
	beside, comment, besideErr := readPublicFile(path + ".pub")
	pub, err := publicHalf(data)
	if errors.Is(err, errPublicUnknown) {
		if besideErr != nil {
			return nil, fmt.Errorf(`encrypted in an old format that hides its public key, and %s.pub is not usable; convert it with "ssh-keygen -p -f %[1]s"`, printablePath(path))
		}
		pub, err = beside, nil
	}
	if err != nil {
		return nil, err
	}
	if err := CheckKey(pub); err != nil {
		return nil, err
	}
	if besideErr != nil || !Equal(beside, pub) {
		comment = ""
	}
	id := &fileIdentity{described: described{pub, comment, path}, prompt: prompt, turn: make(chan ssh.Signer, 1)}
	id.turn <- nil
	return id, nil
}

// readPrivateFile reads a private key file that nobody else can read.
func readPrivateFile(path string) ([]byte, error) {
	return readRegular(path, func(info fs.FileInfo) error {
		if openToOthers(info) {
			return &ModeError{path, info.Mode()}
		}
		return nil
	})
}

// readKeyFile reads a public or private key file without looking at its mode.
func readKeyFile(path string) ([]byte, error) {
	return readRegular(path, func(fs.FileInfo) error { return nil })
}

// readRegular reads a regular file, of the size that a key can have, if check
// finds nothing wrong with the open file.
func readRegular(path string, check func(fs.FileInfo) error) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, plainPathError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	if err := check(info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, plainPathError(err)
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("is too long for a key (over %d KiB)", maxKeyFile>>10)
	}
	return data, nil
}

// errPublicUnknown says that a private key's public half is encrypted with it.
var errPublicUnknown = errors.New("public key unknown")

// opensshMagic begins a private key in OpenSSH's format (PROTOCOL.key).
const opensshMagic = "openssh-key-v1\x00"

// publicHalf returns the public key of a private key file's text without
// decrypting anything.
func publicHalf(data []byte) (ssh.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("is not a private key in OpenSSH or PEM format")
	}
	switch block.Type {
	case "OPENSSH PRIVATE KEY":
		return opensshPublic(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New(`is an encrypted PKCS #8 file, which is not supported; convert it with "ssh-keygen -p -f FILE"`)
	}
	key, err := ssh.ParseRawPrivateKey(data)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		return nil, errPublicUnknown
	}
	if err != nil {
		return nil, errors.New("is damaged or of an unknown kind")
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnsuitableKey, Printable(err.Error()))
	}
	return signer.PublicKey(), nil
}

// opensshPublic reads the public key in front of an OpenSSH private key.
func opensshPublic(data []byte) (ssh.PublicKey, error) {
	errDamaged := errors.New("is a damaged OpenSSH private key")
	if len(data) < len(opensshMagic) || string(data[:len(opensshMagic)]) != opensshMagic {
		return nil, errDamaged
	}
	var head struct {
		Cipher, KDF, KDFOptions string
		Keys                    uint32
		Public                  []byte
		Rest                    []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(data[len(opensshMagic):], &head); err != nil || head.Keys != 1 {
		return nil, errDamaged
	}
	pub, err := ssh.ParsePublicKey(head.Public)
	if err != nil {
		return nil, errDamaged
	}
	if isSecurityKey(pub) {
		return nil, &securityKeyError{pub}
	}
	return pub, nil
}

// Sign signs, after asking for the passphrase if the file is encrypted and this
// is the first time.
func (id *fileIdentity) Sign(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	var signer ssh.Signer
	select {
	case signer = <-id.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var err error
	if signer == nil {
		signer, err = id.open(ctx)
	}
	id.turn <- signer
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printablePath(id.source), err)
	}
	return Sign(signer, namespace, message)
}

// open reads the private key.
func (id *fileIdentity) open(ctx context.Context) (ssh.Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // nobody is to be asked on behalf of a caller who left
	}
	data, err := readPrivateFile(id.source)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		signer, err = id.decrypt(ctx, data)
	} else if err != nil {
		err = fmt.Errorf("is damaged: %s", Printable(err.Error()))
	}
	if err != nil {
		return nil, err
	}
	if !Equal(signer.PublicKey(), id.pub) {
		return nil, fmt.Errorf("the private key is not that of the public key %s", Fingerprint(id.pub))
	}
	return signer, nil
}

// decrypt asks for the passphrase.
func (id *fileIdentity) decrypt(ctx context.Context, data []byte) (ssh.Signer, error) {
	if id.prompt == nil {
		return nil, ErrPassphraseNeeded
	}
	prompt := fmt.Sprintf("Passphrase for %s: ", printablePath(id.source))
	for try := 1; try <= passphraseTries; try++ {
		if try > 1 {
			prompt = fmt.Sprintf("Wrong passphrase. Passphrase for %s (%d of %d): ", printablePath(id.source), try, passphraseTries)
		}
		passphrase, err := id.prompt(ctx, prompt)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPassphraseNeeded, err)
		}
		if len(passphrase) == 0 {
			return nil, fmt.Errorf("%w: none was given", ErrPassphraseNeeded)
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(data, passphrase)
		clear(passphrase)
		switch {
		case err == nil:
			return signer, nil
		case errors.Is(err, x509.IncorrectPasswordError):
		case !isOpenSSHFormat(data):
			// The old format has no proper check of the passphrase: with a
			// wrong one its content is noise, and so are the errors about it.
		default:
			return nil, fmt.Errorf("cannot be decrypted: %s", Printable(err.Error()))
		}
	}
	return nil, ErrWrongPassphrase
}

func isOpenSSHFormat(data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && block.Type == "OPENSSH PRIVATE KEY"
}
