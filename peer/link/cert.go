package link

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/pion/webrtc/v3"
)

// newIdentity makes what is fresh for every link: a certificate and key for DTLS, and
// ICE credentials.
func newIdentity(setup Setup) (Description, webrtc.Certificate, error) {
	d := Description{
		Setup: setup,
		Ufrag: randomIceChars(6),  // 48 bits, 8 characters
		Pwd:   randomIceChars(24), // 192 bits, 32 characters
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return d, webrtc.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	// Nobody reads these fields: the certificate is known by its fingerprint. The times
	// leave room for clocks that are wrong.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return d, webrtc.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    now.AddDate(-1, 0, 0),
		NotAfter:     now.AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return d, webrtc.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return d, webrtc.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	d.Fingerprint = sha256.Sum256(der)
	return d, webrtc.CertificateFromX509(key, cert), nil
}

// randomIceChars gives n random bytes, a multiple of 3, in characters that RFC 8839
// allows: those of base64.
func randomIceChars(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawStdEncoding.EncodeToString(b)
}

// binding mixes both descriptions into a value that is fresh for every link and the
// same at both ends.
func binding(dialer, acceptor Description) [32]byte {
	h := sha256.New()
	h.Write([]byte("pairterm link binding v1"))
	for _, d := range []Description{dialer, acceptor} {
		b, err := d.AppendBinary(nil) // self-delimiting
		if err != nil {
			panic("link: binding of an unchecked description: " + err.Error())
		}
		h.Write(b)
	}
	return [32]byte(h.Sum(nil))
}
