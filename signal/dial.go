package signal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/keys"
)

// Options adjusts [Register], [Dial], [DialAny] and [Listener]. The zero value, and nil,
// are good for everyday use.
type Options struct {
	// Timeout bounds everything up to the server's Ready, but for the time that a
	// person takes to unlock or touch a key. Default 10 s.
	Timeout time.Duration

	// TLS is used for wss URLs. Default: the system's certificate authorities.
	TLS *tls.Config

	// DialContext makes the connections, if need be to a proxy: HTTP_PROXY,
	// HTTPS_PROXY and NO_PROXY count, but not for private addresses. Default: a
	// [net.Dialer].
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// Identities are the keys that may be offered, in this order, to a server
	// that wants to know who uses it; keys that take a touch for every signature
	// come last in any case. Others are never told of them. Without any such a
	// server is refused with [ErrProofRequired].
	Identities []keys.Identity
}

// Info is what a server says about a room or pipe when it is ready.
type Info struct {
	Server    string        // the URL, as normalized by [ParseURL]
	Room      Room          //
	Guests    int           // most pipes in the room at once
	Idle      time.Duration // silence after which the server closes: a guest's pipe, a host's connection
	Lifetime  time.Duration // of a pipe, at most
	PipeBytes int           // that a pipe may carry in each direction
	STUN      []string      // host:port of UDP ports that answer STUN; may be empty
}

const (
	defaultTimeout = 10 * time.Second
	// maxRetryAfter caps a server's wish: nobody is sent away for hours.
	maxRetryAfter = 10 * time.Minute
)

// Dial connects a guest to a room. The connection's first bytes may be written
// at once; that the host answers is not known yet. Errors wrap the sentinels
// of this package; ctx bounds the call, not the connection.
func Dial(ctx context.Context, serverURL string, room Room, opts *Options) (net.Conn, Info, error) {
	ctx, limit, opts := opts.start(ctx)
	defer limit.stop()

	h, err := connect(ctx, serverURL, PathJoin+room.String(), opts)
	if err != nil {
		return nil, Info{}, err
	}
	msg, err := h.read(ctx)
	if c, ok := msg.(*ChallengeMsg); ok && c.Prove {
		if err = h.prove(ctx, limit, c.Nonce); err == nil {
			msg, err = h.read(ctx)
		}
	}
	info, err := h.ready(msg, err, room)
	if err != nil {
		_ = h.ws.CloseNow()
		return nil, Info{}, err
	}

	addr := Addr{Server: info.Server, Room: room}
	s := newSession(h.ws, info, addr)
	p := newPipe(s, 0, addr)
	p.owner = true
	// A guest has no other pipes that could suffer: let it lag as far as the
	// server permits, within reason.
	p.recvMax = max(p.recvMax, min(info.PipeBytes, 1<<20))
	s.pipes[0] = p
	s.start()
	return p, info, nil
}

// handshake is a WebSocket on which the server has not said Ready.
type handshake struct {
	ws   *websocket.Conn
	url  *url.URL
	opts *Options
}

func (o *Options) start(ctx context.Context) (context.Context, *limit, *Options) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Timeout <= 0 {
		opts.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, newLimit(opts.Timeout, cancel), &opts
}

func (h *handshake) serverName() string { return ServerName(h.url.Host) }

func (h *handshake) read(ctx context.Context) (Message, error) {
	msg, err := readMessage(ctx, h.ws, make([]byte, 1024)) // nothing longer comes before Ready
	switch {
	case err == nil:
		return msg, nil
	case errors.Is(err, ErrProtocol):
		return nil, fmt.Errorf("%w: %w", ErrNotASignalServer, err)
	default:
		return nil, unreachable(cause(ctx, err))
	}
}

func (h *handshake) write(ctx context.Context, msg Message) error {
	if err := h.ws.Write(ctx, websocket.MessageBinary, msg.Append(nil)); err != nil {
		// The server may have said why before it closed.
		if m, rerr := h.read(ctx); rerr == nil {
			if bye, ok := m.(*GoodbyeMsg); ok {
				return goodbyeError(bye)
			}
		}
		return unreachable(cause(ctx, err))
	}
	return nil
}

// ready interprets what should be the server's Ready for room.
func (h *handshake) ready(msg Message, err error, room Room) (Info, error) {
	if err != nil {
		return Info{}, err
	}
	switch m := msg.(type) {
	case *ReadyMsg:
		if m.Room != room {
			return Info{}, fmt.Errorf("%w: the server opened room %s instead of %s", ErrProtocol, m.Room, room)
		}
		info := Info{
			Server:    h.url.String(),
			Room:      room,
			Guests:    int(m.Guests),
			Idle:      m.Idle,
			Lifetime:  m.Lifetime,
			PipeBytes: int(m.PipeBytes),
		}
		host := m.STUNHost
		if host == "" {
			host = h.url.Hostname()
		}
		for _, port := range m.STUNPorts {
			info.STUN = append(info.STUN, net.JoinHostPort(host, strconv.Itoa(int(port))))
		}
		return info, nil
	case *GoodbyeMsg:
		return Info{}, goodbyeError(m)
	}
	return Info{}, fmt.Errorf("%w: unexpected %T", ErrNotASignalServer, msg)
}

// connect makes a WebSocket to the server, and tells apart the ways to fail.
func connect(ctx context.Context, serverURL, path string, opts *Options) (*handshake, error) {
	u, err := parseURL(serverURL)
	if err != nil {
		return nil, err
	}
	// With a deadline the dialer shares its time among a name's addresses.
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	tr := &http.Transport{
		Proxy:                  proxy,
		DialContext:            impatient(opts.DialContext),
		TLSClientConfig:        opts.TLS,
		DisableKeepAlives:      true, // one request, one connection
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
	}
	defer tr.CloseIdleConnections()
	client := &http.Client{
		Transport: tr,
		// What a server signs for, it signs under the name that was dialled.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ws, resp, err := websocket.Dial(ctx, u.JoinPath(path).String(), &websocket.DialOptions{
		HTTPClient:   client,
		HTTPHeader:   http.Header{"User-Agent": {"pairterm"}},
		Subprotocols: []string{Subprotocol},
	})
	if err != nil {
		return nil, explain(cause(ctx, err), resp)
	}
	if ws.Subprotocol() != Subprotocol {
		_ = ws.CloseNow()
		if resp.Header.Get(HeaderServer) != "" {
			return nil, ErrVersion
		}
		return nil, fmt.Errorf("%w: it speaks WebSocket, but not %s", ErrNotASignalServer, Subprotocol)
	}
	return &handshake{ws: ws, url: u, opts: opts}, nil
}

// proxy is [http.ProxyFromEnvironment], but for addresses that no company's
// proxy leads to: those of the same LAN or VPN, which an embedded server has.
func proxy(req *http.Request) (*url.URL, error) {
	if direct(req.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

func direct(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

// sharedSpace is RFC 6598's, which VPNs like Tailscale take their addresses from.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// explain turns a failed WebSocket handshake into an error of this package.
// Nothing of the response's body is shown: it comes from a stranger.
func explain(err error, resp *http.Response) error {
	if resp == nil {
		return explainTransport(err)
	}
	versions, ours := resp.Header.Get(HeaderServer), false
	for v := range strings.SplitSeq(versions, ",") {
		ours = ours || strings.TrimSpace(v) == Version
	}
	status := resp.StatusCode
	switch {
	case versions != "" && !ours:
		return ErrVersion
	case versions != "":
		if code, err := strconv.ParseUint(resp.Header.Get(HeaderCode), 10, 8); err == nil && code > 0 {
			return &GoodbyeError{Code: Code(code), Retry: retryAfter(resp.Header)}
		}
		return fmt.Errorf("%w: HTTP status %d", ErrProtocol, status)
	case status == http.StatusTooManyRequests:
		return &GoodbyeError{Code: CodeRateLimited, Retry: retryAfter(resp.Header)}
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return unreachable(fmt.Errorf("a proxy in front of it answers with HTTP status %d", status))
	case status == http.StatusSwitchingProtocols:
		return fmt.Errorf("%w: %w", ErrNotASignalServer, err)
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: it redirects to %.200q", ErrNotASignalServer, resp.Header.Get("Location"))
	}
	return fmt.Errorf("%w: HTTP status %d", ErrNotASignalServer, status)
}

// explainTransport tells a server that cannot be reached from one that
// answers something else than HTTP.
func explainTransport(err error) error {
	var uerr *url.Error
	if errors.As(err, &uerr) {
		err = uerr.Err
	}
	var (
		netErr  net.Error
		opErr   *net.OpError
		certErr *tls.CertificateVerificationError
		hostErr x509.HostnameError
		recErr  tls.RecordHeaderError
		alert   tls.AlertError
	)
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: it answers plain HTTP, but the URL says TLS", ErrUnreachable)
	case errors.As(err, &netErr), errors.As(err, &opErr), errors.As(err, &certErr), errors.As(err, &hostErr),
		errors.As(err, &recErr), errors.As(err, &alert),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unreachable(err)
	}
	return fmt.Errorf("%w: %w", ErrNotASignalServer, err)
}

func retryAfter(h http.Header) time.Duration {
	secs, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(secs)*time.Second, maxRetryAfter)
}
