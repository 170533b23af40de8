package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/pairterm/pairterm/peer/natlab"
)

// What doctor says of real NATs and firewalls, with a real server.
func TestDoctorInNetworks(t *testing.T) {
	lab := natlab.New(t)
	program, err := exec.LookPath("pairterm")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	at := func(args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "SSH_AUTH_SOCK=", "TERM=xterm-256color", "LC_ALL=C.UTF-8")
		return cmd
	}
	if err := at("keygen").Run(); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(natlab.ServerName, "8080")
	server := at("signal", "--open", "--listen", ":8080")
	said, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Server.Start(server); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	for lines := bufio.NewScanner(said); ; {
		if !lines.Scan() {
			t.Fatal("the server ended")
		}
		if strings.Contains(lines.Text(), "hosts use it with") {
			break
		}
	}

	type facts struct{ Mapping, Filtering, Hairpin string }
	// What there is to know of a network.
	type picture struct {
		nat        facts // over IPv4
		ipv6       bool
		mapped     bool // by the router
		who        reach
		exitStatus int
	}
	cone := facts{"endpoint-independent", "port-dependent", "no"}
	symmetric := facts{"address- and port-dependent", "port-dependent", "unknown"}
	var running sync.WaitGroup
	defer running.Wait()
	for _, tt := range []struct {
		name string
		cfg  natlab.Config
		want picture
	}{
		{"open", natlab.Config{}, picture{nat: facts{"none", "open", "unknown"}, who: reachAll}},
		{"full cone", natlab.Config{NAT: natlab.FullCone}, picture{nat: facts{"endpoint-independent", "open", "no"}, who: reachAll}},
		{"cone", natlab.Config{NAT: natlab.Cone}, picture{nat: cone, who: reachUsual}},
		{"hairpin", natlab.Config{NAT: natlab.Cone, Hairpin: true}, picture{nat: facts{cone.Mapping, cone.Filtering, "yes"}, who: reachUsual}},
		{"symmetric", natlab.Config{NAT: natlab.Symmetric}, picture{nat: symmetric, who: reachOpen, exitStatus: 1}},
		{"symmetric with IPv6", natlab.Config{NAT: natlab.Symmetric, IPv6: true}, picture{nat: symmetric, ipv6: true, who: reachOpen, exitStatus: 1}},
		{"symmetric, and a router that maps ports", natlab.Config{NAT: natlab.Symmetric, PortMap: natlab.UPnP | natlab.NATPMP | natlab.PCP},
			picture{nat: symmetric, mapped: true, who: reachAll}},
		{"IPv6 only", natlab.Config{IPv6: true, NoIPv4: true}, picture{ipv6: true, who: reachIPv6}},
		{"no UDP", natlab.Config{NAT: natlab.Cone, NoUDP: true}, picture{who: reachLocal, exitStatus: 2}},
	} {
		if _, err := exec.LookPath("miniupnpd"); err != nil && tt.cfg.PortMap != 0 {
			t.Logf("%s: left out: miniupnpd is not installed", tt.name)
			continue
		}
		m := lab.Site(tt.name, tt.cfg).Machine(tt.name)
		running.Go(func() {
			var got picture
			var said string
			// An answer that a busy machine keeps back looks like one that was kept out.
			for range 3 {
				var out bytes.Buffer
				cmd := at("doctor", "--json", "--signal", "ws://"+address)
				cmd.Stdout = &out
				if err := m.Start(cmd); err != nil {
					t.Error(err)
					return
				}
				_ = cmd.Wait() // the status is looked at
				said = out.String()
				var e struct {
					Findings []struct {
						Check string
						Facts struct {
							facts
							Answered, Mapped bool
							Reach            reach
						}
					}
				}
				if err := json.Unmarshal(out.Bytes(), &e); err != nil {
					t.Errorf("%s: %v in %s", tt.name, err, said)
					return
				}
				got = picture{exitStatus: cmd.ProcessState.ExitCode()}
				for _, f := range e.Findings {
					switch f.Check {
					case "nat":
						got.nat = f.Facts.facts
					case "ipv6":
						got.ipv6 = f.Facts.Answered
					case "portmap":
						got.mapped = f.Facts.Mapped
					case "guests":
						got.who = f.Facts.Reach
					}
				}
				if got == tt.want {
					return
				}
			}
			t.Errorf("%s: got %+v, want %+v:\n%s", tt.name, got, tt.want, said)
		})
	}
}

// TestHostLearnsOfNoPath has a host told in one line why a guest that it let in found no
// path, and in more when it asks for more; once, though the guest tries several times. The
// guest's side is in TestNetworks.
func TestHostLearnsOfNoPath(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	host, guest := n.Site("host's", natlab.Config{NAT: natlab.Symmetric}), n.Site("guest's", natlab.Config{NAT: natlab.Symmetric})
	h := n.spawn(host.Machine("host"), "host", "--headless", "--verbose", "--signal", n.url, "--", "cat")
	ticket := h.expect(t, `pairterm join (pt1[a-z0-9]+)`)
	n.spawn(guest.Machine("guest"), "join", ticket).expect(t, `error: no direct path`)
	h.expect(t, `: no direct path \(you: symmetric NAT; guest: symmetric NAT\); what helps: UPnP or NAT-PMP in your router`)
	h.expect(t, `your network: a symmetric NAT`)
	h.expect(t, `the guest's: a symmetric NAT`)
	h.expect(t, `tried \d+ pairs? of addresses in 1\d s: \d+ over udp4`)
	h.expect(t, `or forward UDP port 40000 there to this machine: pairterm host --port 40000`)
	if n := strings.Count(h.output(), "no direct path ("); n != 1 {
		t.Errorf("told %d times in %s", n, h.output())
	}
}
