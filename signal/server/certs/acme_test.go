package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/signal/acmetest"
	"github.com/pairterm/pairterm/signal/server/certs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(acmetest.Leak),
		// It tidies up after an order, for as long as that takes.
		goleak.IgnoreAnyFunction("golang.org/x/crypto/acme/autocert.(*Manager).deactivatePendingAuthz"))
}

const (
	domain   = "signal.example.test"
	validFor = acmetest.ValidFor
)

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

func options(t *testing.T, ca *acmetest.Authority) certs.ACMEOptions {
	return certs.ACMEOptions{
		Domains:   []string{domain},
		Directory: ca.Directory,
		Email:     "admin@example.test",
		CacheDir:  filepath.Join(t.TempDir(), "acme"),
		KeyID:     acmetest.KeyID,
		Key:       acmetest.Key,
		Transport: ca.Transport,
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
	authority := acmetest.New(t, port(closed), port(l))
	o := options(t, authority)
	o.RenewBefore = validFor - 2*time.Second
	a, err := certs.NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, http.NotFoundHandler(), a.Config())
	if _, err := handshake(l, authority.Roots, domain); err == nil {
		t.Error("a certificate before one was obtained")
	}
	obtain(t, a)
	first, err := handshake(l, authority.Roots, domain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(l, authority.Roots, "other.example.test"); err == nil {
		t.Error("a certificate for a name that is not ours")
	}
	for deadline := time.Now().Add(validFor); ; {
		cert, err := handshake(l, authority.Roots, domain)
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
	if _, err := handshake(l2, authority.Roots, domain); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// Where port 443 is not reachable for the CA, port 80 will do.
func TestACMEOverHTTP(t *testing.T) {
	plain, closed := listen(t), listen(t)
	_ = closed.Close()
	authority := acmetest.New(t, port(plain), port(closed))
	o := options(t, authority)
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
	if _, err := handshake(l, authority.Roots, domain); err != nil {
		t.Error(err)
	}
}

// When the CA does not reach us, the log says what it said about that.
func TestACMESaysWhyNot(t *testing.T) {
	closed := listen(t)
	_ = closed.Close()
	authority := acmetest.New(t, port(closed), port(closed))
	o := options(t, authority)
	said := make(lines, 100)
	o.Logger = slog.New(slog.NewTextHandler(said, nil))
	a, err := certs.NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Obtain(ctx, func() { t.Error("there is no certificate to be had") }) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for _, want := range []string{
		`could not see that the domain is ours" domain=` + domain + ` challenge=tls-alpn-01 why="Failed to connect to 127`,
		`msg="no certificate yet" domain=` + domain,
	} {
		for re := regexp.MustCompile(want); ; {
			select {
			case line := <-said:
				if re.MatchString(line) {
					break
				}
				continue
			case <-time.After(time.Minute):
				t.Fatalf("the log does not say %s", want)
			}
			break
		}
	}
}

// lines is a log.
type lines chan string

// Write implements [io.Writer].
func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// When the clock jumps, for instance since the machine slept, a certificate that
// has ended meanwhile is renewed at once, and not when a timer says so that has slept
// too. No handshake fails.
func TestACMEAfterAClockJump(t *testing.T) {
	l, closed := listen(t), listen(t)
	_ = closed.Close()
	authority := acmetest.New(t, port(closed), port(l))
	o := options(t, authority)
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
	first, err := handshake(l, authority.Roots, domain)
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
		cert, err := handshake(l, authority.Roots, domain)
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
	o := options(t, &acmetest.Authority{Directory: "https://127.0.0.1:1/"})
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
		"a key without id":  {Domains: []string{domain}, Key: acmetest.Key},
		"an id without key": {Domains: []string{domain}, KeyID: acmetest.KeyID},
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
