package link

import (
	"crypto/tls"
	"crypto/x509"
)

// TrustRelays makes a transport trust TURN servers with certificates by these.
func TrustRelays(t *Transport, roots *x509.CertPool) {
	t.relayTLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
