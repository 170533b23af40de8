package portmap

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestUPnP makes, checks and removes mappings at devices with habits of their own.
func TestUPnP(t *testing.T) {
	want := request{network: "udp4", port: 5000}
	conflict := func(times int) func(r *fakeRouter) {
		return func(r *fakeRouter) { r.conflicts = times }
	}
	for _, c := range []struct {
		name   string
		router func(r *fakeRouter)
		want   request
		asked  []string // ? is a port of the client's choice
		err    error
	}{
		{"version 1", nil, want, []string{"AddPortMapping UDP 5000 for 1200"}, nil},
		{"TCP", nil, request{network: "tcp4", port: 5000}, []string{"AddPortMapping TCP 5000 for 1200"}, nil},
		{"as before", nil, request{network: "udp4", port: 5000, suggested: netip.MustParseAddrPort("198.51.100.7:6000")},
			[]string{"AddPortMapping UDP 6000 for 1200"}, nil},
		{"version 2", func(r *fakeRouter) { r.service = igdServices[0] }, want, []string{"AddAnyPortMapping UDP 5000 for 1200"}, nil},
		{"version 2 in name only", func(r *fakeRouter) {
			r.service, r.actions["AddAnyPortMapping"] = igdServices[0], "401"
		}, want, []string{"AddAnyPortMapping UDP 5000 for 1200", "AddPortMapping UDP 5000 for 1200"}, nil},
		{"over PPP", func(r *fakeRouter) { r.service = igdServices[2] }, want, []string{"AddPortMapping UDP 5000 for 1200"}, nil},
		{"permanent mappings only", func(r *fakeRouter) { r.permanent = true }, want,
			[]string{"AddPortMapping UDP 5000 for 1200", "AddPortMapping UDP 5000 for 0"}, nil},
		{"taken", conflict(2), want,
			[]string{"AddPortMapping UDP 5000 for 1200", "AddPortMapping UDP ? for 1200", "AddPortMapping UDP ? for 1200"}, nil},
		{"always taken", conflict(1000), want, append([]string{"AddPortMapping UDP 5000 for 1200"},
			slices.Repeat([]string{"AddPortMapping UDP ? for 1200"}, 2*maxPortTries-1)...), soapConflict},
		{"not allowed", func(r *fakeRouter) { r.actions["AddPortMapping"] = "606" }, want,
			[]string{"AddPortMapping UDP 5000 for 1200"}, soapNotAuthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newFakeRouter(t, UPnP)
			if c.router != nil {
				r.set(func() { c.router(r) })
			}
			s, err := openUPnP(t.Context(), r.route(), r.ssdpPort)
			if err != nil {
				t.Fatal(err)
			}
			g, err := s.add(t.Context(), c.want)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			got := r.requests()
			for i, line := range got {
				if i > 0 && !strings.Contains(line, " UDP 5000 ") && !strings.Contains(line, " UDP 6000 ") {
					f := strings.Fields(line)
					f[2] = "?"
					got[i] = strings.Join(f, " ")
				}
			}
			if !slices.Equal(got, c.asked) {
				t.Errorf("asked %q, want %q", got, c.asked)
			}
			if err != nil {
				return
			}
			if g.external.Addr() != r.external || r.count() != 1 || g.forever != r.permanent {
				t.Errorf("granted %+v of %d mappings", g, r.count())
			}
			check := func(want bool) {
				t.Helper()
				if held, err := s.check(t.Context(), c.want, g); err != nil || held != want {
					t.Errorf("held %v, %v", held, err)
				}
			}
			check(true)
			r.set(func() { r.external = netip.MustParseAddr("198.51.100.8") })
			check(false)
			r.set(func() { r.external = g.external.Addr() })
			check(true)
			r.set(func() {
				r.mappings["UDP "+fmt.Sprint(g.external.Port())], r.mappings["TCP "+fmt.Sprint(g.external.Port())] = 22, 22
			})
			check(false) // it leads elsewhere
			r.set(func() { r.actions["GetSpecificPortMappingEntry"] = "401" })
			check(true) // it does not tell
			r.set(func() { delete(r.actions, "GetSpecificPortMappingEntry") })
			if err := s.remove(t.Context(), c.want, g); err != nil {
				t.Error(err)
			}
			check(false)
		})
	}
}

// TestDescription takes descriptions apart as they are found in the wild.
func TestDescription(t *testing.T) {
	service := func(kind, control string) string {
		return "<service><serviceType>urn:schemas-upnp-org:service:" + kind + "</serviceType><controlURL>" + control + "</controlURL></service>"
	}
	for _, c := range []struct {
		name, doc string
		want      []string // control URLs
	}{
		{"none", "<root/>", nil},
		{"the better one first", service("WANPPPConnection:1", "/p") + service("WANIPConnection:1", "/1") + service("WANIPConnection:2", "/2"), []string{"/2", "/1", "/p"}},
		{"other services", service("Layer3Forwarding:1", "/l") + service("WANIPConnection:1", " \n/1\n"), []string{"/1"}},
		{"no URL", service("WANIPConnection:1", ""), nil},
		{"cut off", service("WANIPConnection:1", "/1") + "<service><serviceTy", []string{"/1"}},
		{"attributes, comments, an entity", `<a b="c"><!-- x -->` + service("WANIPConnection:1", "/1?a&amp;b") + "&nbsp;</a>", []string{"/1?a&b"}},
		{"very many", strings.Repeat(service("WANIPConnection:1", "/1"), 1000), slices.Repeat([]string{"/1"}, maxServices)},
		{"very deep", strings.Repeat("<a>", 1000), nil},
	} {
		services, _, _ := parseIGD([]byte(c.doc))
		var got []string
		for _, s := range services {
			got = append(got, s.control)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzIGD(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(description, igdServices[0])))
	f.Add([]byte(`<a><![CDATA[x]]><b/></a>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		services, name, _ := parseIGD(doc)
		if len(services) > maxServices || len(name) > 4*maxXMLText {
			t.Errorf("%d services of %q", len(services), name)
		}
	})
}

func FuzzSSDP(f *testing.F) {
	f.Add(ssdpAnswer("http://192.168.1.1:5000/rootDesc.xml"))
	f.Add(ssdpAnswer("http://192.168.1.1@169.254.169.254/"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := home.parseSSDP(b)
		if err != nil {
			return
		}
		// What HTTP would connect to is what counts.
		req, err := http.NewRequest(http.MethodGet, u.String(), nil)
		if err != nil {
			return
		}
		if host := req.URL.Hostname(); host != home.gateway.String() || req.URL.Scheme != "http" {
			t.Errorf("%q leads to %q", b, req.URL)
		}
	})
}
