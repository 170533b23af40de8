package keys_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

const testNamespace = "test@pairterm"

var testMessage = []byte("what both ends derive from their tunnel")

func TestSignVerify(t *testing.T) {
	for _, kind := range goodKinds {
		t.Run(kind, func(t *testing.T) {
			signer := signerOf(t, kind)
			proof, err := keys.Sign(signer, testNamespace, testMessage)
			if err != nil {
				t.Fatal(err)
			}
			pub := signer.PublicKey()
			if err := keys.Verify(pub, testNamespace, testMessage, proof); err != nil {
				t.Fatal(err)
			}
			cert := certify(t, signerOf(t, "ed25519"), pub)
			if err := keys.Verify(cert, testNamespace, testMessage, proof); err != nil {
				t.Errorf("with a certificate: %v", err)
			}

			other := signerOf(t, "ed25519").PublicKey()
			for name, err := range map[string]error{
				"other key":       keys.Verify(other, testNamespace, testMessage, proof),
				"other namespace": keys.Verify(pub, "ssh", testMessage, proof),
				"no namespace":    keys.Verify(pub, "", testMessage, proof),
				"other message":   keys.Verify(pub, testNamespace, testMessage[1:], proof),
				"trailing byte":   keys.Verify(pub, testNamespace, testMessage, append(proof[:len(proof):len(proof)], 0)),
				"cut off":         keys.Verify(pub, testNamespace, testMessage, proof[:len(proof)-1]),
				"no proof":        keys.Verify(pub, testNamespace, testMessage, nil),
				"no key":          keys.Verify(nil, testNamespace, testMessage, proof),
			} {
				if !errors.Is(err, keys.ErrBadProof) {
					t.Errorf("%s: error is %v", name, err)
				}
			}
		})
	}
}

// TestVerifyEveryBit flips each bit of a proof. None may verify.
func TestVerifyEveryBit(t *testing.T) {
	for _, kind := range []string{"ed25519", "sk-ed25519"} {
		signer := signerOf(t, kind)
		proof, err := keys.Sign(signer, testNamespace, testMessage)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(proof) * 8 {
			proof[i/8] ^= 1 << (i % 8)
			if keys.Verify(signer.PublicKey(), testNamespace, testMessage, proof) == nil {
				t.Errorf("%s: proof verifies with bit %d of byte %d flipped", kind, i%8, i/8)
			}
			proof[i/8] ^= 1 << (i % 8)
		}
	}
}

// proofParts mirrors the format of a proof, to make wrong ones.
type proofParts struct {
	Magic     [6]byte
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

func digestOf(name string, message []byte) []byte {
	if name == "sha256" {
		sum := sha256.Sum256(message)
		return sum[:]
	}
	sum := sha512.Sum512(message)
	return sum[:]
}

// resign returns a proof by signer in which change was applied to the frame and
// the raw signature is one that algorithm makes over what the frame then asks.
func resign(t *testing.T, signer ssh.Signer, algorithm string, change func(*proofParts)) []byte {
	t.Helper()
	proof, err := keys.Sign(signer, testNamespace, testMessage)
	if err != nil {
		t.Fatal(err)
	}
	var p proofParts
	if err := ssh.Unmarshal(proof, &p); err != nil {
		t.Fatal(err)
	}
	change(&p)
	if algorithm != "" {
		data := []byte("SSHSIG")
		digest := digestOf(p.Hash, testMessage)
		data = append(data, ssh.Marshal(struct {
			Namespace, Reserved, Hash string
			Digest                    []byte
		}{p.Namespace, p.Reserved, p.Hash, digest})...)
		sig, err := signer.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, data, algorithm)
		if err != nil {
			t.Fatal(err)
		}
		p.Signature = ssh.Marshal(sig)
	}
	return ssh.Marshal(p)
}

func TestVerifyRefuses(t *testing.T) {
	rsa, ed := signerOf(t, "rsa2048"), signerOf(t, "ed25519")
	cert := certify(t, ed, rsa.PublicKey())
	nothing := func(*proofParts) {}
	tests := []struct {
		name  string
		pub   ssh.PublicKey
		proof []byte
		want  string // "" if the proof is good
	}{
		{"rsa-sha2-512", rsa.PublicKey(), resign(t, rsa, ssh.KeyAlgoRSASHA512, nothing), ""},
		{"rsa-sha2-256", rsa.PublicKey(), resign(t, rsa, ssh.KeyAlgoRSASHA256, nothing), ""},
		{"SHA-1", rsa.PublicKey(), resign(t, rsa, ssh.KeyAlgoRSA, nothing), "not accepted"},
		{"SHA-1 under a certificate", cert, resign(t, rsa, ssh.KeyAlgoRSA, func(p *proofParts) { p.PublicKey = cert.Marshal() }), "not accepted"},
		{"certificate in the frame", cert, resign(t, rsa, ssh.KeyAlgoRSASHA512, func(p *proofParts) { p.PublicKey = cert.Marshal() }), ""},
		{"certificate in the frame, plain key wanted", rsa.PublicKey(), resign(t, rsa, ssh.KeyAlgoRSASHA512, func(p *proofParts) { p.PublicKey = cert.Marshal() }), "another key"},
		{"SHA-256 digest", ed.PublicKey(), resign(t, ed, ssh.KeyAlgoED25519, func(p *proofParts) { p.Hash = "sha256" }), "digest"},
		{"unknown digest", ed.PublicKey(), resign(t, ed, "", func(p *proofParts) { p.Hash = "md5\x1b[31m" }), `digest "md5[31m"`},
		{"version 2", ed.PublicKey(), resign(t, ed, "", func(p *proofParts) { p.Version = 2 }), "version 2"},
		{"reserved", ed.PublicKey(), resign(t, ed, ssh.KeyAlgoED25519, func(p *proofParts) { p.Reserved = "x" }), "reserved"},
		{"magic", ed.PublicKey(), resign(t, ed, "", func(p *proofParts) { p.Magic[0] = 'x' }), "not an SSHSIG"},
		{"rest", ed.PublicKey(), resign(t, ed, "", func(p *proofParts) { p.Signature = append(p.Signature, 1) }), "trailing"},
		{"algorithm", ed.PublicKey(), resign(t, ed, "", func(p *proofParts) {
			p.Signature = ssh.Marshal(ssh.Signature{Format: ssh.KeyAlgoRSASHA512, Blob: make([]byte, 64)})
		}), "does not fit"},
		{"too long", ed.PublicKey(), resign(t, ed, "", func(p *proofParts) { p.Signature = make([]byte, 17<<10) }), "too long"},
		{"short RSA key", signerOf(t, "rsa1024").PublicKey(), nil, "1024 bits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := keys.Verify(tt.pub, testNamespace, testMessage, tt.proof)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.want)
			if !errors.Is(err, keys.ErrBadProof) {
				t.Errorf("error %v does not wrap ErrBadProof", err)
			}
		})
	}
}

func TestVerifyWantsPresence(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa256"} {
		k := newToken(t, kind)
		k.flags = 4 // the user was verified but, oddly, not present
		_, err := keys.Sign(k, testNamespace, testMessage)
		wantError(t, err, "user presence")
	}
}

func TestSignRefuses(t *testing.T) {
	_, err := keys.Sign(signerOf(t, "rsa1024"), testNamespace, testMessage)
	if !errors.Is(err, keys.ErrUnsuitableKey) {
		t.Errorf("short RSA key: error is %v", err)
	}
	_, err = keys.Sign(signerOf(t, "ed25519"), "", testMessage)
	wantError(t, err, "namespace")
}

// TestSignForOpenSSH has ssh-keygen verify proofs made here.
func TestSignForOpenSSH(t *testing.T) {
	for _, kind := range goodKinds {
		t.Run(kind, func(t *testing.T) {
			dir, signer := t.TempDir(), signerOf(t, kind)
			proof, err := keys.Sign(signer, testNamespace, testMessage)
			if err != nil {
				t.Fatal(err)
			}
			sig := write(t, filepath.Join(dir, "sig"), string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: proof})))
			signers := write(t, filepath.Join(dir, "signers"), "alice "+line(signer, "")+"\n")
			args := []string{"-Y", "verify", "-f", signers, "-I", "alice", "-n", testNamespace, "-s", sig}
			tool(t, string(testMessage), "ssh-keygen", args...)
			if out, err := tryTool(t, "something else", "ssh-keygen", args...); err == nil {
				t.Errorf("ssh-keygen verifies another message: %s", out)
			}
		})
	}
}

// TestVerifyFromOpenSSH verifies signatures that ssh-keygen made, with keys and
// certificates.
func TestVerifyFromOpenSSH(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			key, authority := filepath.Join(dir, "key"), filepath.Join(dir, "authority")
			tool(t, "", "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key)
			tool(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority)
			tool(t, "", "ssh-keygen", "-q", "-s", authority, "-I", "id", "-n", "alice", key+".pub")
			message := write(t, filepath.Join(dir, "message"), string(testMessage))
			for _, name := range []string{key + ".pub", key + "-cert.pub"} {
				pub, _, err := keys.ParsePublicKey(read(t, name))
				if err != nil {
					t.Fatal(err)
				}
				private := strings.TrimSuffix(name, ".pub")
				if private != key { // signs with the certificate in the frame
					write(t, private, read(t, key))
				}
				tool(t, "y\n", "ssh-keygen", "-q", "-Y", "sign", "-f", private, "-n", testNamespace, message)
				block, _ := pem.Decode([]byte(read(t, message+".sig")))
				if block == nil {
					t.Fatal("ssh-keygen wrote no signature")
				}
				if err := keys.Verify(pub, testNamespace, testMessage, block.Bytes); err != nil {
					t.Errorf("%s: %v", filepath.Base(name), err)
				}
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	signer := signerOf(f, "ed25519")
	proof, err := keys.Sign(signer, testNamespace, testMessage)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proof, false)
	f.Add(proof[:len(proof)-3], true)
	f.Add([]byte("SSHSIG\x00\x00\x00\x01"), true)
	cert := certify(f, signerOf(f, "ed25519"), signer.PublicKey())
	f.Fuzz(func(t *testing.T, data []byte, certified bool) {
		pub := signer.PublicKey()
		if certified {
			pub = cert
		}
		// The key is new in every process, so only the seed can be good.
		if err := keys.Verify(pub, testNamespace, testMessage, data); err == nil && string(data) != string(proof) {
			t.Fatalf("forged proof verifies: %x", data)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"ed25519", "ecdsa256", "rsa2048"} {
		b.Run(kind, func(b *testing.B) {
			signer := signerOf(b, kind)
			proof, err := keys.Sign(signer, testNamespace, testMessage)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := keys.Verify(signer.PublicKey(), testNamespace, testMessage, proof); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
