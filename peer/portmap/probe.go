package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Report is what the routers in front of this machine offer.
type Report struct {
	// Gateway4 and Gateway6 are the default gateways; invalid if there is none.
	Gateway4, Gateway6 netip.Addr
	// Services has an entry for each protocol and address family that was tried: PCP,
	// NAT-PMP and UPnP over IPv4, if that has a gateway, and PCP over IPv6 likewise.
	Services []Service
}

// Service is one protocol at one gateway, and how it did.
type Service struct {
	Protocol Protocol
	// Network is udp4 or udp6.
	Network string
	// Spoken reports whether the gateway answers in the protocol.
	Spoken bool
	// External is the address and port of a mapping that was made to try it out;
	// invalid if none could be made. It is gone again.
	External netip.AddrPort
	// Detail is what else is known of it, in one line, such as the name that the
	// router gives itself and the version of its service; it may be empty.
	Detail string
	// Took is how long the mapping took, from the first question on.
	Took time.Duration
	// Err says why it is not spoken, or why no mapping could be made; nil if one was.
	Err error
}

// Works reports whether a mapping could be made.
func (s Service) Works() bool { return s.External.IsValid() }

// DoubleNAT reports whether another NAT is in front of the router; see [DoubleNAT].
func (s Service) DoubleNAT() bool { return DoubleNAT(s.External.Addr()) }

// Best gives the service that a [Client] would use in an address family, if one works.
func (r Report) Best(network string) (Service, bool) {
	for _, s := range r.Services { // the preferred one comes first
		if s.Network == network && s.Works() {
			return s, true
		}
	}
	return Service{}, false
}

// Probe finds out which protocols the default gateways speak, all at the same time, and
// tries each one that is: it has a port mapped for a moment. It takes until the last one
// has answered, usually three seconds, since most routers ignore what they do not speak;
// at most about 20 s, and a second after ctx is done. Without any gateway it gives an error.
func Probe(ctx context.Context) (Report, error) { return probe(ctx, network{}) }

func probe(ctx context.Context, n network) (Report, error) {
	n = n.withDefaults()
	var (
		report  Report
		running sync.WaitGroup
		errs    []error
		tries   []*Service
	)
	for _, six := range []bool{false, true} {
		r, err := n.findRoute(six)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		network := "udp4"
		if six {
			network, report.Gateway6 = "udp6", r.gateway
		} else {
			report.Gateway4 = r.gateway
		}
		for _, o := range n.openersOf(r) {
			s := &Service{Protocol: o.protocol, Network: network}
			tries = append(tries, s)
			running.Go(func() { s.try(ctx, r, o) })
		}
	}
	running.Wait()
	for _, s := range tries {
		report.Services = append(report.Services, *s)
	}
	if len(tries) == 0 {
		return report, errors.Join(errs...)
	}
	return report, nil
}

// try opens a service and has a port mapped, which is a real one of ours so that nobody
// else's is exposed.
func (s *Service) try(ctx context.Context, r route, o opener) {
	began := time.Now()
	octx, done := context.WithTimeout(ctx, searchPatience)
	defer done()
	srv, err := o.open(octx)
	if err != nil {
		s.Err = err
		return
	}
	s.Spoken, s.Detail = true, srv.detail()
	c, err := net.ListenUDP(s.Network, nil)
	if err != nil {
		s.Err = err
		return
	}
	defer c.Close()
	want := request{network: s.Network, port: c.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	_, _ = rand.Read(want.nonce[:]) // never fails
	rctx, done := context.WithTimeout(ctx, requestPatience)
	defer done()
	g, err := obtain(rctx, srv, r, want)
	s.Took = time.Since(began)
	if s.Err = err; err == nil {
		s.External = g.external
	}
	fctx, done := context.WithTimeout(context.WithoutCancel(ctx), removePatience)
	defer done()
	_ = srv.remove(fctx, want, g) // what stays ends by itself
}
