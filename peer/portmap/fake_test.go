package portmap

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
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
	began    time.Time           // of its epoch
	lifetime time.Duration       // granted, whatever was asked for; 0: as asked for
	mappings map[string]uint16   // external by "udp 1234"
	seen     []string            // requests that would change something
	respond  func([]byte) []byte // to PCP and NAT-PMP, instead of what it would; nil for silence
	actions  map[string]string   // UPnP: body or error number by action, instead of what it would
	service  string
	mapPort  uint16
	ssdpPort uint16
	refuse   uint8 // PCP's and NAT-PMP's result
	changed  chan struct{}
}

func newFakeRouter(t *testing.T, speaks ...Protocol) *fakeRouter {
	r := &fakeRouter{
		t:        t,
		external: netip.MustParseAddr("198.51.100.7"),
		began:    time.Now(),
		mappings: map[string]uint16{},
		actions:  map[string]string{},
		service:  igdServices[1],
		changed:  make(chan struct{}, 1000),
	}
	c := r.listen()
	r.mapPort = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	r.serve(c, func(b []byte, _ netip.AddrPort) [][]byte {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.respond != nil {
			return [][]byte{r.respond(b)}
		}
		for _, p := range speaks {
			if p == PCP && b[0] == versionPCP {
				return [][]byte{r.pcpLocked(b)}
			}
			if p == NATPMP && b[0] == versionNATPMP {
				return [][]byte{r.natpmpLocked(b)}
			}
		}
		return nil
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
	select {
	case r.changed <- struct{}{}:
	default:
	}
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

// serveUPnP answers SSDP on c and serves a device over HTTP.
func (r *fakeRouter) serveUPnP(c *net.UDPConn) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.location = "http://" + l.Addr().String() + "/desc.xml"
	r.http = http.NewServeMux()
	r.http.HandleFunc("GET /desc.xml", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintf(w, description, r.service)
	})
	r.http.HandleFunc("POST /control", r.soap)
	srv := &http.Server{Handler: r.http}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	r.t.Cleanup(func() {
		srv.Close()
		<-done
	})
	r.serve(c, func(b []byte, _ netip.AddrPort) [][]byte {
		if !strings.HasPrefix(string(b), "M-SEARCH * HTTP/1.1\r\n") {
			r.t.Errorf("not a search: %q", b)
			return nil
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		return [][]byte{ssdpAnswer(r.location)}
	})
}

func ssdpAnswer(location string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"+
		"USN: uuid:1::urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nEXT:\r\nSERVER: fake\r\nLOCATION: %s\r\n\r\n", location)
}

const description = `<?xml version="1.0" encoding="ISO-8859-1"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<friendlyName>Fake &amp; Sons</friendlyName><modelName>One</modelName>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/other</controlURL></service></serviceList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service><serviceType>%s</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/event</eventSubURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>`

func (r *fakeRouter) soap(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
		return
	}
	args := map[string]string{}
	if err := walkXML(body, func(name, text string) { args[name] = text }, func(string) {}); err != nil {
		r.t.Error(err)
	}
	_, action, _ := strings.Cut(strings.Trim(req.Header.Get("SOAPAction"), `"`), "#")
	r.mu.Lock()
	defer r.mu.Unlock()
	answer, fault := r.actionLocked(action, args)
	if fixed, ok := r.actions[action]; ok {
		if n, err := strconv.Atoi(fixed); err == nil {
			answer, fault = "", n
		} else {
			answer, fault = fixed, 0
		}
	}
	if fault != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		answer = fmt.Sprintf("<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError><errorCode>%d</errorCode><errorDescription>no</errorDescription></UPnPError></detail></s:Fault>", fault)
	}
	fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>`, answer)
}

// actionLocked does what an action says.
func (r *fakeRouter) actionLocked(action string, args map[string]string) (string, int) {
	key := args["NewProtocol"] + " " + args["NewExternalPort"]
	port := func(name string) uint16 {
		n, err := strconv.ParseUint(args[name], 10, 16)
		if err != nil {
			r.t.Errorf("%s: %s %q", action, name, args[name])
		}
		return uint16(n)
	}
	value := func(name, v string) string {
		return fmt.Sprintf("<u:%sResponse><%s>%s</%s></u:%sResponse>", action, name, v, name, action)
	}
	switch action {
	case "GetExternalIPAddress":
		return value("NewExternalIPAddress", r.external.String()), 0
	case "AddPortMapping", "AddAnyPortMapping":
		r.noteLocked("%s %s for %s", action, key, args["NewLeaseDuration"])
		if action == "AddAnyPortMapping" && r.service != igdServices[0] {
			return "", 401
		}
		if args["NewInternalClient"] != "127.0.0.1" || args["NewEnabled"] != "1" {
			r.t.Errorf("%s: %v", action, args)
		}
		r.mappings[key] = port("NewInternalPort")
		return value("NewReservedPort", args["NewExternalPort"]), 0
	case "DeletePortMapping":
		r.noteLocked("%s %s", action, key)
		if r.mappings[key] == 0 {
			return "", 714
		}
		delete(r.mappings, key)
		return "", 0
	case "GetSpecificPortMappingEntry":
		if r.mappings[key] == 0 {
			return "", 714
		}
		return "<u:x><NewInternalPort>" + strconv.Itoa(int(r.mappings[key])) + "</NewInternalPort><NewInternalClient>127.0.0.1</NewInternalClient></u:x>", 0
	}
	return "", 401
}
