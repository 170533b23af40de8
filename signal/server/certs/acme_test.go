package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/signal/server/certs"
)

func TestMain(m *testing.M) {
	// Pebble, the CA of the tests, has no way to stop its validation authority.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"))
}

const (
	domain   = "signal.example.test"
	eabKeyID = "kid-1"
	validFor = time.Minute // of the CA's certificates
)

var eabKey = []byte("a key of thirty-two bytes, given")

// authority is a CA that resolves every name to this machine.
type authority struct {
	directory string
	transport http.RoundTripper
	roots     *x509.CertPool
}

func newAuthority(t *testing.T, httpPort, tlsPort int) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	if err := store.AddExternalAccountKeyByID(eabKeyID, base64.RawURLEncoding.EncodeToString(eabKey)); err != nil {
		t.Fatal(err)
	}
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "short", ValidityPeriod: uint64(validFor / time.Second)},
	})
	validation := va.New(quiet, httpPort, tlsPort, false, resolver(t), store)
	front := wfe.New(quiet, store, validation, issuer, nil, false, true, 1, 1)
	web := httptest.NewTLSServer(front.Handler())
	t.Cleanup(web.Close)
	pool := x509.NewCertPool()
	pool.AddCert(issuer.GetRootCert(0).Cert)
	return &authority{directory: web.URL + wfe.DirectoryPath, transport: web.Client().Transport, roots: pool}
}

// resolver is a DNS server that knows one address.
func resolver(t *testing.T) string {
	t.Helper()
	l := listen(t)
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

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// serve serves with the configuration until the test ends.
func serve(t *testing.T, l net.Listener, h http.Handler, config *tls.Config) {
	t.Helper()
	hs := &http.Server{Handler: h, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() {
		if config == nil {
			ended <- hs.Serve(l)
			return
		}
		ended <- hs.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		_ = hs.Close()
		<-ended
	})
}

// obtain runs Obtain until the test ends, and returns when there is a certificate.
func obtain(t *testing.T, a *certs.ACME) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- a.Obtain(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Obtain: %v", err)
		}
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("no certificate within a minute")
	}
}

func (ca *authority) options(t *testing.T) certs.ACMEOptions {
	return certs.ACMEOptions{
		Domains:   []string{domain},
		Directory: ca.directory,
		Email:     "admin@example.test",
		CacheDir:  filepath.Join(t.TempDir(), "acme"),
		KeyID:     eabKeyID,
		Key:       eabKey,
		Transport: ca.transport,
	}
}

// handshake returns the certificate that a client accepted.
func handshake(l net.Listener, roots *x509.CertPool, name string) (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0], nil
}

// A certificate is had over TLS-ALPN-01 with an external account binding, is
// renewed while clients come and go, of whom none fails, and is still there after
// a restart.
func TestACME(t *testing.T) {
	l, closed := listen(t), listen(t)
	_ = closed.Close()
	authority := newAuthority(t, port(closed), port(l))
	o := authority.options(t)
	o.RenewBefore = validFor - 2*time.Second
	a, err := certs.NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, http.NotFoundHandler(), a.Config())
	if _, err := handshake(l, authority.roots, domain); err == nil {
		t.Error("a certificate before one was obtained")
	}
	obtain(t, a)
	first, err := handshake(l, authority.roots, domain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(l, authority.roots, "other.example.test"); err == nil {
		t.Error("a certificate for a name that is not ours")
	}
	for deadline := time.Now().Add(validFor); ; {
		cert, err := handshake(l, authority.roots, domain)
		if err != nil {
			t.Fatalf("while renewing: %v", err)
		}
		if cert.SerialNumber.Cmp(first.SerialNumber) != 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the certificate was not renewed")
		}
	}

	// The cache is private, and enough to start with: this CA is gone.
	info, err := os.Stat(o.CacheDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("cache directory: %v, %v", info.Mode(), err)
	}
	o.RenewBefore = time.Second
	o.Directory = "https://127.0.0.1:1/"
	again, err := certs.NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	l2 := listen(t)
	serve(t, l2, http.NotFoundHandler(), again.Config())
	obtain(t, again)
	if _, err := handshake(l2, authority.roots, domain); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// Where port 443 is not reachable for the CA, port 80 will do.
func TestACMEOverHTTP(t *testing.T) {
	plain, closed := listen(t), listen(t)
	_ = closed.Close()
	authority := newAuthority(t, port(plain), port(closed))
	o := authority.options(t)
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	a, err := certs.NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	challenges := a.Handler(http.NotFoundHandler())
	serve(t, plain, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = domain // real CAs use port 80 and leave it out
		challenges.ServeHTTP(w, r)
	}), nil)
	obtain(t, a)
	l := listen(t)
	serve(t, l, http.NotFoundHandler(), a.Config())
	if _, err := handshake(l, authority.roots, domain); err != nil {
		t.Error(err)
	}
}

// When the clock jumps, for instance since the machine slept, a certificate that
// has ended meanwhile is renewed at once, and not when a timer says so that has slept
// too. No handshake fails.
func TestACMEAfterAClockJump(t *testing.T) {
	l, closed := listen(t), listen(t)
	_ = closed.Close()
	authority := newAuthority(t, port(closed), port(l))
	o := authority.options(t)
	o.RenewBefore = time.Second
	var ahead atomic.Int64
	o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	o.CheckEvery = 10 * time.Millisecond
	a, err := certs.NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, http.NotFoundHandler(), a.Config())
	obtain(t, a)
	first, err := handshake(l, authority.roots, domain)
	if err != nil {
		t.Fatal(err)
	}
	// The manager has no clock that a test could put forward; to it, a
	// certificate that has ended is as good as none.
	if err := os.Remove(filepath.Join(o.CacheDir, domain)); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(2 * validFor))
	for deadline := time.Now().Add(validFor / 2); ; {
		cert, err := handshake(l, authority.roots, domain)
		if err != nil {
			t.Fatal(err)
		}
		if cert.SerialNumber.Cmp(first.SerialNumber) != 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the certificate was not renewed")
		}
	}
}

// A CA that cannot be had does not keep the server from ending.
func TestACMEEnds(t *testing.T) {
	o := (&authority{directory: "https://127.0.0.1:1/"}).options(t)
	a, err := certs.NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Obtain(ctx, func() { t.Error("there is no certificate to be had") }); err != nil {
		t.Error(err)
	}
}

func TestACMEOptions(t *testing.T) {
	for name, o := range map[string]certs.ACMEOptions{
		"no domain":         {},
		"a key without id":  {Domains: []string{domain}, Key: eabKey},
		"an id without key": {Domains: []string{domain}, KeyID: eabKeyID},
	} {
		if _, err := certs.NewACME(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, s := range []string{"AQID", "AQI=", " AQID\n"} {
		if _, err := certs.ParseEABKey(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "no key", "a+b/"} {
		if _, err := certs.ParseEABKey(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}
