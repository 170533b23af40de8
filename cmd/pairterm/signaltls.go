package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/signal/server/certs"
)

// acmeOptions is what the flags about ACME say.
type acmeOptions struct {
	directory, email, eabKeyID, eabKeyFile string
}

// serverTLS is where a signaling server's certificates come from. A nil one is
// that of a server without TLS.
type serverTLS struct {
	log      *slog.Logger
	files    *certs.Files // or
	acme     *certs.ACME
	names    []string // for redirects
	obtained atomic.Bool
}

func openTLS(o signalOptions, log *slog.Logger) (*serverTLS, error) {
	t := &serverTLS{log: log, names: o.names}
	switch {
	case (o.cert == "") != (o.key == ""):
		return nil, usage("pairterm signal --tls-cert fullchain.pem --tls-key privkey.pem", "--tls-cert and --tls-key go together")
	case o.cert != "" && len(o.domains) > 0:
		return nil, usage("leave out --domain, and say --name if clients must use that name", "--domain gets a certificate of its own; --tls-cert is one already")
	case o.cert != "":
		var err error
		if t.files, err = certs.LoadFiles(o.cert, o.key); err != nil {
			return nil, fail(exitFile, fmt.Errorf("TLS certificate: %w", err), "both files must be PEM, the certificate's with its whole chain")
		}
	case len(o.domains) > 0:
		dir, err := keys.StateDir()
		if err != nil {
			return nil, err
		}
		co := certs.ACMEOptions{
			Domains:   o.domains,
			Directory: o.acme.directory,
			Email:     o.acme.email,
			CacheDir:  filepath.Join(dir, "acme"),
			KeyID:     o.acme.eabKeyID,
			Logger:    log,
		}
		if o.acme.eabKeyFile != "" {
			text, err := os.ReadFile(o.acme.eabKeyFile)
			if err != nil {
				return nil, fail(exitFile, fmt.Errorf("--acme-eab-key-file: %w", err), "name the file with the key that your CA gave you")
			}
			if co.Key, err = certs.ParseEABKey(string(text)); err != nil {
				return nil, usage("the file must hold nothing but the key, as your CA gave it to you", "--acme-eab-key-file: %w", err)
			}
		}
		if t.acme, err = certs.NewACME(co); err != nil {
			return nil, usage("see: pairterm signal --help", "%w", err)
		}
	default:
		return nil, nil
	}
	return t, nil
}

// ready reports whether there is a certificate to serve with.
func (t *serverTLS) ready() bool { return t == nil || t.acme == nil || t.obtained.Load() }

func (t *serverTLS) config() *tls.Config {
	switch {
	case t == nil:
		return nil
	case t.acme != nil:
		return t.acme.Config()
	}
	return t.files.Config()
}

// run keeps the certificates fresh until ctx ends.
func (t *serverTLS) run(ctx context.Context) error {
	switch {
	case t == nil:
		return nil
	case t.acme != nil:
		return t.acme.Obtain(ctx, func() { t.obtained.Store(true) })
	}
	return t.files.Watch(ctx, t.report)
}

// reload reads certificate files again.
func (t *serverTLS) reload() error {
	if t == nil || t.files == nil {
		return nil
	}
	changed, err := t.files.Load()
	if changed {
		t.report(t.files.Expires(), nil)
	}
	return err
}

func (t *serverTLS) report(expires time.Time, err error) {
	if err != nil {
		t.log.Warn("the certificate stays as it was", "why", err, "until", expires)
		return
	}
	t.log.Info("new certificate", "until", expires)
}

// redirect is what port 80 serves: the CA's challenges, and the way to https.
func (t *serverTLS) redirect() http.Handler {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.ToLower(r.Host)
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if len(t.names) > 0 && !slices.Contains(t.names, host) {
			host = t.names[0]
		}
		http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusMovedPermanently)
	})
	if t.acme != nil {
		return t.acme.Handler(h)
	}
	return h
}
