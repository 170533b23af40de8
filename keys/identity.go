package keys

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Identity is a key that the person at this machine can prove to hold. It is
// safe for concurrent use.
type Identity interface {
	// Public returns the public key or certificate.
	Public() ssh.PublicKey
	// Comment returns the key's comment, or "". Show it through Printable.
	Comment() string
	// Source tells where the private key is: "agent" or the path of a file.
	Source() string
	// Sign returns a proof for [Verify] over message within namespace. It may
	// ask for a passphrase or wait for a touch, as long as ctx allows.
	Sign(ctx context.Context, namespace string, message []byte) (proof []byte, err error)
}

// SourceAgent is what [Identity.Source] returns for keys in ssh-agent.
const SourceAgent = "agent"

// ErrNoIdentity is wrapped by the error of [Identities] when there is none.
var ErrNoIdentity = errors.New("no SSH key found")

// NoIdentityError tells what was looked at in vain. It wraps [ErrNoIdentity].
type NoIdentityError struct {
	// Skipped are the keys and agents that exist but cannot be used, and why.
	Skipped []error
}

// Error names what was skipped, one a line.
func (e *NoIdentityError) Error() string {
	var b strings.Builder
	b.WriteString(ErrNoIdentity.Error())
	for _, err := range e.Skipped {
		b.WriteString("\n")
		b.WriteString(err.Error())
	}
	return b.String()
}

// Unwrap returns ErrNoIdentity and the reasons.
func (e *NoIdentityError) Unwrap() []error { return append([]error{ErrNoIdentity}, e.Skipped...) }

// Prompt asks the person at this machine for a secret, without echo.
type Prompt func(ctx context.Context, prompt string) ([]byte, error)

// IdentityOptions says where [Identities] looks and whom it asks.
type IdentityOptions struct {
	// File, if not empty, is the one key to use: a private key, a public key
	// or a certificate. The private half of the latter two is in the agent or
	// in the file beside it, without ".pub" or "-cert.pub".
	File string

	// Agent is the path of the agent's socket; "" stands for $SSH_AUTH_SOCK
	// and "none" for no agent, as in ssh's IdentityAgent.
	Agent string

	// Prompt asks for the passphrase of an encrypted private key file, when
	// that key is to sign. Without it such keys cannot sign.
	Prompt Prompt

	// Warn, if set, is told of keys and agents that are there but cannot be
	// used, while others can.
	Warn func(error)
}

// defaultFiles are the names of the keys in ~/.ssh that are used, in order.
var defaultFiles = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// OwnKeyPath returns the path of pairterm's own private key, id_ed25519 in
// [ConfigDir]. It need not exist.
func OwnKeyPath() (string, error) {
	dir, err := ConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "id_ed25519"), nil
}

// Identities returns the keys that can be offered to a peer, the preferred
// first. With a File that is this key alone. Otherwise, as a user of ssh
// expects, it is all of these, each key once:
//
//  1. the keys in ssh-agent, in the agent's order;
//  2. id_ed25519, id_ecdsa and id_rsa in ~/.ssh;
//  3. pairterm's own key, see [OwnKeyPath].
//
// Each key that has a certificate, in the agent or in FILE-cert.pub, is
// preceded by the certificate. A key file whose key the agent holds is signed
// for by the agent. Nothing is decrypted and nobody is asked anything yet.
//
// Keys that [CheckKey] refuses, private key files that others can read, expired
// certificates and agents that do not answer are left out and told to Warn. If
// nothing is left the error is a [*NoIdentityError].
func Identities(ctx context.Context, o IdentityOptions) ([]Identity, error) {
	f := finder{options: o, agent: newAgentClient(o.Agent)}
	if o.File != "" {
		return f.named(ctx, o.File)
	}
	if err := f.addAgent(ctx); err != nil {
		return nil, err
	}
	if home, err := os.UserHomeDir(); err == nil {
		for _, name := range defaultFiles {
			f.addFile(filepath.Join(home, ".ssh", name))
		}
	}
	if own, err := OwnKeyPath(); err == nil {
		f.addFile(own)
	}
	if len(f.found) == 0 {
		return nil, &NoIdentityError{f.skipped}
	}
	for _, err := range f.skipped {
		f.warn(err)
	}
	return f.found, nil
}

// NewIdentity returns an identity of a key that is in memory already.
func NewIdentity(signer ssh.Signer, comment, source string) (Identity, error) {
	if err := CheckKey(signer.PublicKey()); err != nil {
		return nil, err
	}
	return &memoryIdentity{described{signer.PublicKey(), comment, source}, signer}, nil
}

// described holds what every identity tells about itself.
type described struct {
	pub             ssh.PublicKey
	comment, source string
}

func (d *described) Public() ssh.PublicKey { return d.pub }
func (d *described) Comment() string       { return d.comment }
func (d *described) Source() string        { return d.source }

type memoryIdentity struct {
	described
	signer ssh.Signer
}

func (id *memoryIdentity) Sign(_ context.Context, namespace string, message []byte) ([]byte, error) {
	return Sign(id.signer, namespace, message)
}

// presented is an identity under another of its public keys: a certificate for
// which the identity of the plain key signs, or the other way round.
type presented struct {
	Identity
	pub ssh.PublicKey
}

func (p *presented) Public() ssh.PublicKey { return p.pub }
