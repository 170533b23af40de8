// Package certs is where a signaling server's TLS certificates come from:
// [Files], which somebody else renews, or [ACME], which gets and renews its own.
// Either changes certificates under load: connections that stand keep what they
// have, new ones get the new certificate, and none fails.
package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// watchEvery is how often files are looked at. It is by reading and comparing,
// which follows edits, renames and the swapped links of mounted secrets alike.
const watchEvery = 5 * time.Second

// Files is a certificate chain and a private key in two PEM files. Its methods
// are safe for concurrent use.
type Files struct {
	certPath, keyPath string
	current           atomic.Pointer[tls.Certificate]

	mu  sync.Mutex
	sum [sha256.Size]byte // guarded by mu; of what the last Load read
}

// LoadFiles reads the two files.
func LoadFiles(certPath, keyPath string) (*Files, error) {
	f := &Files{certPath: certPath, keyPath: keyPath}
	if _, err := f.Load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Load reads the files again, if they have changed. What does not fit together,
// or has expired, is an error and changes nothing.
func (f *Files) Load() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chain, err := os.ReadFile(f.certPath)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(f.keyPath)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(bytes.Join([][]byte{chain, key}, []byte{0}))
	if sum == f.sum {
		return false, nil
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return false, fmt.Errorf("%s and %s: %w", f.certPath, f.keyPath, err)
	}
	if f.current.Load() != nil && time.Now().After(cert.Leaf.NotAfter) {
		return false, fmt.Errorf("%s: has expired on %s", f.certPath, cert.Leaf.NotAfter.Format(time.DateTime))
	}
	f.sum = sum
	f.current.Store(&cert)
	return true, nil
}

// Expires is when the certificate in use does.
func (f *Files) Expires() time.Time { return f.current.Load().Leaf.NotAfter }

// Config is a configuration that always uses the files as last loaded.
func (f *Files) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current.Load(), nil },
	}
}

// Watch loads the files whenever they change, until ctx ends. It tells report
// of every change, and once of every different reason for which one could not
// be made: in the moment between the change of one file and the other's there
// may be one.
func (f *Files) Watch(ctx context.Context, report func(expires time.Time, err error)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		changed, err := f.Load()
		switch {
		case err != nil && err.Error() != last:
			last = err.Error()
			report(f.Expires(), err)
		case err == nil:
			last = ""
		}
		if changed {
			report(f.Expires(), nil)
		}
	}
}
