package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Protocol is a way to ask a router for port mappings.
type Protocol uint8

// The protocols, the preferred one first.
const (
	PCP    Protocol = 1 // RFC 6887
	NATPMP Protocol = 2 // RFC 6886
	UPnP   Protocol = 3 // UPnP Internet gateway device, version 1 or 2
)

// String gives the usual name.
func (p Protocol) String() string {
	switch p {
	case PCP:
		return "PCP"
	case NATPMP:
		return "NAT-PMP"
	case UPnP:
		return "UPnP"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// MarshalText gives the usual name.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (p *Protocol) UnmarshalText(text []byte) error {
	for q := PCP; q <= UPnP; q++ {
		if q.String() == string(text) {
			*p = q
			return nil
		}
	}
	return fmt.Errorf("port mapping protocol %.20q", text)
}

const (
	// lifetime is asked for. It is how long a mapping stays when this program is
	// killed, and twice how often an undisturbed router is asked for more time.
	lifetime = 20 * time.Minute
	// minLifetime is what is worth having: less would keep us asking.
	minLifetime = 10 * time.Second
)

// server is a gateway that speaks one of the protocols. Its methods may be called
// concurrently, and take a few seconds at most.
type server interface {
	protocol() Protocol
	// detail says what is known of the router, for people; it may be empty.
	detail() string
	// add asks for a mapping, or for more time for one that is there.
	add(ctx context.Context, want request) (grant, error)
	// remove takes it away. The grant may be that of a request to which no answer came.
	remove(ctx context.Context, want request, g grant) error
	// check reports whether the mapping is still there, as far as the router tells;
	// with an error that is not known.
	check(ctx context.Context, want request, g grant) (held bool, err error)
}

// request is a mapping that is wanted.
type request struct {
	network   string // udp4, udp6, tcp4 or tcp6
	port      uint16 // of ours
	nonce     [12]byte
	suggested netip.AddrPort // what was granted before; invalid the first time
}

// protocol is IP's number of the protocol.
func (r request) protocol() uint8 {
	if strings.HasPrefix(r.network, "tcp") {
		return ipTCP
	}
	return ipUDP
}

func (r request) String() string { return r.network + " port " + strconv.Itoa(int(r.port)) }

// grant is what a server gave.
type grant struct {
	external netip.AddrPort
	lifetime time.Duration
	forever  bool   // the router knows no lifetimes
	life     uint64 // that the server was in
}

// refusedError is a server's refusal.
type refusedError struct {
	reason error
	pause  time.Duration // how long it will not change its mind
}

func (e *refusedError) Error() string { return e.reason.Error() }
func (e *refusedError) Unwrap() error { return e.reason }

// isRefusal reports whether err is the answer of a server, which does not map the port.
func isRefusal(err error) bool {
	var (
		refused *refusedError
		code    soapError
	)
	return errors.As(err, &refused) || errors.As(err, &code) || errors.Is(err, errUseless)
}

// obtain asks a server for a mapping and does not take every answer.
func obtain(ctx context.Context, s server, r route, want request) (grant, error) {
	g, err := s.add(ctx, want)
	if err != nil {
		return g, err
	}
	if err := r.sane(want, g.external); err != nil {
		return g, err
	}
	switch {
	case g.forever:
	case g.lifetime < minLifetime:
		return g, fmt.Errorf("%w: a mapping for %v", errUseless, g.lifetime)
	default:
		g.lifetime = min(g.lifetime, lifetime) // 2^32-1 seconds are said to be common
	}
	return g, nil
}

// errUseless reports a mapping that cannot be used, or an address that cannot be ours.
var errUseless = errors.New("the router offers something useless")

// sane checks an external address that the router claims.
func (r route) sane(want request, a netip.AddrPort) error {
	addr := a.Addr()
	switch {
	case !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" || a.Port() == 0:
	case addr.Is4() != r.local.Is4():
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast():
	case thisNetwork.Contains(addr) || reserved.Contains(addr):
	case addr == r.local && a.Port() != want.port: // it would lead to another service of ours
	case addr == r.gateway.WithZone("") && addr.IsPrivate(): // its inner side
	default:
		return nil
	}
	return fmt.Errorf("%w: the external address %v", errUseless, a)
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")     // RFC 1122
	reserved    = netip.MustParsePrefix("240.0.0.0/4")   // RFC 1112, with the limited broadcast address
	carrier     = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	protocols   = netip.MustParsePrefix("192.0.0.0/24")  // RFC 6890, as behind DS-Lite
)

// DoubleNAT reports whether an external address is one that the Internet does not know,
// so that there is another NAT in front of the router. Such a mapping helps peers
// between the two NATs only: in the outer network of two, or of the same carrier.
func DoubleNAT(external netip.Addr) bool {
	return external.Is4() && (external.IsPrivate() || carrier.Contains(external) || protocols.Contains(external))
}
