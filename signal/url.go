package signal

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// ParseURL checks and normalizes what a person may write for a signaling
// server. The result has the scheme ws or wss, a host in lower case, no
// trailing slash, and is what [Dial] and [Register] take:
//
//	signal.example.org             → wss://signal.example.org
//	https://example.org/signal/    → wss://example.org/signal
//	ws://192.0.2.7:4222            → ws://192.0.2.7:4222
//
// A path is kept; user names, queries and fragments are refused.
func ParseURL(s string) (string, error) {
	u, err := parseURL(s)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

func parseURL(s string) (*url.URL, error) {
	bad := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("signaling server %.200q: %s", s, why)
	}
	full := s
	if !strings.Contains(s, "://") {
		full = "wss://" + s
	}
	u, err := url.Parse(full)
	if err != nil {
		return bad("not a URL")
	}
	switch u.Scheme {
	case "ws", "http":
		u.Scheme = "ws"
	case "wss", "https":
		u.Scheme = "wss"
	default:
		return bad("want a URL that begins with wss:// or ws://")
	}
	switch {
	case u.User != nil:
		return bad("user names and passwords have no place in it")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("queries and fragments have no place in it")
	case !validURLHost(u):
		return bad("no valid host name")
	}
	u.Host = strings.ToLower(u.Host)
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func validURLHost(u *url.URL) bool {
	host := u.Hostname()
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return printable(a.Zone())
	}
	if host == "" || strings.HasSuffix(u.Host, ":") {
		return false
	}
	return validHost(host) && !strings.Contains(host, ":")
}

// ServerName is the name by which a client knows the server at a URL's host,
// and by which a server knows itself from a request's Host header: lower case,
// without the default ports 80 and 443, without an IPv6 zone. It is part of
// what hosts sign; see [RegisterInput].
func ServerName(host string) string {
	host = strings.ToLower(host)
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ""
	}
	if i := strings.IndexByte(name, '%'); i >= 0 {
		name = name[:i]
	}
	if port == "80" || port == "443" {
		port = ""
	}
	switch {
	case port != "":
		return net.JoinHostPort(name, port)
	case strings.Contains(name, ":"):
		return "[" + name + "]"
	}
	return name
}
