package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// How the connection to NATS behaves.
const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second // then the connection counts as lost
	retryEvery   = time.Second
	retryJitter  = time.Second
	pingEvery    = 5 * time.Second
	pingsMissed  = 2 // then the connection counts as lost
)

// NATS is where it is and how to get in. Files are read again for every new
// connection, so that what is in them can be replaced.
type NATS struct {
	URLs []string // nats://, tls://, ws:// or wss://, of the servers of one NATS cluster

	CredsFile string // user JWT and its seed, as nsc makes it
	NKeyFile  string // seed of an nkey
	User      string
	Password  func() (string, error) // of User; may be nil

	CAFile            string // PEM; who vouches for the servers. Default: the system's
	CertFile, KeyFile string // PEM; a client certificate
}

// CheckURL reports what is wrong with a URL of NATS.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err // without the URL, which may hold a password
		}
		return fmt.Errorf("NATS URL: %w", err)
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return fmt.Errorf("NATS URL %q: want nats://HOST:PORT, tls://…, ws://… or wss://…", u.Redacted())
	}
	if u.Hostname() == "" {
		return fmt.Errorf("NATS URL %q: there is no host in it", u.Redacted())
	}
	return nil
}

// Check reads the files, so that what is wrong with them shows at the start.
func (n *NATS) Check() error {
	if len(n.URLs) == 0 {
		return errors.New("no NATS URL")
	}
	for _, u := range n.URLs {
		if err := CheckURL(u); err != nil {
			return err
		}
	}
	_, err := n.options()
	return err
}

// SharedSecret is a secret that replicas have in common if they use the same
// credentials: the seed or the password. It is empty if they have none.
func (n *NATS) SharedSecret() ([]byte, error) {
	switch {
	case n.CredsFile != "":
		b, err := os.ReadFile(n.CredsFile)
		if err != nil {
			return nil, err
		}
		kp, err := nkeys.ParseDecoratedNKey(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.CredsFile, err)
		}
		return kp.Seed()
	case n.NKeyFile != "":
		b, err := os.ReadFile(n.NKeyFile)
		if err != nil {
			return nil, err
		}
		kp, err := nkeys.ParseDecoratedNKey(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.NKeyFile, err)
		}
		return kp.Seed()
	case n.Password != nil:
		p, err := n.Password()
		return []byte(p), err
	}
	for _, s := range n.URLs {
		if u, err := url.Parse(s); err == nil && u.User != nil {
			if p, ok := u.User.Password(); ok {
				return []byte(p), nil
			}
			return []byte(u.User.Username()), nil // a token
		}
	}
	return nil, nil
}

// hasPassword reports whether NATS is sent something that lets others in too.
func (n *NATS) hasPassword() bool {
	return n.Password != nil || slices.ContainsFunc(n.URLs, func(s string) bool {
		u, err := url.Parse(s)
		return err == nil && u.User != nil
	})
}

func isLoopback(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// options are those for nats.go about getting in.
func (n *NATS) options() ([]nats.Option, error) {
	var opts []nats.Option
	switch {
	case n.CredsFile != "":
		opts = append(opts, nats.UserCredentials(n.CredsFile))
	case n.NKeyFile != "":
		o, err := nats.NkeyOptionFromSeed(n.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.NKeyFile, err)
		}
		opts = append(opts, o)
	case n.User != "":
		user, password := n.User, n.Password
		opts = append(opts, nats.UserInfoHandler(func() (string, string) {
			if password == nil {
				return user, ""
			}
			p, _ := password() // if not: refused, and tried again
			return user, p
		}))
	}
	if _, err := n.SharedSecret(); err != nil {
		return nil, err
	}
	var (
		cert nats.TLSCertHandler
		cas  nats.RootCAsHandler
	)
	if n.CertFile != "" {
		cert = func() (tls.Certificate, error) { return tls.LoadX509KeyPair(n.CertFile, n.KeyFile) }
		if _, err := cert(); err != nil {
			return nil, err
		}
	}
	if n.CAFile != "" {
		cas = func() (*x509.CertPool, error) { return readCAs(n.CAFile) }
		if _, err := cas(); err != nil {
			return nil, err
		}
	}
	if cert != nil || cas != nil {
		opts = append(opts, nats.ClientTLSConfig(cert, cas))
	}
	return opts, nil
}

func readCAs(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: no certificate in it (PEM)", file)
	}
	return pool, nil
}

// connect returns a connection that is there or will be, for as long as ctx
// lasts, and a channel that is closed when it has ended for good.
func (c *Cluster) connect(ctx context.Context) (*nats.Conn, <-chan struct{}, error) {
	opts, err := c.opts.options()
	if err != nil {
		return nil, nil, err
	}
	gone := make(chan struct{})
	var failed string // of the callbacks, which come one at a time
	up := func(nc *nats.Conn) {
		failed = ""
		c.counts.connects.Add(1)
		c.connected.Store(true)
		_, terr := nc.TLSConnectionState()
		c.log.Info("connected to NATS", "url", nc.ConnectedUrlRedacted(), "tls", terr == nil)
		if terr != nil && c.opts.hasPassword() && !isLoopback(nc.ConnectedAddr()) {
			c.log.Warn("the password went to NATS unencrypted: use tls://, or an nkey, which is never sent")
		}
		c.noteChange()
	}
	opts = append(opts,
		nats.Name("pairterm signal"),
		nats.Timeout(dialTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(retryEvery),
		nats.ReconnectJitter(retryJitter, retryJitter),
		nats.IgnoreAuthErrorAbort(), // credentials may be put right meanwhile
		nats.ReconnectBufSize(-1),   // what cannot be sent now is of no use later
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(pingsMissed),
		nats.SetCustomDialer(&dialer{ctx: ctx}),
		nats.ConnectHandler(up),
		nats.ReconnectHandler(up),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if text := err.Error(); text != failed {
				failed = text
				c.log.Warn("cannot connect to NATS; trying on", "why", err)
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if !c.connected.Swap(false) {
				return
			}
			if ctx.Err() == nil {
				c.log.Warn("connection to NATS lost; rooms here go on, others cannot be reached", "why", err)
			}
			c.noteChange()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				c.counts.dropped.Add(1)
			}
			c.log.Warn("NATS complains", "why", err)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(gone) }),
	)
	nc, err := nats.Connect(strings.Join(c.opts.URLs, ","), opts...)
	if err != nil {
		return nil, nil, err
	}
	return nc, gone, nil
}

// noteChange wakes the loop.
func (c *Cluster) noteChange() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// dialer dials until ctx ends.
type dialer struct{ ctx context.Context }

// Dial implements [nats.CustomDialer].
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: dialTimeout}
	return nd.DialContext(d.ctx, network, address)
}
