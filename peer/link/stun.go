package link

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// stunPauses are the pauses after each transmission of a question to a STUN server, more
// of them than RFC 8489 section 6.2.1 has, and shorter: without an answer there may be no
// path, and at 29 % loss each way half the questions get none. They add up to 8 s, which
// nobody waits for: answers are used as they come, until the link is up.
var stunPauses = []time.Duration{
	100 * time.Millisecond, 150 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	500 * time.Millisecond, time.Second, time.Second, time.Second, 1500 * time.Millisecond, 2 * time.Second,
}

// errNoSTUNAnswer reports a STUN server that did not answer.
var errNoSTUNAnswer = errors.New("no answer from the STUN server")

// errSTUNRefused reports a STUN server that does not do what was asked.
var errSTUNRefused = errors.New("refused by the STUN server")

// stunAnswer is what came back from a STUN server.
type stunAnswer struct {
	from, mapped netip.AddrPort
	refused      bool   // it does not do what was asked
	other        uint16 // another port on which it answers, 0 if it did not say
}

// appendBindingRequest appends a Binding request, with CHANGE-REQUEST (RFC 5780 section
// 7.2) if the answer is to come from another port.
func appendBindingRequest(b []byte, transaction [12]byte, change bool) []byte {
	b = binary.BigEndian.AppendUint16(b, stunBinding|stunRequest)
	var attributes []byte
	if change {
		attributes = binary.BigEndian.AppendUint16(attributes, attrChangeRequest)
		attributes = binary.BigEndian.AppendUint16(attributes, 4)
		attributes = binary.BigEndian.AppendUint32(attributes, stunChangePort)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(attributes)))
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	b = append(b, transaction[:]...)
	return append(b, attributes...)
}

// parseSTUNAnswer reads XOR-MAPPED-ADDRESS (RFC 8489 section 14.2) of a vetted
// message.
func parseSTUNAnswer(info stunInfo, from netip.AddrPort) (stunAnswer, bool) {
	if info.class == stunError {
		return stunAnswer{from: from, refused: true}, true
	}
	v := info.mapped
	if info.class != stunSuccess || v == nil {
		return stunAnswer{}, false
	}
	var mask [16]byte
	binary.BigEndian.PutUint32(mask[:], stunCookie)
	copy(mask[4:], info.transaction[:])
	raw := make([]byte, len(v)-4)
	for i := range raw {
		raw[i] = v[4+i] ^ mask[i]
	}
	addr, ok := netip.AddrFromSlice(raw)
	port := binary.BigEndian.Uint16(v[2:]) ^ stunCookie>>16
	a := stunAnswer{from: from, mapped: netip.AddrPortFrom(addr.Unmap(), port)}
	if info.other != nil {
		a.other = binary.BigEndian.Uint16(info.other[2:])
	}
	return a, ok && port != 0 && !addr.IsUnspecified()
}

// inquiry is a Binding request to a STUN server, repeated until it is answered.
type inquiry struct {
	mux     *mux
	sock    udpSocket
	to      netip.AddrPort
	change  bool // the answer is asked for from another port
	tx      [12]byte
	answers chan stunAnswer
}

// inquire sends a Binding request for the first time, from the socket that carries
// links. answer must be called next.
func (m *mux) inquire(to netip.AddrPort, change bool) (*inquiry, error) {
	s := m.socks[familyOf(to.Addr())]
	if s == nil {
		return nil, fmt.Errorf("no socket for %v", to)
	}
	i := &inquiry{mux: m, sock: s, to: to, change: change, answers: make(chan stunAnswer, 4)}
	_, _ = rand.Read(i.tx[:]) // never fails
	m.mu.Lock()
	m.queries[i.tx] = i.answers
	m.mu.Unlock()
	if err := i.send(); err != nil {
		i.forget()
		return nil, err
	}
	return i, nil
}

func (i *inquiry) send() error {
	_, err := i.sock.WriteToUDPAddrPort(appendBindingRequest(make([]byte, 0, stunHeaderSize+8), i.tx, i.change), i.to)
	return err
}

func (i *inquiry) forget() {
	i.mux.mu.Lock()
	delete(i.mux.queries, i.tx)
	i.mux.mu.Unlock()
}

// fits reports whether an answer comes from where it was asked for.
func (i *inquiry) fits(a stunAnswer) bool {
	if !i.change || a.refused {
		return a.from == i.to
	}
	return a.from.Addr() == i.to.Addr() && a.from.Port() != i.to.Port()
}

// answer waits for the answer, and repeats the question after each of the pauses but the
// last. Answers that do not come from the server's address, with the transaction's random
// number, are ignored.
func (i *inquiry) answer(ctx context.Context, pauses []time.Duration) (stunAnswer, error) {
	defer i.forget()
	for n, pause := range pauses {
		if n > 0 {
			if err := i.send(); err != nil {
				return stunAnswer{}, err
			}
		}
		timer := time.NewTimer(pause)
		for waiting := true; waiting; {
			select {
			case a := <-i.answers:
				if !i.fits(a) {
					continue
				}
				timer.Stop()
				if a.refused {
					return stunAnswer{}, errSTUNRefused
				}
				return a, nil
			case <-timer.C:
				waiting = false
			case <-ctx.Done():
				timer.Stop()
				return stunAnswer{}, ctx.Err()
			}
		}
	}
	return stunAnswer{}, errNoSTUNAnswer
}

// ask asks a STUN server for the address of the socket that carries links.
func (m *mux) ask(ctx context.Context, server netip.AddrPort) (netip.AddrPort, error) {
	i, err := m.inquire(server, false)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := i.answer(ctx, stunPauses)
	return a.mapped, err
}

// CheckSTUNServer checks what [Config.STUN] lists: host:port, with or without the
// stun: of RFC 7064.
func CheckSTUNServer(s string) error {
	_, err := parseSTUNServer(s)
	return err
}

// parseSTUNServer checks a server of the configuration: host:port, with or without
// the stun: of RFC 7064.
func parseSTUNServer(s string) (hostport string, err error) {
	hostport = strings.TrimPrefix(s, "stun:")
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" {
		return "", fmt.Errorf("STUN server %q: want host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("STUN server %q: port %q is not a number from 1 to 65535", s, port)
	}
	return hostport, nil
}

// mapAll asks every server once in each address family, all at the same time, and
// calls found for each answer or failure as it comes, one call at a time.
func (m *mux) mapAll(ctx context.Context, resolve resolver, servers []string, found func(Mapping)) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex // serializes found
	)
	report := func(r Mapping) {
		mu.Lock()
		defer mu.Unlock()
		found(r)
	}
	for _, server := range servers {
		for f := range families {
			if m.socks[f] == nil || !m.primary()[f].IsValid() {
				continue
			}
			wg.Go(func() {
				addr, err := resolve(ctx, f, server)
				if err != nil {
					report(Mapping{Server: server, Err: err})
					return
				}
				begin := time.Now()
				mapped, err := m.ask(ctx, addr)
				answer := Mapping{Server: server, Addr: addr, Mapped: mapped, RTT: time.Since(begin), Err: err}
				if err == nil {
					m.mu.Lock()
					m.learned[addr] = learned{answer, time.Now()}
					m.mu.Unlock()
				}
				report(answer)
			})
		}
	}
	wg.Wait()
}

// mappingLife is how long an answer may be used without asking again: NATs forget a
// mapping that is not used after 30 s or more (RFC 4787 wants 120).
const mappingLife = 25 * time.Second

// learned is an answer of a STUN server, and when it came.
type learned struct {
	Mapping
	at time.Time
}

// recent gives the answers that are still good.
func (m *mux) recent() []Mapping {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Mapping
	for addr, l := range m.learned {
		if time.Since(l.at) > mappingLife {
			delete(m.learned, addr)
			continue
		}
		out = append(out, l.Mapping)
	}
	return out
}

// resolver finds the address of a host:port in one family.
type resolver func(ctx context.Context, f family, hostport string) (netip.AddrPort, error)

// resolveSystem is the resolver for real networks.
func resolveSystem(ctx context.Context, f family, hostport string) (netip.AddrPort, error) {
	network := "ip4"
	if f == ipv6 {
		network = "ip6"
	}
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(port)), nil
}
