package keys

import (
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// The wire format is that of OpenSSH's PROTOCOL.sshsig, version 1, unarmored.
// It is spelled out here, on top of x/crypto, because the library for it lets
// an RSA certificate sign and verify with SHA-1, and shutting that and the
// other doors from outside takes as many lines as the format itself.

const (
	sigVersion = 1
	// sigHash is the only message digest made and accepted; ssh-keygen's own
	// default.
	sigHash = "sha512"
	// maxSig bounds a signature blob in bytes. The largest honest one holds a
	// certificate over a 16,384 bit RSA key.
	maxSig = 16 << 10
)

var sigMagic = [6]byte{'S', 'S', 'H', 'S', 'I', 'G'}

// ErrBadProof is wrapped by every error of [Verify]: the signature is damaged,
// was made by another key, for another namespace or over another message, or
// in a way that is not accepted.
var ErrBadProof = errors.New("proof of possession does not hold")

// sigBlob is a whole signature.
type sigBlob struct {
	Magic     [6]byte
	Version   uint32 // sigVersion
	PublicKey []byte // wire format of a key or certificate
	Namespace string
	Reserved  string // empty
	Hash      string // sigHash
	Signature []byte // string format, string blob; for sk- types then flags and counter
}

// sigTBS is what the key signs.
type sigTBS struct {
	Magic     [6]byte
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

func toBeSigned(namespace string, message []byte) []byte {
	digest := sha512.Sum512(message)
	return ssh.Marshal(sigTBS{sigMagic, namespace, "", sigHash, digest[:]})
}

// signatureAlgorithm returns the algorithm that proofs by pub are made with.
func signatureAlgorithm(pub ssh.PublicKey) string {
	if t := Plain(pub).Type(); t != ssh.KeyAlgoRSA {
		return t
	}
	return ssh.KeyAlgoRSASHA512
}

// Sign returns a proof that the holder of signer's private key signed message
// within namespace: a binary SSHSIG blob for [Verify] (or, once armored, for
// "ssh-keygen -Y verify"). RSA keys sign with rsa-sha2-512. If signer holds a
// certificate, the proof is made by, and carries, the certified key.
func Sign(signer ssh.Signer, namespace string, message []byte) ([]byte, error) {
	return sign(signer.PublicKey(), namespace, message, func(data []byte) (*ssh.Signature, error) {
		if s, ok := signer.(ssh.AlgorithmSigner); ok {
			return s.SignWithAlgorithm(rand.Reader, data, signatureAlgorithm(signer.PublicKey()))
		}
		return signer.Sign(rand.Reader, data)
	})
}

// sign wraps the raw signature that do makes into a proof, and verifies it, so
// that an agent's misbehaviour shows here and not as a refusal at the far end.
func sign(pub ssh.PublicKey, namespace string, message []byte, do func([]byte) (*ssh.Signature, error)) ([]byte, error) {
	if err := CheckKey(pub); err != nil {
		return nil, err
	}
	if namespace == "" {
		return nil, errors.New("a proof needs a namespace")
	}
	sig, err := do(toBeSigned(namespace, message))
	if err != nil {
		return nil, err
	}
	proof := ssh.Marshal(sigBlob{
		Magic:     sigMagic,
		Version:   sigVersion,
		PublicKey: Plain(pub).Marshal(),
		Namespace: namespace,
		Hash:      sigHash,
		Signature: ssh.Marshal(sig),
	})
	if err := Verify(pub, namespace, message, proof); err != nil {
		return nil, fmt.Errorf("the signature just made is not usable: %w", err)
	}
	return proof, nil
}

// Verify checks that proof is an SSHSIG signature over message within
// namespace by pub, or, if pub is a certificate, by the key that it certifies.
// It says nothing about who pub is or whether the certificate is any good.
//
// Accepted are SHA-512 message digests, for RSA the algorithms rsa-sha2-512
// and rsa-sha2-256, and for the sk- types only signatures that assert the
// user's presence. Errors wrap [ErrBadProof].
func Verify(pub ssh.PublicKey, namespace string, message, proof []byte) error {
	if err := CheckKey(pub); err != nil {
		return fmt.Errorf("%w: %w", ErrBadProof, err)
	}
	if namespace == "" {
		return fmt.Errorf("%w: no namespace", ErrBadProof)
	}
	sig, err := parseProof(pub, namespace, proof)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadProof, err)
	}
	if err := Plain(pub).Verify(toBeSigned(namespace, message), sig); err != nil {
		return fmt.Errorf("%w: %s", ErrBadProof, Printable(err.Error()))
	}
	return nil
}

// parseProof takes proof apart and checks everything but the signature itself.
func parseProof(pub ssh.PublicKey, namespace string, proof []byte) (*ssh.Signature, error) {
	if len(proof) > maxSig {
		return nil, fmt.Errorf("signature of %d bytes is too long", len(proof))
	}
	var b sigBlob
	if err := ssh.Unmarshal(proof, &b); err != nil {
		return nil, errors.New("not an SSHSIG signature")
	}
	switch {
	case b.Magic != sigMagic:
		return nil, errors.New("not an SSHSIG signature")
	case b.Version != sigVersion:
		return nil, fmt.Errorf("SSHSIG version %d is not supported", b.Version)
	case string(b.PublicKey) != string(pub.Marshal()) && string(b.PublicKey) != string(Plain(pub).Marshal()):
		return nil, errors.New("signed by another key")
	case b.Namespace != namespace:
		return nil, fmt.Errorf("signed for namespace %q instead of %q", Printable(b.Namespace), namespace)
	case b.Reserved != "":
		return nil, errors.New("reserved field is not empty")
	case b.Hash != sigHash:
		return nil, fmt.Errorf("message digest %q is not accepted", Printable(b.Hash))
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(b.Signature, &sig); err != nil {
		return nil, errors.New("damaged signature")
	}
	key := Plain(pub)
	switch key.Type() {
	case ssh.KeyAlgoRSA:
		// A public key of type ssh-rsa would also verify the SHA-1 algorithm
		// that shares its name.
		if sig.Format != ssh.KeyAlgoRSASHA512 && sig.Format != ssh.KeyAlgoRSASHA256 {
			return nil, fmt.Errorf("signature algorithm %q is not accepted", Printable(sig.Format))
		}
	default:
		if sig.Format != key.Type() {
			return nil, fmt.Errorf("signature algorithm %q does not fit the key", Printable(sig.Format))
		}
	}
	if len(sig.Rest) > 0 && !isSecurityKey(key) {
		return nil, errors.New("trailing bytes after the signature")
	}
	return &sig, nil
}
