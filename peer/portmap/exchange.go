package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// askPauses are the pauses after each transmission of a question of PCP and NAT-PMP:
// those of RFC 6886 section 3.1, four of them, for who does not answer on a LAN by then
// does not speak the protocol. PCP's own begin at three seconds (RFC 6887 section 8.1.1),
// longer than a join takes.
var askPauses = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// maxNonsense bounds the answers to one question that are looked at.
const maxNonsense = 64

var (
	errSilent   = errors.New("no answer from the router")
	errRefused  = errors.New("the router does not listen")
	errNonsense = fmt.Errorf("only nonsense from the router: %w", errMalformed)
)

// ask sends a question to a UDP port of the gateway, again and again, until accept takes
// an answer. The socket is connected, so the kernel drops what others send. Answers that
// accept does not take, without an error, are those to other questions.
func (r route) ask(ctx context.Context, port uint16, question []byte, accept func(b []byte) (bool, error)) error {
	c, err := r.dial(port)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	buf := make([]byte, maxMessage+1) // one more, to notice what is too long
	strange := 0
	for _, pause := range askPauses {
		if _, err := c.Write(question); err != nil {
			return unheard(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(pause)); err != nil {
			return err
		}
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := c.Read(buf)
			if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
				break
			}
			if err != nil {
				return unheard(err)
			}
			done, err := accept(buf[:n])
			if done || err != nil && !errors.Is(err, errMalformed) {
				return err
			}
			if strange++; strange == maxNonsense {
				return errNonsense
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case strange > 0:
		return errNonsense
	}
	return errSilent
}

// dial connects a socket to a port of the gateway.
func (r route) dial(port uint16) (*net.UDPConn, error) {
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.local, 0))
	return net.DialUDP("udp", local, net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.gateway, port)))
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// unheard tells a router that refuses the question from other failures.
func unheard(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errRefused
	}
	return err
}
