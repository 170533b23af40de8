package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/portmap"
)

// routerTimeout bounds the search for routers that map ports; most that map none are
// silent about it.
const routerTimeout = 5 * time.Second

// routerResult is what the routers in front of this machine do when they are asked for a
// port.
type routerResult struct {
	asked  bool
	report portmap.Report
	err    error // there is no router
}

// askRouter finds out which protocols the router speaks.
func (d *doctor) askRouter(ctx context.Context) routerResult {
	if d.opts.noPortmap {
		return routerResult{}
	}
	ctx, cancel := context.WithTimeout(ctx, routerTimeout)
	defer cancel()
	r := routerResult{asked: true}
	r.report, r.err = portmap.Probe(ctx)
	return r
}

// useful reports whether a port can be mapped that the Internet reaches.
func (r routerResult) useful() bool {
	s, ok := r.report.Best("udp4")
	return ok && !s.DoubleNAT()
}

// findings tells about the router, given the NAT that servers see.
func (r routerResult) findings(nat link.NAT) []finding {
	if !r.asked {
		return nil
	}
	f := finding{Check: "portmap"}
	if r.err != nil {
		f.Verdict, f.Text = verdictNote, "no router to ask"
		f.Facts = map[string]any{"protocols": []string{}, "mapped": false}
		return []finding{f}
	}
	var (
		spoken, works []string
		refused       error
	)
	add := func(to *[]string, s portmap.Service) {
		if name := s.Protocol.String(); !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	for _, s := range r.report.Services {
		if s.Network != "udp4" || !s.Spoken {
			continue
		}
		add(&spoken, s)
		if s.Works() {
			add(&works, s)
		} else if refused == nil {
			refused = s.Err
		}
	}
	f.Facts = map[string]any{"protocols": append([]string{}, spoken...), "mapped": len(works) > 0}
	best, ok := r.report.Best("udp4")
	if ok {
		f.Facts["external"] = best.External.Addr().String()
	}
	switch {
	case ok && best.DoubleNAT():
		f.Verdict = verdictWarning
		f.Text = fmt.Sprintf("the router maps ports by %s, but there is another NAT in front of it: its outer address is %v", strings.Join(works, ", "), best.External.Addr())
		f.Hint = "ask your provider for a public address or IPv6, or use a VPN, such as WireGuard or Tailscale"
	case ok:
		f.Text = fmt.Sprintf("the router maps ports by %s, at %v", strings.Join(works, ", "), best.External.Addr())
		if best.Detail != "" {
			f.Text += " (" + keys.Printable(best.Detail) + ")"
		}
	case len(spoken) > 0:
		f.Verdict = verdictWarning
		f.Text = fmt.Sprintf("the router speaks %s, and maps no port", strings.Join(spoken, ", "))
		if refused != nil {
			f.Text += ": " + brief(refused)
		}
		f.Hint = "allow it in the router's settings, or forward a UDP port to this machine: " + forwardCommand
	case nat.Mapping == link.MappingNone:
		f.Verdict, f.Text = verdictNote, "no router maps ports, and without a NAT none need be mapped"
	default:
		f.Verdict, f.Text = verdictNote, "the router speaks none of PCP, NAT-PMP and UPnP"
		f.Hint = "turn on UPnP or NAT-PMP in the router's settings, if it has them"
	}
	return []finding{f}
}
