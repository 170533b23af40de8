package certs

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEOptions says how certificates are got by ACME (RFC 8555).
type ACMEOptions struct {
	Domains   []string // one at least
	Directory string   // URL of the CA's directory; empty: Let's Encrypt
	Email     string   // for the CA, may be empty
	CacheDir  string   // keeps the account's key and the certificates; private, made if need be

	// KeyID and Key are the external account binding that a company's CA may
	// ask for; empty: none.
	KeyID string
	Key   []byte

	Transport http.RoundTripper // for talking to the CA; nil: the default one
	Logger    *slog.Logger      // nil: nothing is logged
	// RenewBefore is how long before their end certificates are renewed; 0: a
	// third of their lifetime, at most 30 days.
	RenewBefore time.Duration

	// Now is the time of day; nil: [time.Now].
	Now func() time.Time
	// CheckEvery is how often it is looked at for jumps; 0: five minutes.
	CheckEvery time.Duration
}

// ACME gets certificates by itself, and renews them.
type ACME struct {
	// Set once.
	options  ACMEOptions // with defaults
	client   *acme.Client
	domains  []string
	log      *slog.Logger
	obtained map[string]*atomic.Bool // by domain

	manager atomic.Pointer[autocert.Manager]
	http01  atomic.Bool // Handler serves port 80
	stopped atomic.Bool // no more requests to the CA
}

// ParseEABKey decodes the key of an external account binding as CAs hand it
// out: base64url, with padding or without.
func ParseEABKey(text string) ([]byte, error) {
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(text), "="))
	if err != nil || len(key) == 0 {
		return nil, errors.New("the key of the external account binding is not base64url")
	}
	return key, nil
}

// NewACME returns what gets certificates for the domains. It starts nothing;
// using it means to accept the CA's terms of service.
func NewACME(o ACMEOptions) (*ACME, error) {
	if len(o.Domains) == 0 {
		return nil, errors.New("ACME without a domain")
	}
	if (o.KeyID == "") != (len(o.Key) == 0) {
		return nil, errors.New("an external account binding takes both a key id and a key")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = 5 * time.Minute
	}
	a := &ACME{options: o, log: o.Logger, obtained: make(map[string]*atomic.Bool)}
	for _, d := range o.Domains {
		d = strings.ToLower(strings.TrimSuffix(d, "."))
		a.domains = append(a.domains, d)
		a.obtained[d] = new(atomic.Bool)
	}
	base := o.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	a.client = &acme.Client{
		DirectoryURL: o.Directory,
		HTTPClient:   &http.Client{Transport: &caTransport{a, base}, Timeout: 30 * time.Second},
		UserAgent:    "pairterm",
	}
	a.manager.Store(a.newManager())
	return a, nil
}

// newManager makes a manager that knows what is in the cache and nothing else.
func (a *ACME) newManager() *autocert.Manager {
	o := &a.options
	m := &autocert.Manager{
		Prompt:      autocert.AcceptTOS,
		Cache:       autocert.DirCache(o.CacheDir),
		HostPolicy:  autocert.HostWhitelist(a.domains...),
		Email:       o.Email,
		RenewBefore: o.RenewBefore,
		Client:      a.client,
	}
	if o.KeyID != "" {
		m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: o.KeyID, Key: o.Key}
	}
	if a.http01.Load() {
		m.HTTPHandler(nil) // says that port 80 is served
	}
	return m
}

// Config uses the certificates, and answers the CA's TLS-ALPN-01 challenges
// (RFC 8737).
func (a *ACME) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: a.certificate,
		NextProtos:     []string{"http/1.1", acme.ALPNProto},
	}
}

// certificate answers the CA's challenges, and clients with what Obtain has
// got: strangers cannot make us order certificates, or fail so often that the CA
// will not listen. Clients that dialled an address get the first domain's, and
// may complain about the name.
func (a *ACME) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(h.SupportedProtos, acme.ALPNProto) {
		return a.manager.Load().GetCertificate(h)
	}
	name := strings.ToLower(strings.TrimSuffix(h.ServerName, "."))
	if name == "" {
		name = a.domains[0]
	}
	got := a.obtained[name]
	if got == nil || !got.Load() {
		return nil, fmt.Errorf("no certificate for %.100q", name)
	}
	return a.manager.Load().GetCertificate(hello(name))
}

// Handler answers the CA's HTTP-01 challenges (RFC 8555, section 8.3) on port
// 80; everything else is for fallback.
func (a *ACME) Handler(fallback http.Handler) http.Handler {
	a.http01.Store(true)
	a.manager.Load().HTTPHandler(nil)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.manager.Load().HTTPHandler(fallback).ServeHTTP(w, r)
	})
}

// firstRetry and longestRetry are waits between attempts at a first
// certificate. CAs allow only so many failures an hour, and autocert remembers
// one for a minute.
const (
	firstRetry   = 70 * time.Second
	longestRetry = 15 * time.Minute
)

// Obtain gets a certificate for every domain, so that what is wrong shows now
// and not when the first guest comes, and calls ready. What fails it logs and
// tries again. The servers for the challenges must run. It returns nil when
// ctx ends; until then certificates are renewed in time.
func (a *ACME) Obtain(ctx context.Context, ready func()) error {
	defer context.AfterFunc(ctx, func() { a.stopped.Store(true) })()
	wait := firstRetry
	for _, domain := range a.domains {
		for {
			cert, err := a.manager.Load().GetCertificate(hello(domain))
			if err == nil {
				a.obtained[domain].Store(true)
				a.log.Info("certificate", "domain", domain, "until", cert.Leaf.NotAfter)
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			a.log.Error("no certificate yet", "domain", domain, "why", err, "retry", wait,
				"hint", fmt.Sprintf("%s must lead to this machine, and the CA must reach its port 443 or 80", domain))
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return nil
			}
			wait = min(2*wait, longestRetry)
		}
	}
	ready()
	a.watchClock(ctx)
	return nil
}

// clockJump is by how much the time of day must get ahead of the clock that only
// counts, between two checks, to have jumped.
const clockJump = time.Minute

// watchClock sees to certificates whose renewal would come too late, until ctx
// ends. The manager renews by timers, which stand still while the machine sleeps and
// do not know of a clock that was put right; one that starts afresh
// counts from the time of day.
func (a *ACME) watchClock(ctx context.Context) {
	tick := time.NewTicker(a.options.CheckEvery)
	defer tick.Stop()
	jumped := false
	for day, counted := a.options.Now().Round(0), time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := a.options.Now().Round(0) // without its monotonic reading
		jumped = jumped || now.Sub(day)-time.Since(counted) > clockJump
		day, counted = now, time.Now()
		if jumped {
			jumped = !a.startAfresh()
		}
	}
}

// startAfresh reports whether a manager that has every certificate in good order
// has taken the place of the present one. Until then that goes on, and answers the
// CA's challenges too, which the two have in common through the cache.
func (a *ACME) startAfresh() bool {
	m := a.newManager()
	for _, domain := range a.domains {
		cert, err := m.GetCertificate(hello(domain))
		if err != nil {
			a.log.Error("the clock has jumped, and the certificate cannot be renewed", "domain", domain, "why", err, "retry", a.options.CheckEvery)
			return false
		}
		a.log.Info("certificate, after the clock has jumped", "domain", domain, "until", cert.Leaf.NotAfter)
	}
	a.manager.Store(m)
	return true
}

// hello is what a client of today says, who can do ECDSA.
func hello(domain string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        domain,
		SupportedVersions: []uint16{tls.VersionTLS13},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
}
