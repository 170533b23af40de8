package portmap

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// fakeRouter is a router on 127.0.0.1, that speaks what it is told to.
type fakeRouter struct {
	t        *testing.T
	external netip.Addr
	http     *http.ServeMux
	location string // of its UPnP description

	mu       sync.Mutex
	began    time.Time                                           // of its epoch
	lifetime time.Duration                                       // granted, whatever was asked for; 0: as asked for
	mappings map[string]uint16                                   // external by "udp 1234"
	seen     []string                                            // requests that would change something
	before   func(question []byte, from netip.AddrPort) [][]byte // what it sends before its answer to PCP and NAT-PMP
	search   func(from netip.AddrPort) [][]byte                  // what it answers to SSDP, instead of its location
	actions  map[string]string                                   // UPnP: body or error number by action, instead of what it would
	service  string
	// UPnP: it knows no lifetimes; as many requests as there are conflicts fail.
	permanent bool
	conflicts int
	mapPort   uint16
	ssdpPort  uint16
	refuse    uint8 // PCP's and NAT-PMP's result
}

func newFakeRouter(t *testing.T, speaks ...Protocol) *fakeRouter {
	r := &fakeRouter{
		t:        t,
		external: netip.MustParseAddr("198.51.100.7"),
		began:    time.Now(),
		mappings: map[string]uint16{},
		actions:  map[string]string{},
		service:  igdServices[1],
	}
	c := r.listen()
	r.mapPort = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	r.serve(c, func(b []byte, from netip.AddrPort) (out [][]byte) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.before != nil {
			out = r.before(b, from)
		}
		for _, p := range speaks {
			if p == PCP && b[0] == versionPCP {
				out = append(out, r.pcpLocked(b))
			}
			if p == NATPMP && b[0] == versionNATPMP {
				out = append(out, r.natpmpLocked(b))
			}
		}
		return out
	})
	s := r.listen()
	r.ssdpPort = s.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	for _, p := range speaks {
		if p == UPnP {
			r.serveUPnP(s)
		}
	}
	t.Cleanup(func() { s.Close() })
	return r
}

func (r *fakeRouter) listen() *net.UDPConn {
	r.t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *fakeRouter) serve(c *net.UDPConn, answer func(b []byte, from netip.AddrPort) [][]byte) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			for _, a := range answer(buf[:n], from) {
				if a != nil {
					c.WriteToUDPAddrPort(a, from)
				}
			}
		}
	}()
	r.t.Cleanup(func() {
		c.Close()
		<-done
	})
}

// network is where the router is the gateway.
func (r *fakeRouter) network() network {
	return network{
		findRoute: func(six bool) (route, error) {
			if six {
				return route{}, errNoGateway
			}
			return r.route(), nil
		},
		mapPort:  r.mapPort,
		ssdpPort: r.ssdpPort,
	}
}

func (r *fakeRouter) route() route {
	local := netip.MustParseAddr("127.0.0.1")
	return route{local, local}
}

func (r *fakeRouter) epochLocked() uint32 { return uint32(time.Since(r.began) / time.Second) }

// set changes the router while it is in use.
func (r *fakeRouter) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// requests gives what was asked of the router, and forgets it.
func (r *fakeRouter) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

func (r *fakeRouter) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mappings)
}

func (r *fakeRouter) noteLocked(format string, args ...any) {
	r.seen = append(r.seen, fmt.Sprintf(format, args...))
}

// mapLocked makes or removes a mapping, and gives the external port.
func (r *fakeRouter) mapLocked(protocol uint8, internal, suggested uint16, life time.Duration) uint16 {
	key := fmt.Sprintf("%d %d", protocol, internal)
	r.noteLocked("%d:%d for %v", protocol, internal, life)
	if life == 0 {
		delete(r.mappings, key)
		return 0
	}
	if r.mappings[key] == 0 {
		r.mappings[key] = suggested
	}
	return r.mappings[key]
}

func (r *fakeRouter) grantedLocked(asked time.Duration) time.Duration {
	if asked != 0 && r.lifetime != 0 {
		return r.lifetime
	}
	return asked
}

func (r *fakeRouter) pcpLocked(b []byte) []byte {
	h := pcpHeader{opcode: b[1], result: pcpResult(r.refuse), epoch: r.epochLocked()}
	if h.opcode == pcpAnnounce {
		h.result = 0
		return appendPCPResponse(nil, h, nil)
	}
	asked := time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second
	h.lifetime = r.grantedLocked(asked)
	d := b[pcpHeaderSize:]
	m := &pcpMapping{nonce: [12]byte(d), protocol: d[12], internal: binary.BigEndian.Uint16(d[16:])}
	if r.refuse == 0 {
		m.external = netip.AddrPortFrom(r.external, r.mapLocked(m.protocol, m.internal, binary.BigEndian.Uint16(d[18:]), asked))
	}
	return appendPCPResponse(nil, h, m)
}

func (r *fakeRouter) natpmpLocked(b []byte) []byte {
	resp := natpmpResponse{opcode: b[1], epoch: r.epochLocked(), address: r.external}
	if b[1] != natpmpAddress {
		resp.result = natpmpResult(r.refuse)
		asked := time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Second
		resp.lifetime = r.grantedLocked(asked)
		protocol := uint8(ipUDP)
		if b[1] == natpmpMapTCP {
			protocol = ipTCP
		}
		resp.internal = binary.BigEndian.Uint16(b[4:])
		if r.refuse == 0 {
			resp.external = r.mapLocked(protocol, resp.internal, binary.BigEndian.Uint16(b[6:]), asked)
		}
	}
	return appendNATPMPResponse(nil, resp)
}
