package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
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
	patients := []struct {
		name   string
		cfg    natlab.Config
		code   int
		nat    facts // over IPv4
		ipv6   bool
		mapped bool // by the router
		who    reach
		cmd    *exec.Cmd
		out    bytes.Buffer
	}{
		{name: "open", code: 0, nat: facts{"none", "open", "unknown"}, who: reachAll},
		{name: "full cone", cfg: natlab.Config{NAT: natlab.FullCone}, nat: facts{"endpoint-independent", "open", "no"}, who: reachAll},
		{name: "cone", cfg: natlab.Config{NAT: natlab.Cone}, nat: facts{"endpoint-independent", "port-dependent", "no"}, who: reachUsual},
		{name: "symmetric", cfg: natlab.Config{NAT: natlab.Symmetric}, code: 1, nat: facts{"address- and port-dependent", "port-dependent", "unknown"}, who: reachOpen},
		{name: "symmetric with IPv6", cfg: natlab.Config{NAT: natlab.Symmetric, IPv6: true}, code: 1, nat: facts{"address- and port-dependent", "port-dependent", "unknown"}, ipv6: true, who: reachOpen},
		{name: "symmetric, and a router that maps ports", cfg: natlab.Config{NAT: natlab.Symmetric, PortMap: natlab.UPnP | natlab.NATPMP | natlab.PCP},
			nat: facts{"address- and port-dependent", "port-dependent", "unknown"}, who: reachAll, mapped: true},
		{name: "IPv6 only", cfg: natlab.Config{IPv6: true, NoIPv4: true}, ipv6: true, who: reachIPv6},
		{name: "no UDP", cfg: natlab.Config{NAT: natlab.Cone, NoUDP: true}, code: 2, who: reachLocal},
	}
	for i := range patients {
		p := &patients[i]
		if _, err := exec.LookPath("miniupnpd"); err != nil && p.mapped {
			continue
		}
		m := lab.Site(p.name, p.cfg).Machine(p.name)
		p.cmd = at("doctor", "--json", "--signal", "ws://"+address)
		p.cmd.Stdout = &p.out
		if err := m.Start(p.cmd); err != nil {
			t.Fatal(err)
		}
	}
	for i := range patients {
		p := &patients[i]
		t.Run(p.name, func(t *testing.T) {
			if p.cmd == nil {
				t.Skip("miniupnpd is not installed")
			}
			if err := p.cmd.Wait(); err != nil && p.code == 0 {
				t.Error(err)
			}
			if code := p.cmd.ProcessState.ExitCode(); code != p.code {
				t.Errorf("exit status %d, want %d", code, p.code)
			}
			var e struct {
				Findings []struct {
					Check, Verdict, Text string
					Facts                struct {
						facts
						Answered bool
						Mapped   bool
						Reach    reach
					}
				}
			}
			if err := json.Unmarshal(p.out.Bytes(), &e); err != nil {
				t.Fatalf("%v in %s", err, p.out.String())
			}
			var nat facts
			for _, f := range e.Findings {
				t.Log(f.Verdict, f.Check, f.Text)
				switch f.Check {
				case "nat":
					nat = f.Facts.facts
				case "ipv6":
					if f.Facts.Answered != p.ipv6 {
						t.Errorf("IPv6: %v", f.Facts.Answered)
					}
				case "portmap":
					if f.Facts.Mapped != p.mapped {
						t.Errorf("a port was mapped: %v", f.Facts.Mapped)
					}
				case "guests":
					if f.Facts.Reach != p.who {
						t.Errorf("guests: %s, want %s", f.Facts.Reach, p.who)
					}
				}
			}
			if nat != p.nat {
				t.Errorf("NAT %+v, want %+v", nat, p.nat)
			}
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
