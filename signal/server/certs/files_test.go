package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/signal/server/certs"
)

// selfSigned is a certificate for the domain, as PEM files hold it.
func selfSigned(t *testing.T, serial int64, ends time.Time) (chain, key []byte) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		DNSNames:     []string{domain},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     ends,
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

type pair struct{ cert, key string }

func (p pair) write(t *testing.T, cert, key []byte) {
	t.Helper()
	for path, data := range map[string][]byte{p.cert: cert, p.key: key} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newPair(t *testing.T, serial int64) (pair, *certs.Files) {
	t.Helper()
	dir := t.TempDir()
	p := pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	cert, key := selfSigned(t, serial, time.Now().Add(time.Hour))
	p.write(t, cert, key)
	f, err := certs.LoadFiles(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

// Certificates are swapped under load without one failed handshake.
func TestFilesSwap(t *testing.T) {
	p, f := newPair(t, 1)
	l := listen(t)
	serve(t, l, http.NotFoundHandler(), f.Config())
	var (
		clients sync.WaitGroup
		stop    atomic.Bool
		mu      sync.Mutex
		seen    = map[int64]int{}
	)
	roots := x509.NewCertPool()
	pemOf := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	roots.AppendCertsFromPEM(pemOf(p.cert))
	next := make([][2][]byte, 5)
	for i := range next {
		next[i][0], next[i][1] = selfSigned(t, int64(i)+2, time.Now().Add(time.Hour))
		roots.AppendCertsFromPEM(next[i][0])
	}
	handshakes := make(chan int64, 1000)
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				cert, err := handshake(l, roots, domain)
				if err != nil {
					t.Errorf("a failed setup: %v", err)
					return
				}
				mu.Lock()
				seen[cert.SerialNumber.Int64()]++
				mu.Unlock()
				select {
				case handshakes <- cert.SerialNumber.Int64():
				default:
				}
			}
		})
	}
	seesUntil := func(want int64) {
		for serial := range handshakes {
			if serial == want {
				return
			}
		}
	}
	seesUntil(1)
	for i, n := range next {
		p.write(t, n[0], n[1])
		if changed, err := f.Load(); !changed || err != nil {
			t.Errorf("Load: %v, %v", changed, err)
		}
		seesUntil(int64(i) + 2)
	}
	stop.Store(true)
	clients.Wait()
	if len(seen) != 6 {
		t.Errorf("clients saw %v, want six certificates", seen)
	}
}

// What does not fit together leaves everything as it was.
func TestFilesKeepTheLastGoodOnes(t *testing.T) {
	p, f := newPair(t, 1)
	expires := f.Expires()
	cert, key := selfSigned(t, 2, time.Now().Add(2*time.Hour))
	old, oldKey := selfSigned(t, 3, time.Now().Add(-time.Minute))
	for name, files := range map[string][2][]byte{
		"another's key":   {cert, oldKey},
		"nothing":         {nil, nil},
		"not PEM":         {[]byte("x"), key},
		"an expired one":  {old, oldKey},
		"the wrong order": {key, cert},
	} {
		p.write(t, files[0], files[1])
		if changed, err := f.Load(); changed || err == nil || !f.Expires().Equal(expires) {
			t.Errorf("%s: changed %v, %v", name, changed, err)
		}
	}
	if err := os.Remove(p.key); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(); err == nil {
		t.Error("a missing file is no error")
	}
	if _, err := certs.LoadFiles(p.cert, p.key); err == nil {
		t.Error("nor one to begin with")
	}
}

func TestFilesWatch(t *testing.T) {
	p, f := newPair(t, 1)
	cert, key := selfSigned(t, 2, time.Now().Add(2*time.Hour))
	want, err := certsEnd(cert)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		type report struct {
			expires time.Time
			err     error
		}
		var reports []report
		ended := make(chan error, 1)
		go func() {
			ended <- f.Watch(ctx, func(expires time.Time, err error) { reports = append(reports, report{expires, err}) })
		}()
		later := func() {
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		later()
		if len(reports) != 0 {
			t.Errorf("nothing has changed: %v", reports)
		}
		p.write(t, cert, nil)
		later()
		if len(reports) != 1 || reports[0].err == nil {
			t.Errorf("half a change: %v", reports)
		}
		p.write(t, cert, key)
		later()
		if len(reports) != 2 || reports[1].err != nil || !reports[1].expires.Equal(want) {
			t.Errorf("a change: %v", reports)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func certsEnd(chain []byte) (time.Time, error) {
	block, _ := pem.Decode(chain)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return cert.NotAfter, nil
}
