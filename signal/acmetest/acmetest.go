// Package acmetest is a certificate authority for tests: Let's Encrypt's own,
// Pebble, in this process. It resolves every name to this machine.
package acmetest

import (
	"crypto/x509"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// ValidFor is the lifetime of certificates.
const ValidFor = time.Minute

// KeyID and Key are the external account binding that the authority asks for.
const KeyID = "kid-1"

// Key is 32 bytes.
var Key = []byte("a key of thirty-two bytes, given")

// Leak is the function whose goroutines stay: Pebble has no way to stop its
// validation authority.
const Leak = "github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"

// Authority is a CA.
type Authority struct {
	Directory string            // URL
	Transport http.RoundTripper // that trusts who serves the directory
	Server    *x509.Certificate // who serves it
	Roots     *x509.CertPool    // of the certificates that the CA makes
}

// New starts an authority that validates at these ports of 127.0.0.1, until the
// test ends.
func New(t testing.TB, httpPort, tlsPort int) *Authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	if err := store.AddExternalAccountKeyByID(KeyID, base64.RawURLEncoding.EncodeToString(Key)); err != nil {
		t.Fatal(err)
	}
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "short", ValidityPeriod: uint64(ValidFor / time.Second)},
	})
	validation := va.New(quiet, httpPort, tlsPort, false, resolver(t), store)
	front := wfe.New(quiet, store, validation, issuer, nil, false, true, 1, 1)
	web := httptest.NewTLSServer(front.Handler())
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(issuer.GetRootCert(0).Cert)
	return &Authority{
		Directory: web.URL + wfe.DirectoryPath,
		Transport: web.Client().Transport,
		Server:    web.Certificate(),
		Roots:     roots,
	}
}

// resolver is a DNS server that knows one address.
func resolver(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{
		Listener:          l,
		NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			m := new(dns.Msg).SetReply(r)
			if r.Question[0].Qtype == dns.TypeA {
				m.Answer = []dns.RR{&dns.A{
					Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
					A:   net.IPv4(127, 0, 0, 1),
				}}
			}
			_ = w.WriteMsg(m)
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-ended
	})
	return l.Addr().String()
}
