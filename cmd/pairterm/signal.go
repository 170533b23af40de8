package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	ossignal "os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/server/cluster"
	"github.com/pairterm/pairterm/signal/server/metrics"
	"github.com/pairterm/pairterm/signal/stun"
	"github.com/pairterm/pairterm/term"
)

// signalOptions is what `pairterm signal` was asked to do.
type signalOptions struct {
	listen, http, stun, metrics string
	names, domains              []string
	cert, key                   string
	acme                        acmeOptions
	keys                        []string
	guests, open                bool
	proxies                     server.Proxies
	stunPublic                  server.STUN
	nats                        natsOptions
	json, full, verbose         bool
}

// signalServer is `pairterm signal` at work.
type signalServer struct {
	ui   *ui
	opts signalOptions
	log  *slog.Logger

	sockets *sockets
	gate    *gate
	tls     *serverTLS
	server  *server.Server
	cluster *cluster.Cluster // nil: alone
	stun    *stun.Server
}

// runSignal serves until ctx ends or SIGINT or SIGTERM asks for an end in good
// order; a second one ends it at once.
func runSignal(ctx context.Context, ui *ui, o signalOptions) error {
	ctx, release := untilSignalled(ctx)
	defer release()
	s := &signalServer{ui: ui, opts: o, log: newServerLog(ui, o)}
	if err := s.open(ctx); err != nil {
		if s.sockets != nil {
			s.sockets.close()
		}
		return err
	}
	if err := s.serve(ctx); err != nil {
		return err
	}
	return signalled(ctx)
}

// untilSignalled returns a context that SIGINT or SIGTERM ends, with a
// [term.SignalError] for a cause. From then on they have their usual effect.
func untilSignalled(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	caught := make(chan os.Signal, 1)
	ossignal.Notify(caught, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case sig := <-caught:
			cancel(&term.SignalError{Signal: sig.(syscall.Signal)})
		case <-ctx.Done():
		}
		ossignal.Stop(caught)
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// open checks what was asked for and opens all that can fail to open.
func (s *signalServer) open(ctx context.Context) error {
	var err error
	if s.tls, err = openTLS(s.opts, s.log); err != nil {
		return err
	}
	if s.gate, err = openGate(ctx, s.opts, s.log); err != nil {
		return err
	}
	if s.cluster, err = openCluster(s.opts, s.log); err != nil {
		return err
	}
	if s.sockets, err = openSockets(ctx, s.opts); err != nil {
		return err
	}
	if s.gate == nil && !s.opts.open {
		if why := publicly(s.opts, s.sockets.signaling); why != "" {
			return usage("name who may host, with --authorized-keys FILE (or github:NAME); or serve everybody, within limits, with --open",
				"without a list of keys everybody could use this server, %s", why)
		}
	}
	cfg := server.Config{
		Names:         s.opts.names,
		Proxies:       s.opts.proxies,
		FullAddresses: s.opts.full,
		Logger:        s.log,
		STUN:          s.opts.stunPublic,
		Returning:     returnWithin,
		Ready:         s.tls.ready,
		TLS:           s.tls.config(),
		Gate:          s.gate.config(s.opts.guests),
	}
	if s.cluster != nil {
		cfg.Cluster = s.cluster
	}
	if len(s.sockets.stun) > 0 {
		s.stun = stun.New(stun.Limits{})
		if len(cfg.STUN.Ports) == 0 {
			cfg.STUN.Ports = s.sockets.stunPorts()
		}
	}
	s.server = server.New(cfg)
	return nil
}

// serve runs everything until ctx ends.
func (s *signalServer) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	// The cluster outlives the server, whose pipes may finish.
	clusterCtx, leave := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer leave()
		return s.server.Run(ctx, s.sockets.signaling...)
	})
	if s.cluster != nil {
		g.Go(func() error { return s.cluster.Run(clusterCtx) })
	}
	if s.stun != nil {
		g.Go(func() error { return s.stun.Run(ctx, s.sockets.stun...) })
	}
	if l := s.sockets.http; l != nil {
		g.Go(func() error {
			return s.serveHTTP(ctx, l, s.tls.redirect())
		})
	}
	if l := s.sockets.metrics; l != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", metrics.Handler(s.server, s.stun))
		g.Go(func() error { return s.serveHTTP(ctx, l, mux) })
	}
	g.Go(func() error { return s.gate.run(ctx) })
	g.Go(func() error { return s.tls.run(ctx) })
	g.Go(func() error { return s.reloads(ctx) })
	g.Go(func() error { return s.watchdog(ctx) })
	s.announce()
	g.Go(func() error {
		notifyService(daemon.SdNotifyReady)
		<-ctx.Done()
		notifyService(daemon.SdNotifyStopping)
		return nil
	})
	return g.Wait()
}

// reloads reloads keys and certificates at every SIGHUP.
func (s *signalServer) reloads(ctx context.Context) error {
	for hup := hangups(ctx); ; {
		select {
		case <-hup:
		case <-ctx.Done():
			return nil
		}
		notifyService(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
		err := errors.Join(s.gate.reload(ctx), s.tls.reload())
		if err != nil {
			s.log.Error("reload: what could not be read stays as it was", "why", err)
		} else {
			s.log.Info("reloaded")
		}
		notifyService(daemon.SdNotifyReady)
	}
}

// watchdog tells systemd, if it wants to know, that the server still answers.
func (s *signalServer) watchdog(ctx context.Context) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		s.server.Stats() // takes the lock that everything takes; stuck, it never returns
		notifyService(daemon.SdNotifyWatchdog)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// notifyService tells systemd how we are, if it started us.
func notifyService(state string) {
	_, _ = daemon.SdNotify(false, state) // nobody there, or nobody listens
}

// announce says where the server is, and the line that its users need.
func (s *signalServer) announce() {
	say := s.ui.infof
	if s.opts.json {
		say = func(format string, args ...any) { s.log.Info(fmt.Sprintf(format, args...)) }
	}
	for _, l := range s.sockets.signaling {
		say("signaling on %s", l.Addr())
	}
	for _, c := range s.sockets.stun {
		say("answering STUN on %s/udp", c.LocalAddr())
	}
	if len(s.sockets.stun) == 1 {
		s.log.Warn("STUN is answered on one port only: clients cannot tell what kind of NAT they are behind")
	}
	if s.sockets.metrics != nil {
		say("metrics on http://%s/metrics", s.sockets.metrics.Addr())
	}
	if s.cluster != nil {
		say("one of the servers that meet as %q in NATS", s.opts.nats.name)
	}
	switch {
	case s.gate == nil:
		say("everybody may use it")
	case s.opts.guests:
		say("who hosts or joins needs one of %d keys", s.gate.list.Current().Len())
	default:
		say("who hosts needs one of %d keys", s.gate.list.Current().Len())
	}
	say("hosts use it with: pairterm host --signal %s …", s.url())
}

// url is by which clients most likely reach the server; behind a proxy only the
// operator knows.
func (s *signalServer) url() string {
	l := s.sockets.signaling[0]
	scheme := "ws"
	if s.tls != nil {
		scheme = "wss"
	}
	if len(s.opts.names) == 0 {
		return scheme + strings.TrimPrefix(server.LocalURLs(l)[0], "ws")
	}
	name := s.opts.names[0]
	if len(s.opts.proxies.Trusted) > 0 {
		return "wss://" + name
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil || port == "443" && s.tls != nil || port == "80" && s.tls == nil || strings.Contains(name, ":") {
		return scheme + "://" + name
	}
	return scheme + "://" + net.JoinHostPort(name, port)
}

// newServerLog logs to the ui.
func newServerLog(ui *ui, o signalOptions) *slog.Logger {
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	ho := &slog.HandlerOptions{Level: level}
	if o.json {
		return slog.New(slog.NewJSONHandler(lineWriter{ui}, ho))
	}
	return slog.New(slog.NewTextHandler(lineWriter{ui}, ho))
}

// publicly says why strangers can reach a server, empty if they cannot.
func publicly(o signalOptions, ls []net.Listener) string {
	switch {
	case len(o.domains) > 0:
		return "at " + o.domains[0]
	case len(o.proxies.Trusted) > 0:
		return "through the proxy"
	}
	for _, l := range ls {
		tcp, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			continue
		}
		if !link.IsPrivate(tcp.AddrPort().Addr().Unmap()) {
			return "which listens on " + l.Addr().String()
		}
	}
	return ""
}

// returnWithin is how long after a restart hosts are waited for on behalf of
// their guests: the few hosts of the usual server are back after two seconds.
const returnWithin = 5 * time.Second

// httpConnections bounds the connections of port 80, and of the metrics.
const httpConnections = 256

// serveHTTP serves what is not signaling, until ctx ends.
func (s *signalServer) serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	hs := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          server.ErrorLog(s.log, s.opts.full),
	}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() })
	defer stop()
	if err := hs.Serve(netutil.LimitListener(l, httpConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
	}
	return nil
}

// parseSTUNPublic parses what clients are told of a STUN server: HOST:PORT, or
// HOST:PORT,PORT.
func parseSTUNPublic(s string) (server.STUN, error) {
	if s == "" {
		return server.STUN{}, nil
	}
	first, second, two := strings.Cut(s, ",")
	host, portText, err := net.SplitHostPort(first)
	pub := server.STUN{Host: host}
	texts := []string{portText}
	if two {
		texts = append(texts, second)
	}
	for _, text := range texts {
		port, perr := strconv.ParseUint(text, 10, 16)
		if err != nil || perr != nil || port == 0 {
			return server.STUN{}, usage("for example: --stun-public stun.example.org:3478,3479", "--stun-public %q: want HOST:PORT or HOST:PORT,PORT", s)
		}
		pub.Ports = append(pub.Ports, uint16(port))
	}
	return pub, nil
}

// signalled returns the cause of ctx's end if that was a signal, so that the
// program exits as one that a signal ended; nil otherwise.
func signalled(ctx context.Context) error {
	var caught *term.SignalError
	if errors.As(context.Cause(ctx), &caught) {
		return caught
	}
	return nil
}

// isLoopback reports whether a signaling URL leads to this very machine.
func isLoopback(rawURL string) bool {
	host := urlHost(rawURL)
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// isPrivateURL reports whether a URL tells an address of a private network.
func isPrivateURL(rawURL string) bool {
	a, err := netip.ParseAddr(urlHost(rawURL))
	return err == nil && !a.IsLoopback() && link.IsPrivate(a.Unmap())
}

// urlHost returns a URL's host name or address.
func urlHost(rawURL string) string {
	_, rest, _ := strings.Cut(rawURL, "://")
	rest, _, _ = strings.Cut(rest, "/")
	host := rest
	if h, _, err := net.SplitHostPort(rest); err == nil {
		host = h
	}
	return strings.Trim(host, "[]")
}

// lineWriter lets a log handler print through the ui.
type lineWriter struct{ ui *ui }

func (w lineWriter) Write(p []byte) (int, error) {
	w.ui.printf("%s", strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
