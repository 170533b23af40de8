// Package stun answers STUN binding requests (RFC 8489) over UDP: it tells
// whoever asks under which address the question came, so that two machines
// behind routers can find each other without a third party's server.
//
// With two ports it also tells what the routers in between do: a question to one of
// them may ask for the answer from the other (CHANGE-REQUEST, RFC 5780), which only
// gets through a router that lets anybody in. Which ports there are, the signaling
// server tells; no answer does, since addresses in it would make it larger.
//
// Nothing else of STUN is answered: no authentication, no TCP, no alternate
// addresses, no indications. Datagrams that are not binding requests, well
// formed to the last byte, are dropped without a word. An answer is 12 bytes
// (IPv4) or 24 bytes (IPv6) longer than the shortest request, which makes 1.25
// or 1.35 on the wire, and each address gets only so many: there is nothing to
// be gained by sending requests with a victim's address.
package stun

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pairterm/pairterm/signal/internal/ratelimit"
)

// DefaultPort is STUN's UDP port, and AlternatePort the one next to it from which
// answers may be asked for.
const (
	DefaultPort   = 3478
	AlternatePort = 3479
)

// Rate is a token bucket.
type Rate = ratelimit.Rate

// Limits bounds what the responder does. A zero field means its default.
type Limits struct {
	// AddressRate is how many requests of one address (an IPv4 address, an IPv6
	// /64) are answered. Default 60 a second, 240 at once: a connection attempt
	// takes a dozen, and many people share one router.
	AddressRate Rate
	// Rate is how many requests are answered in all. Default 20,000 a second.
	Rate Rate
	// Addresses is how many addresses are remembered. Default 65,536.
	Addresses int
}

// Stats are counters of a [Server] since it was made.
type Stats struct {
	Answered int64 // binding requests
	Limited  int64 // binding requests left without an answer
	Ignored  int64 // anything else
}

// Server answers binding requests. Its methods are safe for concurrent use.
type Server struct {
	addresses *ratelimit.Table
	all       *ratelimit.Table // one entry

	answered, limited, ignored atomic.Int64
}

// New makes a server. It starts nothing.
func New(l Limits) *Server {
	if l.AddressRate == (Rate{}) {
		l.AddressRate = Rate{PerSecond: 60, Burst: 240}
	}
	if l.Rate == (Rate{}) {
		l.Rate = Rate{PerSecond: 20_000, Burst: 20_000}
	}
	if l.Addresses == 0 {
		l.Addresses = 64 << 10
	}
	return &Server{
		addresses: &ratelimit.Table{Rate: l.AddressRate, Size: l.Addresses},
		all:       &ratelimit.Table{Rate: l.Rate, Size: 1},
	}
}

// Run answers requests on the sockets until ctx ends, when it returns nil, or
// a socket fails for good. It closes the sockets, and returns when all its
// goroutines are gone. Each answers for another one of the same address that
// has another port, if a request asks for that.
func (s *Server) Run(ctx context.Context, conns ...*net.UDPConn) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, c := range conns {
		g.Go(func() error { return s.serve(gctx, c, alternate(conns, c)) })
	}
	g.Go(func() error {
		<-gctx.Done()
		for _, c := range conns {
			_ = c.Close()
		}
		return nil
	})
	err := g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Stats reads the counters.
func (s *Server) Stats() Stats {
	return Stats{Answered: s.answered.Load(), Limited: s.limited.Load(), Ignored: s.ignored.Load()}
}

// maxRequest is one byte more than what we are willing to look at: a request
// with a few attributes fits into the smallest MTU of IPv6 many times.
const maxRequest = 576 + 1

// alternate gives the socket that differs from c in its port only, nil if there is none.
func alternate(conns []*net.UDPConn, c *net.UDPConn) *net.UDPConn {
	own := c.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, o := range conns {
		if a := o.LocalAddr().(*net.UDPAddr).AddrPort(); a.Addr() == own.Addr() && a.Port() != own.Port() {
			return o
		}
	}
	return nil
}

func (s *Server) serve(ctx context.Context, c, other *net.UDPConn) error {
	in := make([]byte, maxRequest)
	out := make([]byte, 0, 64)
	failures := 0
	for {
		n, from, err := c.ReadFromUDPAddrPort(in)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return nil
			}
			// An earlier answer met a closed port (Windows reports that here), or
			// the kernel is short of memory: go on, but not for ever at full speed.
			if failures++; failures > 100 {
				return fmt.Errorf("read STUN requests on %s: %w", c.LocalAddr(), err)
			}
			continue
		}
		failures = 0
		var moved bool
		if out, moved = s.answer(out[:0], in[:n], from, other != nil, time.Now()); len(out) == 0 {
			continue
		}
		by := c
		if moved {
			by = other
		}
		_, _ = by.WriteToUDPAddrPort(out, from) // UDP: whoever gets none asks again
	}
}

// answer appends the answer to a datagram to out, if it deserves one. moved tells that
// it is to come from the other port, if there is one.
func (s *Server) answer(out, in []byte, from netip.AddrPort, other bool, now time.Time) (_ []byte, moved bool) {
	req, ok := parse(in)
	if !ok || from.Port() == 0 {
		s.ignored.Add(1)
		return out, false
	}
	if !s.addresses.Allow(from.Addr(), now, 1) || !s.all.Allow(netip.IPv6Unspecified(), now, 1) {
		s.limited.Add(1)
		return out, false
	}
	s.answered.Add(1)
	if req.change&^changePort != 0 || req.change != 0 && !other {
		req.unknown = append(req.unknown, attrChangeRequest)
	}
	return req.appendAnswer(out, from), req.change != 0 && len(req.unknown) == 0
}

// RFC 8489, section 5 and 14, RFC 8445, section 16.1 (ICE), and RFC 5780, section 7.2.
const (
	headerLen   = 20
	magicCookie = 0x2112A442

	bindingRequest = 0x0001
	bindingSuccess = 0x0101
	bindingError   = 0x0111

	attrChangeRequest     = 0x0003
	attrErrorCode         = 0x0009
	attrUnknownAttributes = 0x000A
	attrXORMappedAddress  = 0x0020
	comprehensionOptional = 0x8000
)

// changePort is the bit of CHANGE-REQUEST that asks for the answer from the other
// port. The other bit asks for another address, and we have one only.
const changePort = 0x2

// maxUnknown is how many unknown attributes an answer names, beside CHANGE-REQUEST.
const maxUnknown = 3

// request is what an answer depends on.
type request struct {
	id      [12]byte // transaction id
	change  uint32   // flags of CHANGE-REQUEST
	unknown []uint16 // attributes that ask to be understood and are not
}

// parse parses a binding request and nothing else.
func parse(b []byte) (request, bool) {
	if len(b) < headerLen || len(b) >= maxRequest {
		return request{}, false
	}
	if binary.BigEndian.Uint16(b) != bindingRequest ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b)-headerLen ||
		binary.BigEndian.Uint32(b[4:]) != magicCookie {
		return request{}, false
	}
	req := request{id: [12]byte(b[8:20])}
	for b = b[headerLen:]; len(b) > 0; {
		if len(b) < 4 {
			return request{}, false
		}
		typ, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		padded := 4 + (n+3)&^3 // to 32 bits
		if padded > len(b) {
			return request{}, false
		}
		switch {
		case typ == attrChangeRequest:
			if n != 4 {
				return request{}, false
			}
			req.change = binary.BigEndian.Uint32(b[4:])
		case typ < comprehensionOptional && !understood(typ) && len(req.unknown) < maxUnknown:
			req.unknown = append(req.unknown, typ)
		}
		b = b[padded:]
	}
	return req, true
}

// understood lists the comprehension-required attributes that make no
// difference to a server that asks for no credentials.
func understood(typ uint16) bool {
	switch typ {
	case 0x0006, // USERNAME
		0x0008, // MESSAGE-INTEGRITY
		0x0014, // REALM
		0x0015, // NONCE
		0x001C, // MESSAGE-INTEGRITY-SHA256
		0x001D, // PASSWORD-ALGORITHM
		0x001E, // USERHASH
		0x0024, // PRIORITY
		0x0025: // USE-CANDIDATE
		return true
	}
	return false
}

func (r request) appendAnswer(out []byte, from netip.AddrPort) []byte {
	start := len(out)
	out = binary.BigEndian.AppendUint16(out, bindingSuccess)
	out = binary.BigEndian.AppendUint16(out, 0) // length, below
	out = binary.BigEndian.AppendUint32(out, magicCookie)
	out = append(out, r.id[:]...)
	if len(r.unknown) > 0 {
		binary.BigEndian.PutUint16(out[start:], bindingError)
		out = binary.BigEndian.AppendUint16(out, attrErrorCode)
		out = append(out, 0, 4, 0, 0, 4, 20) // 420 Unknown Attribute, without words
		out = binary.BigEndian.AppendUint16(out, attrUnknownAttributes)
		out = binary.BigEndian.AppendUint16(out, uint16(2*len(r.unknown)))
		for _, u := range r.unknown {
			out = binary.BigEndian.AppendUint16(out, u)
		}
		if len(r.unknown)%2 == 1 {
			out = append(out, 0, 0)
		}
	} else {
		out = r.appendXORMapped(out, from)
	}
	binary.BigEndian.PutUint16(out[start+2:], uint16(len(out)-start-headerLen))
	return out
}

// appendXORMapped appends XOR-MAPPED-ADDRESS, RFC 8489 section 14.2. The XOR is
// against routers that rewrite addresses wherever they see them.
func (r request) appendXORMapped(out []byte, from netip.AddrPort) []byte {
	addr := from.Addr().Unmap().WithZone("")
	family, ip := byte(1), addr.AsSlice()
	if addr.Is6() {
		family = 2
	}
	var pad [16]byte
	binary.BigEndian.PutUint32(pad[:], magicCookie)
	copy(pad[4:], r.id[:])
	out = binary.BigEndian.AppendUint16(out, attrXORMappedAddress)
	out = binary.BigEndian.AppendUint16(out, uint16(4+len(ip)))
	out = append(out, 0, family)
	out = binary.BigEndian.AppendUint16(out, from.Port()^uint16(magicCookie>>16))
	for i, b := range ip {
		out = append(out, b^pad[i])
	}
	return out
}
