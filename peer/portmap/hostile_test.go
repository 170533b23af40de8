package portmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// stranger is a machine on the LAN that is not the router.
func stranger(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Skipf("no second address on the loopback interface: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestForgedAnswers has answers come before the router's: from another machine, from
// another port of the router, to other questions, and pieces of answers. Only the router's
// counts.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	evil := netip.MustParseAddrPort("203.0.113.66:666")
	want := request{network: "udp4", port: 5000, nonce: [12]byte{1, 2, 3}}
	forgedPCP := func(change func(h *pcpHeader, m *pcpMapping)) []byte {
		h := pcpHeader{opcode: pcpMap, lifetime: time.Hour}
		m := &pcpMapping{nonce: want.nonce, protocol: ipUDP, internal: want.port, external: evil}
		if change != nil {
			change(&h, m)
		}
		return appendPCPResponse(nil, h, m)
	}
	forgedNATPMP := func(change func(r *natpmpResponse)) []byte {
		r := natpmpResponse{opcode: natpmpMapUDP, internal: want.port, external: evil.Port(), lifetime: time.Hour}
		if change != nil {
			change(&r)
		}
		return appendNATPMPResponse(nil, r)
	}
	other := stranger(t)
	for _, protocol := range []Protocol{PCP, NATPMP} {
		t.Run(protocol.String(), func(t *testing.T) {
			r := newFakeRouter(t, protocol)
			otherPort := r.listen()
			defer otherPort.Close()
			var s server
			var err error
			if protocol == PCP {
				s, err = openPCP(t.Context(), r.route(), r.mapPort)
			} else {
				s, err = openNATPMP(t.Context(), r.route(), r.mapPort)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.set(func() {
				r.before = func(_ []byte, from netip.AddrPort) [][]byte {
					forged := forgedNATPMP(nil)
					if protocol == PCP {
						forged = forgedPCP(nil)
					}
					other.WriteToUDPAddrPort(forged, from)
					otherPort.WriteToUDPAddrPort(forged, from)
					if protocol == NATPMP {
						return [][]byte{
							forgedNATPMP(func(r *natpmpResponse) { r.internal++ }),
							forgedNATPMP(func(r *natpmpResponse) { r.opcode = natpmpMapTCP }),
							forged[:len(forged)-1],
							{},
							bytes.Repeat([]byte{0}, maxMessage+1),
						}
					}
					return [][]byte{
						forgedPCP(func(_ *pcpHeader, m *pcpMapping) { m.nonce[11]++ }),
						forgedPCP(func(_ *pcpHeader, m *pcpMapping) { m.protocol = ipTCP }),
						forgedPCP(func(_ *pcpHeader, m *pcpMapping) { m.internal++ }),
						forgedPCP(func(h *pcpHeader, _ *pcpMapping) { h.opcode = pcpAnnounce }),
						forgedPCP(func(h *pcpHeader, m *pcpMapping) { h.result, m.nonce[0] = 2, 0 }),
						forged[:pcpHeaderSize],
						forged[:len(forged)-4],
						forged[:3],
						{},
						append(forged, make([]byte, maxMessage)...),
					}
				}
			})
			g, err := s.add(t.Context(), want)
			if err != nil || g.external != netip.AddrPortFrom(r.external, want.port) {
				t.Errorf("granted %v, %v", g.external, err)
			}
			if r.count() != 1 {
				t.Errorf("%d mappings", r.count())
			}
		})
	}
}

// TestFlood has a router answer with nothing but nonsense, more than anybody would.
func TestFlood(t *testing.T) {
	t.Parallel()
	r := newFakeRouter(t)
	r.set(func() {
		r.before = func([]byte, netip.AddrPort) [][]byte {
			out := make([][]byte, 10*maxNonsense)
			for i := range out {
				out[i] = []byte{versionPCP, 0x81, 0, 0}
			}
			return out
		}
	})
	for _, o := range r.network().withDefaults().openers(r.route())[:2] {
		// NAT-PMP sees at once that it is the other version.
		if _, err := o.open(t.Context()); !errors.Is(err, errNonsense) && !errors.Is(err, errOtherVersion) {
			t.Errorf("%v: %v", o.protocol, err)
		}
	}
}

// TestOtherVersion holds that servers of one protocol are told from those of the other.
func TestOtherVersion(t *testing.T) {
	r := newFakeRouter(t)
	r.set(func() {
		r.before = func(q []byte, _ netip.AddrPort) [][]byte { // RFC 6886 section 9, RFC 6887 section 9
			if q[0] == versionPCP {
				return [][]byte{{versionNATPMP, responseBit, 0, 1, 0, 0, 0, 9}}
			}
			return [][]byte{appendPCPResponse(nil, pcpHeader{opcode: pcpAnnounce, result: pcpUnsupportedVersion}, nil)}
		}
	})
	for _, o := range r.network().withDefaults().openers(r.route())[:2] {
		if _, err := o.open(t.Context()); !errors.Is(err, errOtherVersion) {
			t.Errorf("%v: %v", o.protocol, err)
		}
	}
}

// victim is a web server that no router may have us ask anything.
func victim(t *testing.T, addr string) (base string, hits *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("no victim at %s: %v", addr, err)
	}
	hits = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hits.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "http://" + l.Addr().String(), hits
}

// TestThirdParties has the router point at others: in the answer to a search, by a
// redirect, and in its description. Nobody but the router is asked anything.
func TestThirdParties(t *testing.T) {
	t.Parallel()
	base, hits := victim(t, "127.0.0.2:0")
	port := base[strings.LastIndex(base, ":")+1:]
	t.Run("location", func(t *testing.T) {
		for _, location := range []string{
			base + "/desc.xml", "http://169.254.169.254/latest/meta-data/", "http://localhost:" + port + "/", "http://[::1]:" + port + "/",
			"http://127.0.0.1@127.0.0.2:" + port + "/", "http://127.0.0.1.example.org/", "https://127.0.0.1/", "file:///etc/passwd",
			"http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://0x7f000002:" + port + "/", "//127.0.0.2:" + port, "", "http://", "gopher://127.0.0.1/",
		} {
			if u, err := (&fakeRouter{}).route().parseSSDP(ssdpAnswer(location)); !errors.Is(err, errNotTheGateway) && !errors.Is(err, errMalformed) {
				t.Errorf("%s is taken: %v", location, u)
			}
		}
	})
	t.Run("from another machine", func(t *testing.T) {
		r := newFakeRouter(t, UPnP)
		other := stranger(t)
		own := r.location
		r.set(func() {
			r.search = func(from netip.AddrPort) [][]byte {
				other.WriteToUDPAddrPort(ssdpAnswer(own), from)
				return nil
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := openUPnP(ctx, r.route(), r.ssdpPort); err == nil {
			t.Error("taken")
		}
	})
	t.Run("redirect", func(t *testing.T) {
		r := newFakeRouter(t, UPnP)
		r.http.HandleFunc("GET /moved.xml", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, base+"/desc.xml", http.StatusFound)
		})
		r.set(func() { r.location = strings.Replace(r.location, "desc", "moved", 1) })
		if s, err := openUPnP(t.Context(), r.route(), r.ssdpPort); err == nil || !strings.Contains(err.Error(), "302") {
			t.Errorf("%+v, %v", s, err)
		}
	})
	t.Run("control URL", func(t *testing.T) {
		r := newFakeRouter(t, UPnP)
		r.http.HandleFunc("GET /evil.xml", func(w http.ResponseWriter, _ *http.Request) {
			doc := fmt.Sprintf(description, igdServices[0])
			io.WriteString(w, strings.NewReplacer("<controlURL>/control", "<controlURL>"+base+"/control",
				"<specVersion>", "<URLBase>"+base+"</URLBase><specVersion>").Replace(doc))
		})
		r.set(func() { r.location = strings.Replace(r.location, "desc", "evil", 1) })
		if _, err := openUPnP(t.Context(), r.route(), r.ssdpPort); !errors.Is(err, errNotTheGateway) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("dial", func(t *testing.T) { // should the checks before it fail
		resp, err := (&fakeRouter{}).route().httpClient().Get(base)
		if !errors.Is(err, errNotTheGateway) {
			resp.Body.Close()
			t.Errorf("error %v", err)
		}
	})
	if n := hits.Load(); n != 0 {
		t.Errorf("somebody else was asked %d times", n)
	}
}

// TestBadHTTP has the router's web server do what it can.
func TestBadHTTP(t *testing.T) {
	t.Parallel()
	endless := func(w http.ResponseWriter, piece string) {
		for {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name    string
		handler func(w http.ResponseWriter, req *http.Request)
	}{
		{"endless", func(w http.ResponseWriter, _ *http.Request) { endless(w, "<service>") }},
		{"endless header", func(w http.ResponseWriter, _ *http.Request) {
			c, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(buf, "HTTP/1.1 200 OK\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(buf, "X-%d: %s\r\n", i, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}},
		{"slow", func(w http.ResponseWriter, req *http.Request) {
			io.WriteString(w, "<root>")
			w.(http.Flusher).Flush()
			<-req.Context().Done()
		}},
		{"mute", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }},
		{"hangs up", func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				c.Close()
			}
		}},
		{"not found", http.NotFound},
		{"entities", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><root>&c;</root>`)
		}},
		{"deep", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat("<a>", maxDescription/4))
		}},
	} {
		for _, where := range []string{"description", "control"} {
			t.Run(c.name+" "+where, func(t *testing.T) {
				t.Parallel()
				r := newFakeRouter(t, UPnP)
				path := "/bad.xml"
				location := "/other.xml"
				if where == "description" {
					location = path
				} else {
					path = "/bad"
					r.http.HandleFunc("GET /other.xml", func(w http.ResponseWriter, _ *http.Request) {
						io.WriteString(w, strings.ReplaceAll(fmt.Sprintf(description, igdServices[0]), ">/control<", ">/bad<"))
					})
				}
				r.http.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
					io.Copy(io.Discard, req.Body) // so that its context ends with the connection
					c.handler(w, req)
				})
				u, err := url.Parse(strings.Replace(r.location, "/desc.xml", location, 1))
				if err != nil {
					t.Fatal(err)
				}
				if s, err := describeIGD(t.Context(), r.route(), r.route().httpClient(), u); err == nil {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestSearchFlood has the router answer a search without end.
func TestSearchFlood(t *testing.T) {
	t.Parallel()
	r := newFakeRouter(t, UPnP)
	var fetched atomic.Int32
	r.http.HandleFunc("GET /flood/", func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		http.Error(w, "no", http.StatusNotFound)
	})
	base := strings.TrimSuffix(r.location, "/desc.xml")
	r.set(func() {
		r.search = func(netip.AddrPort) [][]byte {
			out := make([][]byte, 20*maxSSDPAnswers)
			for i := range out {
				out[i] = ssdpAnswer(fmt.Sprintf("%s/flood/%d", base, i))
			}
			return out
		}
	})
	if _, err := openUPnP(t.Context(), r.route(), r.ssdpPort); err == nil {
		t.Error("no error")
	}
	if n := fetched.Load(); n != maxLocations {
		t.Errorf("%d descriptions fetched, want %d", n, maxLocations)
	}
}
