package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// finder collects identities. It is used by one goroutine.
type finder struct {
	options IdentityOptions
	agent   *agentClient
	inAgent []agentKey // what the agent holds
	found   []Identity
	skipped []error
}

func (f *finder) warn(err error) {
	if f.options.Warn != nil {
		f.options.Warn(err)
	}
}

func (f *finder) skip(what string, err error) {
	f.skipped = append(f.skipped, fmt.Errorf("%s: %w", printablePath(what), err))
}

// index returns where pub stands among the identities found, or -1.
func (f *finder) index(pub ssh.PublicKey) int {
	return slices.IndexFunc(f.found, func(id Identity) bool { return Equal(id.Public(), pub) })
}

func (f *finder) has(pub ssh.PublicKey) bool { return f.index(pub) >= 0 }

// listAgent asks the agent for its keys. Only an error of ctx is one.
func (f *finder) listAgent(ctx context.Context) error {
	if f.agent == nil {
		return nil
	}
	held, unusable, err := f.agent.list(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		f.skip("ssh-agent", err)
	}
	for _, err := range unusable {
		f.skip("ssh-agent", err)
	}
	for _, k := range held {
		if cert, ok := k.pub.(*ssh.Certificate); ok {
			if err := checkOwnCert(cert); err != nil {
				f.skip("ssh-agent", err)
				continue
			}
		}
		f.inAgent = append(f.inAgent, k)
	}
	return nil
}

// addAgent adds all keys of the agent, certificates before their plain keys.
func (f *finder) addAgent(ctx context.Context) error {
	if err := f.listAgent(ctx); err != nil {
		return err
	}
	for _, k := range f.inAgent {
		f.addAgentCerts(Plain(k.pub))
		if _, ok := k.pub.(*ssh.Certificate); !ok && !f.has(k.pub) {
			f.found = append(f.found, f.agent.identity(k))
		}
	}
	return nil
}

// addAgentCerts adds the agent's certificates for a plain key.
func (f *finder) addAgentCerts(plain ssh.PublicKey) {
	for _, k := range f.inAgent {
		if cert, ok := k.pub.(*ssh.Certificate); ok && Equal(cert.Key, plain) {
			f.addCert(cert, f.agent.identity(k))
		}
	}
}

// addCert adds a certificate, in front of its plain key if that is there.
func (f *finder) addCert(cert *ssh.Certificate, id Identity) {
	if f.has(cert) {
		return
	}
	at := len(f.found)
	if i := f.index(cert.Key); i >= 0 {
		at = i
	}
	f.found = slices.Insert(f.found, at, id)
}

// fromAgent returns the agent's identity for a plain key, or nil.
func (f *finder) fromAgent(pub ssh.PublicKey) Identity {
	for _, k := range f.inAgent {
		if Equal(k.pub, pub) {
			return f.agent.identity(k)
		}
	}
	for _, k := range f.inAgent {
		if Equal(Plain(k.pub), pub) { // added to the agent as a certificate only
			return &presented{f.agent.identity(k), pub}
		}
	}
	return nil
}

// open returns the identity of a private key file. If the agent holds the key,
// the agent signs: it needs no passphrase, and for a file that refers to a
// security key it is the only one that can.
func (f *finder) open(path string) (Identity, error) {
	id, err := openKeyFile(path, f.options.Prompt)
	var onToken *securityKeyError
	switch {
	case errors.As(err, &onToken):
		if held := f.fromAgent(onToken.pub); held != nil {
			return held, nil
		}
	case err == nil:
		if held := f.fromAgent(id.Public()); held != nil {
			return held, nil
		}
	}
	return id, err
}

// addFile adds the key in a private key file, if there is one, and its
// certificate.
func (f *finder) addFile(path string) {
	id, err := f.open(path)
	switch {
	case err == nil:
		f.addWithCert(id, path+"-cert.pub")
	case !errors.Is(err, fs.ErrNotExist):
		f.skip(path, err)
	}
}

// addWithCert adds a plain identity after the certificates for it, in the agent
// and in the file certPath if there is one.
func (f *finder) addWithCert(id Identity, certPath string) {
	f.addAgentCerts(id.Public())
	cert, err := readCert(certPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.skip(certPath, err)
	case !Equal(cert.Key, id.Public()):
		f.skip(certPath, errors.New("the certificate is for another key"))
	default:
		f.addCert(cert, &presented{id, cert})
	}
	if !f.has(id.Public()) {
		f.found = append(f.found, id)
	}
}

// readCert reads a user certificate that is valid by now's clock.
func readCert(path string) (*ssh.Certificate, error) {
	pub, _, err := readPublicFile(path)
	if err != nil {
		return nil, err
	}
	cert, ok := pub.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("is not a certificate")
	}
	return cert, checkOwnCert(cert)
}

// checkOwnCert tells why a certificate of our own is not worth offering.
func checkOwnCert(cert *ssh.Certificate) error {
	if cert.CertType != ssh.UserCert {
		return errors.New("the certificate is not a user certificate")
	}
	if cert.ValidBefore != ssh.CertTimeInfinity && !time.Now().Before(unixTime(cert.ValidBefore)) {
		return fmt.Errorf("the certificate expired at %s", unixTime(cert.ValidBefore).Format(time.DateTime))
	}
	return nil
}

// readPublicFile reads a .pub or -cert.pub file.
func readPublicFile(path string) (ssh.PublicKey, string, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, "", err
	}
	return parsePublicFile(data)
}

func parsePublicFile(data []byte) (ssh.PublicKey, string, error) {
	data, err := listText(data)
	if err != nil {
		return nil, "", err
	}
	line, rest, _ := bytes.Cut(bytes.TrimSpace(data), []byte("\n"))
	if len(rest) > 0 {
		return nil, "", errors.New("holds more than one line; one public key is expected")
	}
	return ParsePublicKey(string(line))
}

// named returns the identities of the key that a file names.
func (f *finder) named(ctx context.Context, file string) ([]Identity, error) {
	if err := f.listAgent(ctx); err != nil {
		return nil, err
	}
	path, err := expandHome(file)
	if err == nil {
		err = f.addNamed(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printablePath(file), err)
	}
	for _, err := range f.skipped {
		f.warn(err)
	}
	return f.found, nil
}

func (f *finder) addNamed(path string) error {
	data, err := readKeyFile(path)
	if err != nil {
		return err
	}
	if isPrivateKey(data) {
		id, err := f.open(path)
		if err == nil {
			f.addWithCert(id, path+"-cert.pub")
		}
		return err
	}
	pub, _, err := parsePublicFile(data)
	if err != nil {
		return err
	}
	id, err := f.privateHalf(path, Plain(pub))
	if err != nil {
		return err
	}
	cert, ok := pub.(*ssh.Certificate)
	if !ok {
		f.addWithCert(id, strings.TrimSuffix(path, ".pub")+"-cert.pub")
		return nil
	}
	if err := checkOwnCert(cert); err != nil {
		return err
	}
	f.found = []Identity{&presented{id, cert}, id}
	return nil
}

// privateHalf finds what can sign for the public key that stands in path.
func (f *finder) privateHalf(path string, pub ssh.PublicKey) (Identity, error) {
	if id := f.fromAgent(pub); id != nil {
		return id, nil
	}
	base, ok := strings.CutSuffix(path, "-cert.pub")
	if !ok {
		base, ok = strings.CutSuffix(path, ".pub")
	}
	if !ok {
		return nil, errors.New("is a public key whose private half is not in the agent")
	}
	id, err := openKeyFile(base, f.options.Prompt)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the private half is neither in the agent nor in %s", printablePath(base))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", printablePath(base), err)
	case !Equal(id.Public(), pub):
		return nil, fmt.Errorf("%s holds another key", printablePath(base))
	}
	return id, nil
}
