package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/natlab"
)

// roaming is a session whose networks change while both of its streams run.
type roaming struct {
	*internet
	hostSite, guestSite *natlab.Site
	hostAt, guestAt     *natlab.Machine
	guest               *terminal
}

func (r *roaming) await(line int) { r.t.Helper(); r.guest.await(r.t, line) }
func (r *roaming) lastLine() int  { return r.guest.lastLine() }

// guestLog is the guest's log, in the directory of the processes.
const guestLog = "guest.log"

// until waits until the guest's log matches.
func (r *roaming) until(pattern string) {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	if !r.guest.until(func() bool { // there is always something new on the screen
		data, _ := os.ReadFile(filepath.Join(r.dir, guestLog))
		return re.Match(data)
	}) {
		r.t.Errorf("no %q in the guest's log", pattern)
	}
}

// TestRoaming changes the networks of a session under load. It has to go on by itself:
// what the guest types arrives once and in order, and in the end both screens are the
// same.
func TestRoaming(t *testing.T) {
	t.Parallel()
	cone := natlab.Config{NAT: natlab.Cone}
	tcpOnly := natlab.Config{NAT: natlab.Cone, NoUDP: true}
	// pause is how long something is down. Both ends notice it.
	pause := func() { time.Sleep(2 * time.Second) }
	// The two meet only through ports that a router maps on request.
	symmetric := natlab.Config{NAT: natlab.Symmetric}
	mapping := natlab.Config{NAT: natlab.Symmetric, PortMap: natlab.UPnP | natlab.NATPMP | natlab.PCP}
	for _, change := range []struct {
		name        string
		host, guest natlab.Config
		change      func(r *roaming)
	}{
		{"guest's mapping changes", cone, cone, func(r *roaming) { r.guestSite.Remap() }},
		{"host's mapping changes", cone, cone, func(r *roaming) { r.hostSite.Remap() }},
		{"guest's router reboots", cone, cone, func(r *roaming) { r.guestSite.PowerOff(); pause(); r.guestSite.PowerOn() }},
		{"host's router reboots", cone, cone, func(r *roaming) { r.hostSite.PowerOff(); pause(); r.hostSite.PowerOn() }},
		{"guest comes to the host's LAN", cone, cone, func(r *roaming) {
			r.guestAt.Plug(r.hostSite)
			r.guestAt.Unplug("eth0")
		}},
		{"guest's Wi-Fi goes and another comes", cone, cone, func(r *roaming) {
			r.guestAt.Unplug("eth0")
			pause()
			r.guestAt.Plug(r.Site("café", cone))
		}},
		{"host's Wi-Fi goes and another comes", cone, cone, func(r *roaming) {
			r.hostAt.Unplug("eth0")
			pause()
			r.hostAt.Plug(r.Site("café", cone))
		}},
		{"host's router reboots, which maps ports", mapping, symmetric, func(r *roaming) { r.hostSite.PowerOff(); pause(); r.hostSite.PowerOn() }},
		{"guest's router reboots, which maps ports", symmetric, mapping, func(r *roaming) { r.guestSite.PowerOff(); pause(); r.guestSite.PowerOn() }},
		{"host moves to another router that maps ports", mapping, symmetric, func(r *roaming) {
			r.hostAt.Unplug("eth0")
			pause()
			r.hostAt.Plug(r.Site("café", mapping))
		}},
		{"both leave one LAN, each for a network of its own", cone, cone, func(r *roaming) {
			r.guestAt.Plug(r.hostSite)
			r.guestAt.Unplug("eth0")
			r.await(r.lastLine() + 50)
			r.guestAt.Unplug("eth1")
			r.hostAt.Unplug("eth0")
			pause()
			r.guestAt.Plug(r.Site("a café", cone))
			r.hostAt.Plug(r.Site("another café", cone))
		}},
		{"both move, and the signaling server is away for a while", cone, cone, func(r *roaming) {
			r.server.end()
			r.guestAt.Unplug("eth0")
			r.hostAt.Unplug("eth0")
			r.guestAt.Plug(r.Site("a café", cone))
			r.hostAt.Plug(r.Site("another café", cone))
			time.Sleep(8 * time.Second)
			r.serve()
		}},
		{"the host's LAN appears beside the guest's network", cone, cone, func(r *roaming) {
			r.guestAt.PlugBeside(r.hostSite)
			began := time.Now()
			r.until(`path selected.*remote="(host|prflx) udp4 ` + r.hostAt.IPv4().String())
			r.t.Logf("over the LAN after %v", time.Since(began).Round(10*time.Millisecond))
		}},
		{"guest's Wi-Fi goes and another comes, and UDP is blocked", natlab.Config{}, tcpOnly, func(r *roaming) {
			r.guestAt.Unplug("eth0")
			pause()
			r.guestAt.Plug(r.Site("café", tcpOnly))
		}},
		{"guest's mapping changes, the server is gone", natlab.Config{}, cone, func(r *roaming) {
			r.server.cmd.Process.Kill()
			r.guestSite.Remap()
		}},
	} {
		if testing.Short() && change.name != "guest's mapping changes" {
			continue
		}
		t.Run(change.name, func(t *testing.T) {
			t.Parallel()
			r := &roaming{internet: newInternet(t)}
			r.hostSite, r.guestSite = r.Site("the host's", change.host), r.Site("the guest's", change.guest)
			r.hostAt, r.guestAt = r.hostSite.Machine("host"), r.guestSite.Machine("guest")
			r.roam(change.change)
		})
	}
}

// roam runs a session with both streams busy, changes something, and checks that
// nothing was lost or doubled.
func (r *roaming) roam(change func(r *roaming)) {
	t := r.t
	typed, stop := filepath.Join(r.dir, "typed"), filepath.Join(r.dir, "stop")
	host, ticket := r.host(r.hostAt, nil, "sh", "-c",
		`stty raw -echo; (i=0; while [ ! -e stop ]; do i=$((i+1)); printf "line %d\r\n" $i; sleep 0.02; done; printf final) & exec cat >typed`)
	log := filepath.Join(r.dir, guestLog)
	defer func() {
		if t.Failed() {
			theirs, _ := os.ReadFile(filepath.Join(r.dir, "host.log"))
			ours, _ := os.ReadFile(log)
			t.Logf("the host's log:\n%s\nthe guest's log:\n%s", theirs, ours)
		}
	}()
	guest := r.spawn(r.guestAt, "join", "--quiet", "--log", log, "--verbose", ticket)
	r.guest = guest
	guest.expect(t, `line \d+`)

	quit, wrote := make(chan bool), make(chan string)
	go func() {
		var all strings.Builder
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for i := 1; ; i++ {
			token := fmt.Sprintf("<%d>", i)
			all.WriteString(token)
			guest.master.WriteString(token)
			select {
			case <-tick.C:
			case <-quit:
				wrote <- all.String()
				return
			}
		}
	}()
	guest.await(t, host.lastLine()+25)
	change(r)
	mark, began := host.lastLine(), time.Now()
	guest.await(t, mark+5)
	t.Logf("goes on after %v", time.Since(began).Round(10*time.Millisecond))
	guest.await(t, host.lastLine()+50)

	close(quit)
	want := <-wrote
	if !guest.until(func() bool { data, _ := os.ReadFile(typed); return len(data) >= len(want) }) {
		data, _ := os.ReadFile(typed)
		t.Errorf("%d bytes arrived of %d", len(data), len(want))
	}
	if data, err := os.ReadFile(typed); err != nil || string(data) != want {
		t.Errorf("typed\n%s\narrived\n%s (%v)", want, data, err)
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	host.expect(t, `final`)
	if !guest.until(func() bool { return guest.textLocked() == host.text() }) {
		t.Errorf("the guest shows\n%s\nand the host\n%s", guest.text(), host.text())
	}
}

var numbered = regexp.MustCompile(`line (\d+)\n`)

// lastLine is the highest number on the screen.
func (t *terminal) lastLine() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastLineLocked()
}

func (t *terminal) lastLineLocked() int {
	all := numbered.FindAllStringSubmatch(t.textLocked(), -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1][1])
	return n
}

// await waits until a line is on the screen, or a later one.
func (t *terminal) await(tb testing.TB, line int) {
	tb.Helper()
	if !t.until(func() bool { return t.lastLineLocked() >= line }) {
		tb.Fatalf("waited in vain for line %d:\n%s", line, t.text())
	}
}
