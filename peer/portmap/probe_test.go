package portmap

import (
	"errors"
	"net/netip"
	"testing"
)

// TestProbe tells which protocols a router speaks, tries each one out, and leaves
// nothing behind.
func TestProbe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		speaks []Protocol
		best   Protocol // 0 for none
	}{
		{"all", []Protocol{PCP, NATPMP, UPnP}, PCP},
		{"NAT-PMP and UPnP", []Protocol{NATPMP, UPnP}, NATPMP},
		{"UPnP", []Protocol{UPnP}, UPnP},
		{"nothing", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newFakeRouter(t, c.speaks...)
			report, err := probe(t.Context(), r.network())
			if err != nil {
				t.Fatal(err)
			}
			if report.Gateway4 != r.route().gateway || report.Gateway6.IsValid() || len(report.Services) != 3 {
				t.Errorf("%+v", report)
			}
			for _, s := range report.Services {
				want := false
				for _, p := range c.speaks {
					want = want || p == s.Protocol
				}
				if s.Spoken != want || s.Works() != want || want && s.External.Addr() != r.external || want == (s.Err != nil) {
					t.Errorf("%+v", s)
				}
				if s.Protocol == UPnP && want && s.Detail != "Fake & Sons, WANIPConnection:1" {
					t.Errorf("detail %q", s.Detail)
				}
				if !want && !errors.Is(s.Err, errSilent) && !errors.Is(s.Err, errRefused) {
					t.Errorf("%v: %v", s.Protocol, s.Err)
				}
			}
			best, ok := report.Best("udp4")
			if ok != (c.best != 0) || best.Protocol != c.best {
				t.Errorf("best %v, %v", best, ok)
			}
			if n := r.count(); n != 0 {
				t.Errorf("%d mappings are left", n)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		r := newFakeRouter(t, PCP)
		r.set(func() { r.refuse = 2 })
		report, err := probe(t.Context(), r.network())
		if err != nil {
			t.Fatal(err)
		}
		if s := report.Services[0]; !s.Spoken || s.Works() || !errors.Is(s.Err, pcpResult(2)) {
			t.Errorf("%+v", s)
		}
	})
	t.Run("no gateway", func(t *testing.T) {
		_, err := probe(t.Context(), network{findRoute: func(bool) (route, error) { return route{}, errNoGateway }})
		if !errors.Is(err, errNoGateway) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("double NAT", func(t *testing.T) {
		t.Parallel()
		r := newFakeRouter(t, NATPMP)
		r.set(func() { r.external = netip.MustParseAddr("100.64.3.4") })
		report, err := probe(t.Context(), r.network())
		if best, ok := report.Best("udp4"); err != nil || !ok || !best.DoubleNAT() {
			t.Errorf("%+v, %v", best, err)
		}
	})
}
