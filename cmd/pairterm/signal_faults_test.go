//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// A server that has no file descriptors left says so, goes on for those whom it
// has, and takes others again as soon as it can.
func TestSignalFullFileTable(t *testing.T) {
	p := startSignal(t, []string{"NOFILE=64"}, nil, "--listen", "127.0.0.1:0", "--stun", "none", "--open")
	addr := p.says(`signaling on (127[0-9.:]+)`)[1]
	host, err := registerAs(t, "ws://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	meet(t, "ws://"+addr, host)

	var crowd []net.Conn
	defer func() {
		for _, c := range crowd {
			_ = c.Close()
		}
	}()
	for range 100 {
		c, err := net.Dial("tcp", addr) // the kernel accepts
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
	}
	p.says(`cannot accept connections.*too many open files`)
	for _, c := range crowd {
		_ = c.Close()
	}
	meet(t, "ws://"+addr, host)
	if _, err := registerAs(t, "ws://"+addr); err != nil {
		t.Error(err)
	}
	if code := p.end(syscall.SIGTERM); code != 143 {
		t.Errorf("exit status %d", code)
	}
}

// meet sets up a pipe to a host and sends something through it.
func meet(t *testing.T, url string, host *signal.Registration) {
	t.Helper()
	guest, pipe := signaltest.Pair(t, url, host)
	signaltest.Exchange(t, guest, pipe, signaltest.RandomBytes(1000))
	_ = guest.Close()
	_ = pipe.Close()
}

// echoingHost is in its room whenever it can be and sends back what guests send.
func echoingHost(t *testing.T, url string) signal.Room {
	t.Helper()
	key := signaltest.NewKey(t)
	l, err := signal.NewListener(key, []string{url}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { _ = l.Run(ctx) })
	work.Go(func() { signaltest.Echo(ctx, l) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	return signaltest.RoomOf(key)
}

// A server whose sockets systemd keeps may be restarted, and killed at any
// moment, while hosts and guests come and go: whoever connects is never refused, no
// guest is told that its host is not there, and what a server that has been
// killed had begun is all that is lost. Hosts come back by themselves.
func TestSignalRestartsUnderLoad(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	url := "ws://" + l.Addr().String()
	_ = l.Close()
	defer func() { _ = file.Close() }()
	start := func() *signalProcess { return startSignal(t, nil, []*os.File{file}, "--stun", "none", "--open") }

	server := start()
	rooms := make([]signal.Room, 6)
	for i := range rooms {
		rooms[i] = echoingHost(t, url)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var (
		guests sync.WaitGroup
		met    atomic.Int64
		slowly atomic.Bool // hosts take longer to come back than their guests are kept
	)
	defer guests.Wait()
	defer cancel()
	progress := make(chan struct{}, 1)
	for i := range 6 {
		// Each has an address of its own, and with it limits of its own.
		opts := &signal.Options{DialContext: dialTo(l.Addr().String(), 127, 0, 1, byte(i))}
		guests.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				c, _, err := signal.Dial(ctx, url, rooms[n%len(rooms)], opts)
				if err == nil {
					_ = c.SetDeadline(time.Now().Add(30 * time.Second))
					err = signaltest.Transfer(c, c, signaltest.RandomBytes(1000))
					_ = c.Close()
				}
				switch {
				case err == nil:
					met.Add(1)
					select {
					case progress <- struct{}{}:
					default:
					}
					continue
				case errors.Is(err, signal.ErrNoRoom) && slowly.Load():
				case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, signal.ErrNoRoom), errors.Is(err, os.ErrDeadlineExceeded):
					t.Errorf("a guest: %v", err)
				}
				select {
				case <-time.After(50 * time.Millisecond): // so that limits on addresses do not matter
				case <-ctx.Done():
				}
			}
		})
	}
	// meets waits until guests have met hosts n times more.
	meets := func(n int64) {
		t.Helper()
		late := time.After(time.Minute)
		for until := met.Load() + n; met.Load() < until; {
			select {
			case <-progress:
			case <-late:
				t.Fatalf("guests have met hosts %d times and do so no more", met.Load())
			}
		}
	}
	meets(50)
	for i, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		meets(int64(1 + 7*i)) // some while hosts are still on their way back
		slowly.Store(i >= 3)  // from a server that they lose again and again
		if code := server.end(sig); sig == syscall.SIGTERM && code != 143 {
			t.Errorf("exit status %d", code)
		}
		server = start()
	}
	for range rooms {
		meets(50)
	}
}

// Certificates change while guests and hosts set up connections, of which none
// fails; and what does not fit together changes nothing.
func TestSignalCertificatesSwap(t *testing.T) {
	live := t.TempDir()
	roots := x509.NewCertPool()
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var chains, keys [4][]byte
	for i := range chains {
		cert, key, _ := localhostCertificate(t)
		chains[i], keys[i] = read(cert), read(key)
		roots.AppendCertsFromPEM(chains[i])
	}
	cert, key := filepath.Join(live, "cert.pem"), filepath.Join(live, "key.pem")
	replaceFile(t, cert, string(chains[0]))
	replaceFile(t, key, string(keys[0]))
	p := startSignal(t, nil, nil, "--listen", "127.0.0.1:0", "--stun", "none", "--open", "--tls-cert", cert, "--tls-key", key)
	addr := p.says(`signaling on (127[0-9.:]+)`)[1]
	_, port, _ := net.SplitHostPort(addr)
	url := "wss://localhost:" + port

	ctx, cancel := context.WithCancel(t.Context())
	var guests sync.WaitGroup
	defer guests.Wait()
	defer cancel()
	progress := make(chan struct{})
	for i := range 4 {
		opts := &signal.Options{TLS: &tls.Config{RootCAs: roots}, DialContext: dialTo(addr, 127, 0, 1, byte(i))}
		guests.Go(func() {
			for ctx.Err() == nil {
				err := setup(ctx, url, opts)
				if err != nil && ctx.Err() == nil {
					t.Errorf("a setup failed: %v", err)
				}
				select {
				case progress <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	}
	sets := func(n int) {
		for range n {
			<-progress
		}
	}
	sets(10)
	for i := 1; i < len(chains); i++ {
		replaceFile(t, cert, string(chains[i]))
		sets(3)
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.says(`what could not be read stays as it was`)
		replaceFile(t, key, string(keys[i]))
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.says(`new certificate`)
		sets(10)
	}
}

// setup registers a host, brings a guest to it and ends both.
func setup(ctx context.Context, url string, opts *signal.Options) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	host, err := signal.Register(ctx, url, key, opts)
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }()
	guest, _, err := signal.Dial(ctx, url, host.Info().Room, opts)
	if err != nil {
		return err
	}
	defer func() { _ = guest.Close() }()
	pipe, err := host.Accept(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = pipe.Close() }()
	return signaltest.Transfer(guest, pipe, signaltest.RandomBytes(1000))
}
