package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/pairterm/pairterm/signal/server"
)

// sockets are what a signaling server listens on, all but signaling nil if not
// wanted.
type sockets struct {
	signaling []net.Listener
	http      net.Listener // port 80: redirects, and the CA's challenges
	metrics   net.Listener
	stun      *net.UDPConn
}

// openSockets takes the sockets that systemd passed (sd_listen_fds(3)), and
// opens those that are wanted and were not passed. A datagram socket is STUN's;
// a stream is signaling's, unless its FileDescriptorName is http or metrics.
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
	if s.stun == nil && o.stun != "none" {
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
	if !ok || s.stun != nil {
		pc.Close()
		return fmt.Errorf("the passed socket %q is of no use: one UDP socket is enough, for STUN", f.Name())
	}
	s.stun = udp
	return nil
}

func (s *sockets) close() {
	for _, l := range append([]net.Listener{s.http, s.metrics}, s.signaling...) {
		if l != nil {
			l.Close()
		}
	}
	if s.stun != nil {
		s.stun.Close()
	}
}

func listenSTUN(addr string) (*net.UDPConn, error) {
	ua, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp", ua)
}

// listenFailure explains why a port cannot be had.
func listenFailure(err error, flag string) error {
	var addr *net.AddrError
	var port *net.DNSError
	if errors.As(err, &addr) || errors.As(err, &port) {
		return usage("for example: "+flag+" :8080", "%w", err)
	}
	return fail(exitError, err, "another program may use the port, or it takes privileges; choose another with "+flag)
}
