package cluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/server/cluster"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// All that a replica may do in NATS: what is below its cluster's name.
var own = &natsserver.Permissions{
	Publish:   &natsserver.SubjectPermission{Allow: []string{"pairterm.>"}},
	Subscribe: &natsserver.SubjectPermission{Allow: []string{"pairterm.>"}},
}

func write(t *testing.T, name string, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// authority is a certificate authority of the test's.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue returns files with a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "replica"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func newNKey(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public string, seed []byte) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	if seed, err = pair.Seed(); err != nil {
		t.Fatal(err)
	}
	return pair, public, seed
}

// TestAccess gets in by every way that there is, with no right but to what is
// below the cluster's name, and not with other credentials. What replicas share
// as credentials serves as their secret.
func TestAccess(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	serverCert, serverKey := ca.issue(t)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	mutualTLS := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	clientCert, clientKey := ca.issue(t)

	_, nkeyPublic, nkeySeed := newNKey(t, nkeys.CreateUser)
	_, _, otherSeed := newNKey(t, nkeys.CreateUser)
	password := func(p string) func() (string, error) { return func() (string, error) { return p, nil } }

	operator, operatorPublic, _ := newNKey(t, nkeys.CreateOperator)
	account, accountPublic, _ := newNKey(t, nkeys.CreateAccount)
	accountJWT, err := jwt.NewAccountClaims(accountPublic).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	resolver := new(natsserver.MemAccResolver)
	if err := resolver.Store(accountPublic, accountJWT); err != nil {
		t.Fatal(err)
	}
	creds := func() string {
		_, public, seed := newNKey(t, nkeys.CreateUser)
		claims := jwt.NewUserClaims(public)
		claims.Pub.Allow.Add("pairterm.>")
		claims.Sub.Allow.Add("pairterm.>")
		userJWT, err := claims.Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		b, err := jwt.FormatUserConfig(userJWT, seed)
		if err != nil {
			t.Fatal(err)
		}
		return write(t, "user.creds", b)
	}

	for name, tt := range map[string]struct {
		server      natsserver.Options
		right       cluster.NATS
		wrong       cluster.NATS
		secret      bool // follows from the credentials
		whyNot      string
		serverIsTLS bool
	}{
		"password": {
			server: natsserver.Options{Users: []*natsserver.User{{Username: "me", Password: "right", Permissions: own}}},
			right:  cluster.NATS{User: "me", Password: password("right")},
			wrong:  cluster.NATS{User: "me", Password: password("wrong")},
			secret: true,
			whyNot: "Authorization",
		},
		"nkey": {
			server: natsserver.Options{Nkeys: []*natsserver.NkeyUser{{Nkey: nkeyPublic, Permissions: own}}},
			right:  cluster.NATS{NKeyFile: write(t, "user.nk", nkeySeed)},
			wrong:  cluster.NATS{NKeyFile: write(t, "user.nk", otherSeed)},
			secret: true,
			whyNot: "Authorization",
		},
		"creds": {
			server: natsserver.Options{TrustedKeys: []string{operatorPublic}, AccountResolver: resolver},
			right:  cluster.NATS{CredsFile: creds()},
			secret: true,
			whyNot: "Authorization",
		},
		"tls": {
			server:      natsserver.Options{TLSConfig: serverTLS, TLSTimeout: 10},
			right:       cluster.NATS{CAFile: ca.file},
			wrong:       cluster.NATS{CAFile: newAuthority(t).file},
			whyNot:      "x509",
			serverIsTLS: true,
		},
		"client certificate": {
			server:      natsserver.Options{TLSConfig: mutualTLS, TLSVerify: true, TLSTimeout: 10},
			right:       cluster.NATS{CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey},
			wrong:       cluster.NATS{CAFile: ca.file},
			whyNot:      "tls",
			serverIsTLS: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.server.Port = -1
			url := natsOn(t, tt.server).ClientURL()
			options := func(n cluster.NATS) cluster.Options {
				n.URLs = []string{url}
				if err := n.Check(); err != nil {
					t.Fatal(err)
				}
				secret, err := n.SharedSecret()
				if err != nil || (len(secret) > 0) != tt.secret {
					t.Errorf("the secret is %d bytes long, %v", len(secret), err)
				}
				return cluster.Options{NATS: n, Secret: secret}
			}
			a, b := startWith(t, options(tt.right), server.Config{}), startWith(t, options(tt.right), server.Config{})
			waitFor(t, func() bool { return a.cluster.Stats().Peers == 1 && b.cluster.Stats().Peers == 1 })
			g, h := pairAt(t, a, b)
			signaltest.Exchange(t, g, h, []byte("hello"))
			for _, r := range []*replica{a, b} {
				if r.log.has("NATS complains") {
					t.Errorf("it asked for more than it may:\n%s", r.log)
				}
				if want := "tls=true"; r.log.has(want) != tt.serverIsTLS {
					t.Errorf("%s: %v", want, r.log.has(want))
				}
			}
			if tt.whyNot == "" || tt.wrong.User+tt.wrong.NKeyFile+tt.wrong.CAFile == "" {
				return
			}
			c := startWith(t, options(tt.wrong), server.Config{})
			waitFor(t, func() bool { return c.log.has("cannot connect to NATS") })
			if !c.log.has(tt.whyNot) {
				t.Errorf("why not is not said:\n%s", c.log)
			}
			if c.cluster.Ready() {
				t.Error("it got in with other credentials")
			}
		})
	}
}

// Who may not say or hear what a replica must is not ready, and says why.
func TestNoRights(t *testing.T) {
	t.Parallel()
	none := &natsserver.Permissions{
		Publish:   &natsserver.SubjectPermission{Allow: []string{"pairterm.>"}},
		Subscribe: &natsserver.SubjectPermission{Deny: []string{">"}},
	}
	url := natsOn(t, natsserver.Options{Port: -1, Users: []*natsserver.User{{Username: "me", Password: "right", Permissions: none}}}).ClientURL()
	o := cluster.Options{NATS: cluster.NATS{URLs: []string{url}, User: "me", Password: func() (string, error) { return "right", nil }}}
	r := startWith(t, o, server.Config{})
	waitFor(t, func() bool { return r.log.has("does not come back") })
	if !r.log.has("connected to NATS") || !r.log.has("ermissions") {
		t.Errorf("why not is not said:\n%s", r.log)
	}
	if got := readyz(t, r); got != "cut off from the other servers" {
		t.Errorf("/readyz says %q", got)
	}
}

// pairAt is a guest at one replica and its host at another.
func pairAt(t *testing.T, at, from *replica) (guest, host net.Conn) {
	t.Helper()
	return pair(t, from, register(t, at, signaltest.NewKey(t)))
}
