package keys

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// MinRSABits is the size in bits below which an RSA key is refused, as a
// guest's key, on a list, and as a certificate authority.
const MinRSABits = 2048

// ErrUnsuitableKey is wrapped by every refusal of a key for what it is rather
// than for whose it is: DSA, short RSA, and types this package does not know.
var ErrUnsuitableKey = errors.New("unsuitable key")

// certSuffix ends the type name of every OpenSSH certificate
// (PROTOCOL.certkeys).
const certSuffix = "-cert-v01@openssh.com"

// algoDSA is the type of DSA keys, which are known in order to be refused by
// name.
const algoDSA = "ssh-dss"

// keyTypes are the plain public key formats that are accepted.
var keyTypes = map[string]bool{
	ssh.KeyAlgoED25519:    true,
	ssh.KeyAlgoECDSA256:   true,
	ssh.KeyAlgoECDSA384:   true,
	ssh.KeyAlgoECDSA521:   true,
	ssh.KeyAlgoRSA:        true,
	ssh.KeyAlgoSKED25519:  true,
	ssh.KeyAlgoSKECDSA256: true,
}

// isKeyType tells whether s is the name of a plain key or certificate type
// that stands before the base64 text of a public key line, usable or not.
func isKeyType(s string) bool {
	return keyTypes[s] || s == algoDSA || isCertType(s)
}

func isCertType(s string) bool { return strings.HasSuffix(s, certSuffix) }

// looksLikeKeyType tells whether s has the shape of a key type's name, so that
// a line with a type from the future is called just that.
func looksLikeKeyType(s string) bool {
	for _, prefix := range []string{"ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

func isSecurityKey(pub ssh.PublicKey) bool {
	t := pub.Type()
	return t == ssh.KeyAlgoSKED25519 || t == ssh.KeyAlgoSKECDSA256
}

// Plain returns the key that makes signatures: the certified key if pub is a
// certificate, else pub itself.
func Plain(pub ssh.PublicKey) ssh.PublicKey {
	if cert, ok := pub.(*ssh.Certificate); ok {
		return cert.Key
	}
	return pub
}

// CheckKey returns an error that wraps [ErrUnsuitableKey] unless pub, or the
// key that it certifies, is of a type and size that pairterm accepts. It does
// not look at what else a certificate says; [List.Lookup] does.
func CheckKey(pub ssh.PublicKey) error {
	if pub == nil {
		return fmt.Errorf("%w: no key", ErrUnsuitableKey)
	}
	key := Plain(pub)
	switch t := key.Type(); {
	case t == algoDSA:
		return fmt.Errorf("%w: DSA keys are broken and were dropped from OpenSSH; use ed25519", ErrUnsuitableKey)
	case !keyTypes[t]:
		return fmt.Errorf("%w: type %q is not supported", ErrUnsuitableKey, Printable(t))
	case t == ssh.KeyAlgoRSA:
		bits := 0
		if c, ok := key.(ssh.CryptoPublicKey); ok {
			if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
				bits = r.N.BitLen()
			}
		}
		if bits < MinRSABits {
			return fmt.Errorf("%w: RSA key of %d bits, at least %d are needed", ErrUnsuitableKey, bits, MinRSABits)
		}
	}
	return nil
}

// Equal tells whether a and b are the same key, or the same certificate.
func Equal(a, b ssh.PublicKey) bool {
	if a == nil || b == nil {
		return false
	}
	return string(a.Marshal()) == string(b.Marshal())
}

// Fingerprint returns the SHA256 fingerprint of pub as OpenSSH prints it,
// "SHA256:…". For a certificate it is that of the certified key.
func Fingerprint(pub ssh.PublicKey) string {
	return ssh.FingerprintSHA256(Plain(pub))
}

// Describe returns the fingerprint of pub and, where there is one, the comment
// in parentheses, safe to print on a terminal.
func Describe(pub ssh.PublicKey, comment string) string {
	if comment = Printable(comment); comment != "" {
		return Fingerprint(pub) + " (" + comment + ")"
	}
	return Fingerprint(pub)
}

// AuthorizedLine returns the line, without a newline, that admits pub when it
// is put into an authorized_keys file or given to --allow. For a certificate
// it is the line of the certified key. The comment passes [Printable].
func AuthorizedLine(pub ssh.PublicKey, comment string) string {
	key := Plain(pub)
	line := key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal())
	if comment = Printable(comment); comment != "" {
		line += " " + comment
	}
	return line
}

// ParsePublicKey parses one public key line, "type base64 [comment]", as a
// .pub or -cert.pub file holds it. Lines with options are for
// [ParseAuthorizedKeys]. The key has passed [CheckKey].
func ParsePublicKey(line string) (pub ssh.PublicKey, comment string, err error) {
	line, err = cleanLine(line)
	if err != nil {
		return nil, "", err
	}
	typ, rest := cutField(line)
	if !isKeyType(typ) && !looksLikeKeyType(typ) {
		return nil, "", errNotAKey
	}
	blob, comment := cutField(rest)
	pub, err = parseKeyFields(typ, blob)
	if err != nil {
		return nil, "", err
	}
	return pub, comment, nil
}

var errNotAKey = errors.New(`not a public key (expected "ssh-ed25519 AAAA… comment" or the like)`)

// parseKeyFields decodes the base64 field of a key line and insists that it is
// of the type that the line says. Errors never contain the field.
func parseKeyFields(typ, blob string) (ssh.PublicKey, error) {
	if typ == algoDSA {
		return nil, fmt.Errorf("%w: DSA keys are broken and were dropped from OpenSSH; use ed25519", ErrUnsuitableKey)
	}
	if !keyTypes[typ] && !isCertType(typ) {
		return nil, fmt.Errorf("%w: type %q is not supported", ErrUnsuitableKey, Printable(typ))
	}
	if blob == "" {
		return nil, fmt.Errorf("nothing after the key type %q", typ)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(blob)
	if err != nil {
		return nil, errors.New("the key is cut off or mistyped (not valid base64)")
	}
	pub, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("the key is damaged: %s", Printable(err.Error()))
	}
	if pub.Type() != typ {
		return nil, fmt.Errorf("the line says %q but the key is of type %q", typ, Printable(pub.Type()))
	}
	if err := CheckKey(pub); err != nil {
		return nil, err
	}
	return pub, nil
}
