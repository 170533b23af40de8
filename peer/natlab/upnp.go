//go:build linux

package natlab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// startUPnP starts the router's port-mapping daemon. Which of NAT-PMP and PCP it
// answers is for the rules to say, since it has one switch for both.
func (s *Site) startUPnP() (*daemon, error) {
	program, err := exec.LookPath("miniupnpd")
	if err != nil {
		s.lab.tb.Skip("natlab: miniupnpd is not here")
	}
	yes := func(on bool) string {
		if on {
			return "yes"
		}
		return "no"
	}
	dir, err := os.MkdirTemp(s.lab.etc, "upnp")
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "miniupnpd.conf")
	err = os.WriteFile(conf, []byte(fmt.Sprintf(`ext_ifname=wan
listening_ip=lan
http_port=5000
enable_natpmp=%s
enable_upnp=%s
upnp_table_name=natlab
upnp_nat_table_name=natlab
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
secure_mode=yes
uuid=00000000-0000-4000-8000-%012x
allow 1-65535 0.0.0.0/0 1-65535
`, yes(s.cfg.PortMap&(NATPMP|PCP) != 0), yes(s.cfg.PortMap&UPnP != 0), s.index)), 0o600)
	if err != nil {
		return nil, err
	}
	ready := "HTTP listening"
	if s.cfg.PortMap&UPnP == 0 {
		ready = "Listening for NAT-PMP/PCP"
	}
	return s.router.daemon(ready, program, "-d", "-f", conf, "-P", filepath.Join(dir, "pid"))
}

// daemon is a process of the lab's own.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// daemon starts a program, and waits until it says that it is ready.
func (n *node) daemon(ready string, argv ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d.cmd.Stdout, d.cmd.Stderr = w, w
	err = n.Start(d.cmd)
	_ = w.Close() // the process has its own
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	n.lab.tb.Cleanup(d.kill)
	said := make(chan struct{}, 1)
	go func() {
		defer close(d.ended)
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			d.mu.Lock()
			fmt.Fprintln(&d.log, lines.Text())
			d.mu.Unlock()
			if strings.Contains(lines.Text(), ready) {
				select {
				case said <- struct{}{}:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, r) // a line that was too long
		_ = r.Close()
		_ = d.cmd.Wait() // killed
	}()
	select {
	case <-said:
		return d, nil
	case <-d.ended:
		return nil, fmt.Errorf("%s: %s ended early:\n%s", n.name, argv[0], d.log.String())
	}
}

// kill ends the process and waits for it.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.ended
}
