package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/pairterm/pairterm/signal/server"
)

// sockets are what a signaling server listens on, all but signaling nil if not
// wanted.
type sockets struct {
	signaling []net.Listener
	http      net.Listener // port 80: redirects, and the CA's challenges
	metrics   net.Listener
	stun      []*net.UDPConn // one port, or two
}

// openSockets takes the sockets that systemd passed (sd_listen_fds(3)), and
// opens those that are wanted and were not passed. Datagram sockets are STUN's,
// two at most; a stream is signaling's, unless its FileDescriptorName is http or metrics.
func openSockets(ctx context.Context, o signalOptions) (_ *sockets, err error) {
	s := &sockets{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, f := range activation.Files(true) {
		if err := s.adopt(f); err != nil {
			return nil, fail(exitError, err, "in the .socket unit use ListenStream= for signaling and ListenDatagram= for STUN")
		}
	}
	if len(s.signaling) == 0 {
		l, err := server.Listen(ctx, o.listen)
		if err != nil {
			return nil, listenFailure(err, "--listen")
		}
		s.signaling = []net.Listener{l}
	}
	if s.http == nil && o.http != "none" {
		if s.http, err = net.Listen("tcp", o.http); err != nil {
			return nil, listenFailure(err, "--http")
		}
	}
	if s.metrics == nil && o.metrics != "" {
		if s.metrics, err = net.Listen("tcp", o.metrics); err != nil {
			return nil, listenFailure(err, "--metrics")
		}
	}
	if len(s.stun) == 0 && o.stun != "none" {
		if s.stun, err = listenSTUN(o.stun); err != nil {
			return nil, listenFailure(err, "--stun")
		}
	}
	return s, nil
}

// adopt takes over a socket that was passed.
func (s *sockets) adopt(f *os.File) error {
	defer f.Close()
	if l, err := net.FileListener(f); err == nil {
		switch {
		case f.Name() == "http" && s.http == nil:
			s.http = l
		case f.Name() == "metrics" && s.metrics == nil:
			s.metrics = l
		default:
			s.signaling = append(s.signaling, l)
		}
		return nil
	}
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return fmt.Errorf("the passed socket %q is of no use: %w", f.Name(), err)
	}
	udp, ok := pc.(*net.UDPConn)
	if !ok || len(s.stun) == 2 {
		pc.Close()
		return fmt.Errorf("the passed socket %q is of no use: two UDP sockets are enough, for STUN", f.Name())
	}
	s.stun = append(s.stun, udp)
	return nil
}

func (s *sockets) close() {
	for _, l := range append([]net.Listener{s.http, s.metrics}, s.signaling...) {
		if l != nil {
			l.Close()
		}
	}
	for _, c := range s.stun {
		c.Close()
	}
}

// listenSTUN opens the port of addr, and, if it can be had, the one after it: with two
// ports clients can tell what kind of NAT they are behind.
func listenSTUN(addr string) ([]*net.UDPConn, error) {
	ua, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	first, err := net.ListenUDP("udp", ua)
	if err != nil {
		return nil, err
	}
	// The address as it was bound: "[::]" is not what ":3478" resolves to.
	next := *first.LocalAddr().(*net.UDPAddr)
	if next.Port++; ua.Port == 0 {
		next.Port = 0
	}
	second, err := net.ListenUDP("udp", &next)
	if err != nil {
		return []*net.UDPConn{first}, nil
	}
	return []*net.UDPConn{first, second}, nil
}

// stunPorts are the ports on which STUN is answered.
func (s *sockets) stunPorts() []uint16 {
	var ports []uint16
	for _, c := range s.stun {
		ports = append(ports, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	}
	return ports
}

// listenFailure explains why a port cannot be had.
func listenFailure(err error, flag string) error {
	var addr *net.AddrError
	var port *net.DNSError
	if errors.As(err, &addr) || errors.As(err, &port) {
		return usage("for example: "+flag+" :8080", "%w", err)
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return usage("this machine does not have that address; to listen on all that it has: "+flag+" :PORT", "%w", err)
	}
	return fail(exitSystem, err, "another program may use the port, or it takes privileges; choose another with "+flag)
}
