package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/peer/link"
)

// pathFlags are the flags of host and join about how the two machines reach each
// other.
func pathFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "stun", Usage: "ask the STUN server `HOST:PORT` instead of the signaling server's (repeatable)"},
		&cli.StringFlag{Name: "path", Usage: "`WHICH` paths may be taken: lan, direct (the default), or any, relayed ones too"},
		&cli.BoolFlag{Name: "no-private-addrs", Usage: "do not tell the other side addresses of private networks"},
		&cli.BoolFlag{Name: "no-portmap", Usage: "do not ask the router to forward a port"},
	}, relayFlags()...)
}

// pathOptions is what those flags say.
type pathOptions struct {
	stun        []string
	paths       link.Paths
	hidePrivate bool
	noPortmap   bool
	relays      []link.RelayServer
	credentials link.RelayCredentials
}

func parsePathOptions(c *cli.Context) (pathOptions, error) {
	o := pathOptions{
		stun:        splitWords(c.StringSlice("stun")),
		hidePrivate: c.Bool("no-private-addrs"),
		noPortmap:   c.Bool("no-portmap"),
	}
	err := checkSTUN(o.stun)
	if err != nil {
		return o, err
	}
	if o.relays, o.credentials, err = parseRelayOptions(c); err != nil {
		return o, err
	}
	if len(o.relays) > 0 {
		o.paths = link.PathsAny
	}
	if which := c.String("path"); which != "" {
		if o.paths, err = link.ParsePaths(which); err != nil {
			return o, usage("--path lan, --path direct or --path any", "--path: %w", err)
		}
	}
	if o.paths != link.PathsAny && len(o.relays) > 0 {
		return o, usage("leave out one of them", "--ice-server relays, which --path %v forbids", o.paths)
	}
	if o.paths == link.PathsLAN && o.hidePrivate {
		return o, usage("leave out one of them", "--path lan is over private addresses, which --no-private-addrs hides")
	}
	return o, nil
}

// checkSTUN refuses values of --stun that name no server.
func checkSTUN(servers []string) error {
	for _, server := range servers {
		if err := link.CheckSTUNServer(server); err != nil {
			return usage("for example: --stun stun.example.org:3478", "--stun: %w", err)
		}
	}
	return nil
}

// checkPorts refuses values of these flags that are no ports.
func checkPorts(c *cli.Context, flags ...string) error {
	for _, p := range flags {
		if n := c.Int(p); n < 0 || n > 65535 {
			return usage("a number from 1 to 65535", "--%s %d", p, n)
		}
	}
	return nil
}

// config is what links are made with.
func (o pathOptions) config() link.Config {
	return link.Config{
		STUN: o.stun, TCP: true, Paths: o.paths, HidePrivate: o.hidePrivate,
		Relays: o.relays, RelayCredentials: o.credentials,
	}
}

// parsePublicAddrs reads the values of --public-addr: an address, with or without a
// port.
func parsePublicAddrs(values []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, v := range splitWords(values) {
		a, err := parsePublicAddr(v)
		if err == nil {
			err = link.CheckPublic(a)
		}
		if err != nil {
			return nil, usage("for example: --public-addr 203.0.113.7, or with another port in front of the NAT: --public-addr 203.0.113.7:40000",
				"--public-addr %q: %w", v, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func parsePublicAddr(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return netip.AddrPortFrom(a, 0), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, errors.New("not an IP address, and not one with a port")
	}
	if a.Port() == 0 {
		return a, errors.New("port 0")
	}
	return a, nil
}

// portFailure is the failure of a host that cannot have its port.
func portFailure(err error, o hostOptions) error {
	hint := portHint(err, o.port, o.tcpPort)
	if hint == "" {
		hint = "check --port and --tcp-port"
	}
	return fail(exitSystem, err, hint)
}

// portHint says what to do about a port that could not be had, and nothing where that
// has another reason than the port. tcpPort is 0 if it is the same.
func portHint(err error, port, tcpPort int) string {
	var op *net.OpError
	tcp := errors.As(err, &op) && strings.HasPrefix(op.Net, "tcp")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "ports below 1024 are root's; on Linux permit them to pairterm with: sudo setcap cap_net_bind_service=+ep $(command -v pairterm)"
	case errors.Is(err, syscall.EADDRINUSE) && tcp && tcpPort == 0:
		return fmt.Sprintf("another program has that TCP port; choose one for TCP alone: --port %d --tcp-port PORT", port)
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has that port, perhaps another pairterm host; choose another one"
	}
	return ""
}
