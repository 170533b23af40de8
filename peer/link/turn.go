package link

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what TURN's time-limited credentials are made with
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// RelayServer is a TURN server (RFC 8656), which relays packets.
type RelayServer struct {
	Host string // a name or an address
	Port uint16
	TCP  bool // it is reached over TCP
	TLS  bool // and TLS
}

// Ports of TURN servers, and how they are reached, where nothing else is said (RFC 7065
// section 3.2).
const (
	turnPort  = 3478
	turnsPort = 5349
)

// ParseRelayServer reads turn:HOST[:PORT][?transport=udp|tcp], or turns: for TLS over TCP
// (RFC 7065).
func ParseRelayServer(s string) (RelayServer, error) {
	var r RelayServer
	scheme, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && scheme == "turn":
		r.Port = turnPort
	case ok && scheme == "turns":
		r.Port, r.TLS, r.TCP = turnsPort, true, true
	default:
		return r, fmt.Errorf("%q does not begin with turn: or turns: as those URLs do", s)
	}
	rest, query, has := strings.Cut(rest, "?")
	if has {
		switch query {
		case "transport=udp":
			if r.TLS {
				return r, fmt.Errorf("%q: turns: is spoken over TCP only", s)
			}
		case "transport=tcp":
			r.TCP = true
		default:
			return r, fmt.Errorf("%q: after the question mark must come transport=udp or transport=tcp", s)
		}
	}
	r.Host = rest
	if host, port, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return r, fmt.Errorf("%q: port %q is not a number from 1 to 65535", s, port)
		}
		r.Host, r.Port = host, uint16(n)
	} else {
		r.Host = strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
	}
	if r.Host == "" || strings.ContainsAny(r.Host, "@/ []") || strings.Contains(r.Host, ":") && !isIPv6(r.Host) {
		return r, fmt.Errorf("%q: want turn:HOST:PORT", s)
	}
	return r, nil
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// String is the inverse of [ParseRelayServer].
func (r RelayServer) String() string {
	scheme, suffix := "turn", ""
	switch {
	case r.TLS:
		scheme = "turns"
	case r.TCP:
		suffix = "?transport=tcp"
	}
	return scheme + ":" + r.hostport() + suffix
}

func (r RelayServer) hostport() string {
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
}

// RelayCredentials are what TURN servers ask for: a name and a password, or a secret that
// the server has too, of which both are made for a limited time.
type RelayCredentials struct {
	Username, Password string
	Secret             string
}

// secretLife is how long what is made of a secret is good for: longer than sessions last.
const secretLife = 24 * time.Hour

// at gives the name and the password for a server that is asked now
// (draft-uberti-behave-turn-rest section 2.2, as coturn's use-auth-secret has it).
func (c RelayCredentials) at(now time.Time) (username, password string) {
	if c.Secret == "" {
		return c.Username, c.Password
	}
	username = strconv.FormatInt(now.Add(secretLife).Unix(), 10)
	if c.Username != "" {
		username += ":" + c.Username
	}
	mac := hmac.New(sha1.New, []byte(c.Secret))
	mac.Write([]byte(username))
	return username, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// turnConn carries the messages of one TURN server.
type turnConn interface {
	// read gives one message, which is not vetted.
	read(b []byte) (int, error)
	write(b []byte) error
	Close() error
}

// dialTURN reaches a server.
func (nw *network) dialTURN(ctx context.Context, server RelayServer, tlsConfig *tls.Config) (turnConn, error) {
	if server.TCP {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", server.hostport())
		if err != nil {
			return nil, err
		}
		if server.TLS {
			cfg := tlsConfig.Clone() // nil stays nil
			if cfg == nil {
				cfg = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			cfg.ServerName = server.Host
			tc := tls.Client(c, cfg)
			if err := tc.HandshakeContext(ctx); err != nil {
				_ = c.Close() // nothing was sent
				return nil, err
			}
			c = tc
		}
		return &turnStream{Conn: c, r: bufio.NewReaderSize(c, 2*maxPacket)}, nil
	}
	var errs []error
	for f, name := range []string{"udp4", "udp6"} {
		if nw.virtual && family(f) == ipv6 {
			continue // pion's vnet has no IPv6
		}
		addr, err := nw.resolve(ctx, family(f), server.hostport())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		wildcard := [families]net.IP{net.IPv4zero, net.IPv6unspecified}[f]
		c, err := nw.guarded.Net.ListenUDP(name, &net.UDPAddr{IP: wildcard})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		growBuffers(c)
		return turnDatagrams{asUDPSocket(c), addr}, nil
	}
	return nil, errors.Join(errs...)
}

// turnDatagrams is a server reached over UDP. What comes from elsewhere is dropped.
type turnDatagrams struct {
	udpSocket
	server netip.AddrPort
}

func (c turnDatagrams) read(b []byte) (int, error) {
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) == c.server {
			return n, err
		}
	}
}

func (c turnDatagrams) write(b []byte) error {
	_, err := c.WriteToUDPAddrPort(b, c.server)
	return err
}

// turnStream is a server reached over TCP: messages follow each other, channel data padded
// to four bytes (RFC 8656 section 12.5).
type turnStream struct {
	net.Conn
	r *bufio.Reader
}

func (c *turnStream) read(b []byte) (int, error) {
	head, err := c.r.Peek(4)
	if err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	padding := 0
	if isChannelData(head) {
		size += 4
		padding = -size & 3
	} else {
		size += stunHeaderSize
	}
	if size > len(b) {
		return 0, fmt.Errorf("%w: a message of %d bytes from a TURN server", ErrProtocol, size)
	}
	if _, err := io.ReadFull(c.r, b[:size]); err != nil {
		return 0, err
	}
	_, err = c.r.Discard(padding)
	return size, err
}

// turnWriteTimeout bounds how long a stalled TCP connection to a server is waited for.
const turnWriteTimeout = 5 * time.Second

func (c *turnStream) write(b []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(turnWriteTimeout)); err != nil {
		return err
	}
	if isChannelData(b) {
		b = append(b[:len(b):len(b)], make([]byte, -len(b)&3)...)
	}
	_, err := c.Write(b)
	return err
}

// isChannelData goes by the first byte, RFC 8656 section 12.
func isChannelData(b []byte) bool { return len(b) >= 4 && b[0] >= 0x40 && b[0] <= 0x4f }
