package portmap

import (
	"context"
	"net/netip"
	"time"
)

// natpmpServer is a gateway that speaks NAT-PMP.
type natpmpServer struct {
	route route
	port  uint16
	clock clock
}

// openNATPMP finds out whether the gateway speaks NAT-PMP.
func openNATPMP(ctx context.Context, r route, port uint16) (*natpmpServer, error) {
	s := &natpmpServer{route: r, port: port}
	if _, _, err := s.address(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *natpmpServer) protocol() Protocol { return NATPMP }

func (s *natpmpServer) detail() string { return "" }

// ask asks until there is an answer to an opcode that fits.
func (s *natpmpServer) ask(ctx context.Context, question []byte, fits func(natpmpResponse) bool) (natpmpResponse, error) {
	var out natpmpResponse
	err := s.route.ask(ctx, s.port, question, func(b []byte) (bool, error) {
		if len(b) > 0 && b[0] == versionPCP {
			return false, errOtherVersion
		}
		r, err := parseNATPMPResponse(b)
		switch {
		case err != nil:
			return false, err
		case r.opcode != question[1]:
			return false, nil
		case r.result != 0:
			return true, &refusedError{r.result, 0}
		}
		out = r
		return fits(r), nil
	})
	return out, err
}

// address asks for the external address and gives the life that the server is in.
func (s *natpmpServer) address(ctx context.Context) (netip.Addr, uint64, error) {
	r, err := s.ask(ctx, appendNATPMPAddressRequest(nil), func(natpmpResponse) bool { return true })
	if err != nil {
		return netip.Addr{}, 0, err
	}
	return r.address, s.clock.observe(r.epoch), nil
}

func (s *natpmpServer) request(ctx context.Context, want request, external uint16, life time.Duration) (natpmpResponse, error) {
	opcode := uint8(natpmpMapUDP)
	if want.protocol() == ipTCP {
		opcode = natpmpMapTCP
	}
	question := appendNATPMPMapRequest(nil, opcode, want.port, external, life)
	return s.ask(ctx, question, func(r natpmpResponse) bool { return r.internal == want.port })
}

// add asks for a mapping, or for more time for it.
func (s *natpmpServer) add(ctx context.Context, want request) (grant, error) {
	external := want.port
	if want.suggested.IsValid() {
		external = want.suggested.Port()
	}
	r, err := s.request(ctx, want, external, lifetime)
	if err != nil {
		return grant{}, err
	}
	life := s.clock.observe(r.epoch)
	addr, after, err := s.address(ctx)
	if err != nil {
		return grant{}, err
	}
	if after != life { // it restarted in between
		life = ^uint64(0)
	}
	return grant{external: netip.AddrPortFrom(addr, r.external), lifetime: r.lifetime, life: life}, nil
}

// remove gives a mapping back.
func (s *natpmpServer) remove(ctx context.Context, want request, _ grant) error {
	_, err := s.request(ctx, want, 0, 0)
	return err
}

// check asks whether the server has lost its mappings since the grant, or its address.
func (s *natpmpServer) check(ctx context.Context, _ request, g grant) (held bool, err error) {
	addr, life, err := s.address(ctx)
	return err != nil || life == g.life && addr == g.external.Addr(), err
}
