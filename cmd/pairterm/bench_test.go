//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// bench is the built program with a home of its own.
type bench struct {
	b      testing.TB
	dir    string
	binary string
}

func newBench(b testing.TB) *bench {
	b.Helper()
	dir := b.TempDir()
	x := &bench{b: b, dir: dir, binary: filepath.Join(dir, "pairterm")}
	if out, err := exec.Command("go", "build", "-o", x.binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	if out, err := x.command("pairterm", "keygen").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return x
}

func (x *bench) command(name string, args ...string) *exec.Cmd {
	if name == "pairterm" {
		name = x.binary
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = x.dir
	cmd.Env = []string{"HOME=" + x.dir, "PATH=" + os.Getenv("PATH"), "TERM=xterm-256color", "SHELL=/bin/sh", "LANG=C.UTF-8"}
	return cmd
}

// line is a program on a PTY whose output is searched and thrown away.
type line struct {
	b    testing.TB
	f    *os.File
	cmd  *exec.Cmd
	seen bytes.Buffer
}

func (x *bench) start(name string, args ...string) *line {
	x.b.Helper()
	cmd := x.command(name, args...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 80, Rows: 24})
	if err != nil {
		x.b.Fatal(err)
	}
	l := &line{b: x.b, f: f, cmd: cmd}
	x.b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, f) // until the end
		cmd.Wait()
		f.Close()
	})
	return l
}

// until reads until the output matches, and forgets it.
func (l *line) until(pattern string) []string {
	l.b.Helper()
	re := regexp.MustCompile(pattern)
	buf := make([]byte, 64<<10)
	for {
		if m := re.FindStringSubmatch(l.seen.String()); m != nil {
			l.seen.Reset()
			return m
		}
		n, err := l.f.Read(buf)
		if err != nil {
			l.b.Fatalf("%v after %q", err, l.seen.String())
		}
		l.seen.Write(buf[:n])
	}
}

// skim reads until the output ends in text, which is much faster for much output.
func (l *line) skim(text string) {
	l.b.Helper()
	buf := make([]byte, 256<<10)
	keep := 0
	for {
		n, err := l.f.Read(buf[keep:])
		if err != nil {
			l.b.Fatal(err)
		}
		if bytes.Contains(buf[:keep+n], []byte(text)) {
			return
		}
		keep = copy(buf, buf[max(keep+n-len(text), 0):keep+n])
	}
}

// processorTime returns what the program itself, without its children, has computed so
// far, where the system tells.
func (l *line) processorTime() (time.Duration, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	// proc_pid_stat(5); the name may hold anything, so what counts begins after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(string(field))
		if err != nil {
			return 0, false
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), true
}

// host starts a host that runs a command, and returns the ticket.
func (x *bench) host(command ...string) (*line, string) {
	h := x.start("pairterm", append([]string{"host", "--signal-listen", "127.0.0.1:0", "--"}, command...)...)
	return h, h.until(`pairterm join (pt1[a-z0-9]+)\r\n\r\n`)[1]
}

// BenchmarkEcho is the time from a key typed at the guest to its echo on the
// guest's terminal, through both programs. The echo is the terminal driver's.
func BenchmarkEcho(b *testing.B) {
	x := newBench(b)
	_, ticket := x.host("cat")
	g := x.start("pairterm", "join", ticket)
	g.until(`leaves`)
	g.f.WriteString("ready")
	g.until("ready")
	var times []time.Duration
	i := 0
	for b.Loop() {
		key := 'a' + rune(i%26)
		if i++; i%60 == 0 {
			g.f.WriteString("\r")
			g.until("[\n\x1b]") // the guest's end may paint instead of scrolling
		}
		start := time.Now()
		g.f.WriteString(string(key))
		g.until(string(key))
		times = append(times, time.Since(start))
		time.Sleep(2 * time.Millisecond) // a person types; batching is not measured
	}
	report(b, times)
}

// report adds percentiles in milliseconds.
func report(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	at := func(q float64) float64 {
		return float64(times[int(q*float64(len(times)-1))]) / float64(time.Millisecond)
	}
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkJoin is the time from the start of `pairterm join` to the first
// screen.
func BenchmarkJoin(b *testing.B) {
	x := newBench(b)
	_, ticket := x.host("sh", "-c", "echo on-the-screen; cat")
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		g := x.start("pairterm", "join", ticket)
		g.until("on-the-screen")
		times = append(times, time.Since(start))
		g.f.WriteString("\x1dd")
		io.Copy(io.Discard, g.f)
	}
	report(b, times)
}

// BenchmarkBulk is `cat` of 50 MB at the host: on a bare PTY, alone, with guests
// that read, and with one that is stopped. Compare MB/s.
func BenchmarkBulk(b *testing.B) {
	x := newBench(b)
	const size = 50 << 20
	path := filepath.Join(x.dir, "big")
	text := bytes.Repeat([]byte("2026-11-22 12:00:00 a line of a plain log, of the usual length, without colours\n"), size/80+1)[:size]
	if err := os.WriteFile(path, text, 0o600); err != nil {
		b.Fatal(err)
	}
	script := fmt.Sprintf(`while read x; do cat %s; echo the-end; done`, path)
	run := func(b *testing.B, l *line) {
		b.SetBytes(size)
		before, known := l.processorTime()
		for b.Loop() {
			l.f.WriteString("\r")
			l.skim("the-end")
		}
		if after, _ := l.processorTime(); known {
			b.ReportMetric((after-before).Seconds()/float64(b.N), "cpu-s/op")
		}
	}
	b.Run("bare", func(b *testing.B) {
		x := *x
		x.b = b
		run(b, x.start("sh", "-c", script))
	})
	// What any program between a shell and its terminal costs: a second PTY.
	b.Run("script", func(b *testing.B) {
		x := *x
		x.b = b
		if _, err := exec.LookPath("script"); err != nil {
			b.Skip("script(1) is not here")
		}
		run(b, x.start("script", "-qec", script, "/dev/null"))
	})
	for _, tc := range []struct {
		name   string
		guests int
		stop   bool
	}{{"guests=0", 0, false}, {"guests=1", 1, false}, {"guests=8", 8, false}, {"stopped", 1, true}} {
		b.Run(tc.name, func(b *testing.B) {
			x := *x
			x.b = b
			h, ticket := x.host("sh", "-c", script)
			for range tc.guests {
				g := x.start("pairterm", "join", ticket)
				g.until("leaves")
				if tc.stop {
					g.cmd.Process.Signal(syscall.SIGSTOP)
					b.Cleanup(func() { g.cmd.Process.Signal(syscall.SIGCONT) })
				} else {
					go io.Copy(io.Discard, g.f)
				}
			}
			run(b, h)
		})
	}
}
