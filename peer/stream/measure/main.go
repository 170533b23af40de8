//go:build linux

// Command measure tells what pairterm does on bad links, beside ssh, tmux and
// mosh. It makes two network namespaces with a link between them, puts a host
// and its guests at the two ends, real programs on terminals of their own, and
// watches the guests' screens. See ../MEASUREMENTS.md for what came of it, and
//
//	go run ./peer/stream/measure -help
//
// It needs root, iproute2, and for the link either the kernel's netem (tc) or
// an emulator of its own, see -emulator. What is not installed is left out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	binary   = flag.String("pairterm", "pairterm", "the pairterm `BINARY` to measure")
	emulator = flag.String("emulator", "", "join the namespaces by this `PROGRAM` instead of veth and netem; called as\n"+
		"PROGRAM -a NETNS -a-addr ADDR -b NETNS -b-addr ADDR -b-dev DEVICE -ctl SOCKET, and later as\n"+
		"PROGRAM ctl SOCKET set delay=50ms jitter=0ms loss=0.29 rate=1000kbit queue=64KB (one way, both ways alike), down, up")
	only    = flag.String("only", "", "measure only these `ROWS`, separated by commas")
	systems = flag.String("systems", "pairterm,ssh,ssh+tmux,mosh,mosh+tmux", "measure only these `PROGRAMS`, separated by commas")
	runs    = flag.Int("runs", 5, "`runs` of pairterm under loss, at the same time")
	keyN    = flag.Int("keys", 500, "`keys` of a run")
	congctl = flag.String("congctl", "cubic", "TCP congestion `control` of both ends")
	joins   = flag.Int("joins", 10, "`joins` under loss")
	logDir  = flag.String("logs", "", "keep pairterm's logs in `DIR`")
)

// rows are the conditions, in their order.
var rows = []struct {
	name, what string
	run        func(*lab) error
}{
	{"loss", "100 ms round trip, 29 % loss each way: echo", (*lab).rowLoss},
	{"join", "100 ms round trip, 29 % loss each way: join to the first screen", (*lab).rowJoin},
	{"clean", "100 ms round trip, no loss: echo", (*lab).rowClean},
	{"flood", "100 ms round trip, 1 Mbit/s, `yes` running: Ctrl-C to the prompt", (*lab).rowFlood},
	{"bulk", "100 ms round trip, 1 Mbit/s, cat of 50 MB: end at the guest after the host's", (*lab).rowBulk},
	{"idle", "idle session: traffic and CPU", (*lab).rowIdle},
	{"loopback", "loopback: echo", (*lab).rowLoopback},
	{"guests", "loopback, 29 guests, and three more who are slow, stopped and flooding: echo", (*lab).rowGuests},
	{"train", "200 ms ± 80 ms round trip, 5 % loss, 1 Mbit/s, 3 s outage every 30 s: echo", (*lab).rowTrain},
}

func main() {
	flag.Parse()
	l, err := newLab()
	if errors.Is(err, errSkip) {
		fmt.Println("skipped:", err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
	end := sync.OnceFunc(l.close)
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-caught
		end() // nothing is left behind then either
		os.Exit(1)
	}()
	failed := false
	for _, r := range rows {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), r.name) {
			continue
		}
		load, _ := os.ReadFile("/proc/loadavg")
		fmt.Printf("\n%s: %s (load %.4s)\n", r.name, r.what, load)
		l.row = r.name
		if err := r.run(l); err != nil {
			fmt.Println("  failed:", err)
			failed = true
		}
	}
	end()
	if failed {
		os.Exit(1)
	}
}

// errSkip reports that this machine does not permit measuring.
var errSkip = errors.New("not here")

// The namespaces of the guests and of the host, and one for a guest on a link of its own.
var netnsA, netnsB, netnsC = fmt.Sprintf("ptm%da", os.Getpid()), fmt.Sprintf("ptm%db", os.Getpid()), fmt.Sprintf("ptm%dc", os.Getpid())

const (
	addrA, addrB = "10.77.0.1", "10.77.0.2"
	sshPort      = "2222"
)

// condition is a link, one way; both ways are alike.
type condition struct {
	delay, jitter time.Duration
	loss          float64
	kbit          int
	queueKB       int
}

var (
	plain   = condition{}
	far     = condition{delay: 50 * time.Millisecond}
	lossy   = condition{delay: 50 * time.Millisecond, loss: 0.29}
	narrow  = condition{delay: 50 * time.Millisecond, kbit: 1000, queueKB: 64}
	modem   = condition{delay: 50 * time.Millisecond, kbit: 64, queueKB: 64}
	railway = condition{delay: 100 * time.Millisecond, jitter: 40 * time.Millisecond, loss: 0.05, kbit: 1000, queueKB: 64}
)

// lab is two namespaces with a link, and a directory for everything.
type lab struct {
	dir   string
	row   string
	ssh   []string // ssh and its options
	has   map[string]bool
	emuls []*exec.Cmd
	sshd  *exec.Cmd
	count int
}

func newLab() (_ *lab, err error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: network namespaces need root", errSkip)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: iproute2 is not installed", errSkip)
	}
	if *binary, err = exec.LookPath(*binary); err != nil {
		return nil, err
	}
	if *binary, err = filepath.Abs(*binary); err != nil {
		return nil, err
	}
	l := &lab{has: map[string]bool{}}
	if l.dir, err = os.MkdirTemp("", "ptmeasure"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, ns := range []string{netnsA, netnsB, netnsC} {
		if err := sh("ip", "netns", "add", ns); err != nil {
			return nil, fmt.Errorf("%w: %w", errSkip, err)
		}
		if err := sh("ip", "-n", ns, "link", "set", "lo", "up"); err != nil {
			return nil, err
		}
	}
	if err := l.join(netnsA, addrA, addrB, "ptm0"); err != nil {
		return nil, err
	}
	for ns, addr := range map[string]string{netnsA: addrA, netnsB: addrB} {
		dev := "ptm0"
		if len(l.emuls) > 0 {
			if dev, err = device(ns); err != nil {
				return nil, err
			}
		}
		err := sh("ip", "-n", ns, "route", "change", "10.77.0.0/30", "dev", dev, "src", addr, "congctl", *congctl)
		if err != nil {
			return nil, err
		}
	}
	if err := l.set(plain); err != nil {
		return nil, err
	}
	return l, l.prepare()
}

// sh runs a command to its end.
func sh(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// device is the name of the device that the emulator made.
func device(ns string) (string, error) {
	out, err := exec.Command("ip", "-n", ns, "-o", "route", "show").Output()
	f := strings.Fields(string(out))
	if i := slices.Index(f, "dev"); i >= 0 && i+1 < len(f) {
		return f[i+1], nil
	}
	return "", fmt.Errorf("no route in %s: %w", ns, err)
}

// join lays a link between a namespace and the host's.
func (l *lab) join(ns, addr, hostAddr, dev string) error {
	if *emulator != "" {
		emul := exec.Command(*emulator, "-a", ns, "-a-addr", addr+"/30", "-b", netnsB, "-b-addr", hostAddr+"/30", "-b-dev", dev,
			"-seed", fmt.Sprint(time.Now().UnixNano()%1e9), "-ctl", l.dir+"/"+dev)
		if err := emul.Start(); err != nil {
			return err
		}
		l.emuls = append(l.emuls, emul)
		for range 100 {
			if _, err := os.Stat(l.dir + "/" + dev); err == nil {
				return nil
			}
			time.Sleep(50 * time.Millisecond)
		}
		return errors.New("the emulator does not get ready")
	}
	err := sh("ip", "link", "add", dev, "netns", ns, "type", "veth", "peer", "name", dev, "netns", netnsB)
	if err != nil {
		return fmt.Errorf("%w: %w", errSkip, err)
	}
	for ns, addr := range map[string]string{ns: addr, netnsB: hostAddr} {
		if err := sh("ip", "-n", ns, "addr", "add", addr+"/30", "dev", dev); err != nil {
			return err
		}
		if err := sh("ip", "-n", ns, "link", "set", dev, "up"); err != nil {
			return err
		}
		if err := sh("tc", "-n", ns, "qdisc", "add", "dev", dev, "root", "netem", "delay", "0ms"); err != nil {
			return fmt.Errorf("%w: no netem, see -emulator: %w", errSkip, err)
		}
	}
	return nil
}

// spur joins the third namespace to the host's by a link of its own.
func (l *lab) spur() error {
	if err := l.join(netnsC, "10.77.1.1", "10.77.1.2", "ptm1"); err != nil {
		return err
	}
	return sh("ip", "-n", netnsC, "route", "add", addrB+"/32", "via", "10.77.1.2")
}

// set changes the link.
func (l *lab) set(c condition) error { return l.setLink(c, netnsA, "ptm0") }

// setSpur changes that of the third namespace.
func (l *lab) setSpur(c condition) error { return l.setLink(c, netnsC, "ptm1") }

func (l *lab) setLink(c condition, ns, dev string) error {
	if *emulator != "" {
		return sh(*emulator, "ctl", l.dir+"/"+dev, "set", "delay="+c.delay.String(), "jitter="+c.jitter.String(),
			fmt.Sprintf("loss=%g", c.loss), fmt.Sprintf("rate=%dkbit", c.kbit), fmt.Sprintf("queue=%dKB", max(c.queueKB, 64)))
	}
	args := []string{"netem", "delay", fmt.Sprintf("%dus", c.delay.Microseconds())}
	if c.jitter > 0 {
		args = append(args, fmt.Sprintf("%dus", c.jitter.Microseconds()))
	}
	args = append(args, "loss", fmt.Sprintf("%g%%", 100*c.loss))
	if c.kbit > 0 {
		// netem's limit counts packets and holds those on the wire too.
		args = append(args, "rate", fmt.Sprintf("%dkbit", c.kbit), "limit", fmt.Sprint(max(c.queueKB*1024/1300, 10)))
	} else {
		args = append(args, "limit", "10000")
	}
	for _, ns := range []string{ns, netnsB} {
		if err := sh(append([]string{"tc", "-n", ns, "qdisc", "replace", "dev", dev, "root"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// outage takes the link down for a time.
func (l *lab) outage(c condition, d time.Duration) error {
	if *emulator != "" {
		if err := sh(*emulator, "ctl", l.dir+"/ptm0", "down"); err != nil {
			return err
		}
		time.Sleep(d)
		return sh(*emulator, "ctl", l.dir+"/ptm0", "up")
	}
	dead := c
	dead.loss = 1
	if err := l.set(dead); err != nil {
		return err
	}
	time.Sleep(d)
	return l.set(c)
}

// prepare makes keys and scripts, and starts the SSH server.
func (l *lab) prepare() error {
	for name, text := range scripts {
		if err := os.WriteFile(l.dir+"/"+name, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			return err
		}
	}
	line := []byte("2026-11-22 12:00:00 a line of a plain log, of the usual length, without colours\n")
	big := make([]byte, 0, bulkSize+len(line))
	for len(big) < bulkSize {
		big = append(big, line...)
	}
	if err := os.WriteFile(l.dir+"/big", big, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(l.dir+"/tmux.conf", []byte("set -g status off\n"), 0o600); err != nil {
		return err
	}
	keygen := exec.Command(*binary, "keygen")
	keygen.Env = l.env()
	if out, err := keygen.CombinedOutput(); err != nil {
		return fmt.Errorf("pairterm keygen: %w: %s", err, out)
	}
	l.has["pairterm"] = true
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		if sshd, err = exec.LookPath("/usr/sbin/sshd"); err != nil {
			fmt.Println("sshd is not installed: ssh and mosh are left out")
			return nil
		}
	}
	for _, name := range []string{"hostkey", "userkey"} {
		if err := sh("ssh-keygen", "-qt", "ed25519", "-N", "", "-f", l.dir+"/"+name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return err
	}
	l.sshd = exec.Command("ip", "netns", "exec", netnsB, sshd, "-D", "-e", "-f", "/dev/null", "-p", sshPort,
		"-h", l.dir+"/hostkey", "-o", "PidFile=none", "-o", "AuthorizedKeysFile="+l.dir+"/userkey.pub",
		"-o", "StrictModes=no", "-o", "PermitRootLogin=yes", "-o", "LoginGraceTime=0", "-o", "MaxStartups=100")
	if err := l.sshd.Start(); err != nil {
		return err
	}
	l.ssh = []string{"ssh", "-p", sshPort, "-i", l.dir + "/userkey", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-F", "/dev/null"}
	l.has["ssh"] = true
	_, err = exec.LookPath("tmux")
	l.has["ssh+tmux"] = err == nil
	_, err = exec.LookPath("mosh")
	l.has["mosh"] = err == nil
	l.has["mosh+tmux"] = l.has["ssh+tmux"] && l.has["mosh"]
	for _, s := range strings.Split(*systems, ",") {
		if !l.has[s] {
			fmt.Println(s, "is not installed: left out")
		}
	}
	return nil
}

// chosen are those of the systems that are here and were asked for.
func (l *lab) chosen(names ...string) []string {
	return slices.DeleteFunc(names, func(s string) bool {
		return !l.has[s] || !slices.Contains(strings.Split(*systems, ","), s)
	})
}

func (l *lab) env() []string {
	return []string{"HOME=" + l.dir, "PATH=" + os.Getenv("PATH"), "TERM=xterm-256color", "SHELL=/bin/sh", "USER=root",
		"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "MOSH_PREDICTION_DISPLAY=never"}
}

// close ends what is left in the namespaces, and removes them.
func (l *lab) close() {
	all := []string{netnsA, netnsB, netnsC}
	for _, ns := range all {
		out, _ := exec.Command("ip", "netns", "pids", ns).Output()
		for _, pid := range strings.Fields(string(out)) {
			if !slices.ContainsFunc(l.emuls, func(e *exec.Cmd) bool { return pid == fmt.Sprint(e.Process.Pid) }) {
				_ = sh("kill", "-9", pid)
			}
		}
	}
	if l.sshd != nil && l.sshd.Process != nil {
		l.sshd.Wait()
	}
	for _, e := range l.emuls {
		e.Process.Signal(os.Interrupt)
		e.Wait()
	}
	for _, ns := range all {
		_ = sh("ip", "netns", "del", ns)
	}
	os.RemoveAll(l.dir)
}
