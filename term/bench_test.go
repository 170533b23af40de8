//go:build unix

package term

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// logFile returns a file of so many bytes of ordinary output.
func logFile(b *testing.B, size int) string {
	b.Helper()
	var text bytes.Buffer
	for i := 0; text.Len() < size; i++ {
		fmt.Fprintf(&text, "2026-11-22T18:59:%02d.%03d host service[%d]: request %08x took %d ms, all is well\n",
			i/1000%60, i%1000, i%30000, i*2654435761, i%97)
	}
	name := filepath.Join(b.TempDir(), "log")
	if err := os.WriteFile(name, text.Bytes()[:size], 0o600); err != nil {
		b.Fatal(err)
	}
	return name
}

// discardTerminal returns a terminal that is read as fast as can be.
func discardTerminal(b *testing.B) *terminal {
	e := openTerminal(b, DefaultSize)
	e.read.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := e.master.Read(buf); err != nil {
				return
			}
		}
	})
	return e
}

// BenchmarkHostPath compares the time that "cat" of a large file takes on the
// host's terminal: on a bare PTY whose output is copied to the terminal, and on
// a shared one, with and without a guest who does not read.
func BenchmarkHostPath(b *testing.B) {
	const size = 50 << 20
	name := logFile(b, size)
	cat := Command{Path: "/bin/cat", Args: []string{"cat", name}}

	b.Run("bare", func(b *testing.B) {
		e := discardTerminal(b)
		tty := e.tty(b)
		if err := tty.Raw(); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		defer reportCPU(b)()
		for b.Loop() {
			p, err := startProcess(cat, DefaultSize, tty)
			if err != nil {
				b.Fatal(err)
			}
			go p.wait()
			buf := make([]byte, 32<<10)
			for {
				n, err := p.Read(buf)
				if err != nil {
					break
				}
				if _, err := tty.writer.Write(buf[:n]); err != nil {
					b.Fatal(err)
				}
			}
			p.close()
		}
	})
	for _, guests := range []int{0, 1, 8} {
		b.Run(fmt.Sprintf("shared/guests=%d", guests), func(b *testing.B) {
			e := discardTerminal(b)
			tty := e.tty(b)
			if err := tty.Raw(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				s := NewShared(cat, SharedOptions{TTY: tty})
				ctx, cancel := context.WithCancel(context.Background())
				for range guests {
					go stuckGuest(ctx, s)
				}
				if err := s.Run(ctx); err != nil {
					b.Fatal(err)
				}
				cancel()
			}
		})
	}
}

// reportCPU adds the CPU time of this process, which says more than the clock
// on a machine that others use.
func reportCPU(b *testing.B) func() {
	before := cpuTime()
	return func() {
		b.ReportMetric((cpuTime()-before).Seconds()/float64(b.N), "cpu-s/op")
	}
}

func cpuTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// stuckGuest is served as a guest whose link is slow: it looks at the screen 60
// times a second at most, and never at the bytes.
func stuckGuest(ctx context.Context, s *Shared) {
	notify := make(chan struct{}, 1)
	defer s.Subscribe(notify)()
	for {
		select {
		case <-ctx.Done():
			return
		case <-notify:
			s.Mark()
			select {
			case <-ctx.Done():
			case <-time.After(time.Second / 60):
			}
		}
	}
}

// BenchmarkEcho measures from a key on the host's terminal to its echo there.
func BenchmarkEcho(b *testing.B) {
	echo := Command{Path: "/bin/sh", Args: []string{"sh", "-c", "stty raw -echo; echo ready; exec cat"}}
	measure := func(b *testing.B, keys io.Writer, shown <-chan struct{}) {
		times := make([]time.Duration, 0, 1000)
		for b.Loop() {
			start := time.Now()
			if _, err := keys.Write([]byte("x")); err != nil {
				b.Fatal(err)
			}
			<-shown
			times = append(times, time.Since(start))
		}
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
	}
	// shows tells of each echo, once the program is ready.
	shows := func(e *terminal, ready, shown, quit chan struct{}) {
		e.read.Go(func() {
			buf := make([]byte, 4096)
			var before []byte
			for {
				n, err := e.master.Read(buf)
				if err != nil {
					return
				}
				if before == nil || !bytes.Contains(before, []byte("ready")) {
					if before = append(before, buf[:n]...); bytes.Contains(before, []byte("ready")) {
						close(ready)
					}
					continue
				}
				select {
				case shown <- struct{}{}:
				case <-quit:
				}
			}
		})
	}
	b.Run("bare", func(b *testing.B) {
		e := openTerminal(b, DefaultSize)
		tty := e.tty(b)
		if err := tty.Raw(); err != nil {
			b.Fatal(err)
		}
		p, err := startProcess(echo, DefaultSize, tty)
		if err != nil {
			b.Fatal(err)
		}
		defer p.close()
		go p.wait()
		go func() { _, _ = io.Copy(tty.w, p) }()
		go func() { _, _ = io.Copy(p, tty) }()
		ready, shown, quit := make(chan struct{}), make(chan struct{}), make(chan struct{})
		defer close(quit)
		shows(e, ready, shown, quit)
		<-ready
		measure(b, e.master, shown)
		p.kill()
	})
	b.Run("shared", func(b *testing.B) {
		e := openTerminal(b, DefaultSize)
		tty := e.tty(b)
		if err := tty.Raw(); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		s := NewShared(echo, SharedOptions{TTY: tty, Grace: 100 * time.Millisecond})
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		ready, shown, quit := make(chan struct{}), make(chan struct{}), make(chan struct{})
		defer close(quit)
		shows(e, ready, shown, quit)
		<-ready
		measure(b, e.master, shown)
		cancel()
		<-ended
	})
}

// BenchmarkPainter measures the guest's side: output that is passed on, and
// pictures in a window of another size.
func BenchmarkPainter(b *testing.B) {
	output := []byte(strings.Repeat("\x1b[32mok\x1b[m  some test of something  0.01s\r\n", 25))
	begin := appendFrame(nil, nil, newModel(DefaultSize).Snapshot())
	for name, window := range map[string]Size{"live": DefaultSize, "larger": {200, 50}, "smaller": {60, 20}} {
		b.Run(name, func(b *testing.B) {
			p := newPainter(newFakeTerminal(window))
			if _, err := p.Frame(nil, 0, 0, begin); err != nil {
				b.Fatal(err)
			}
			now := time.Unix(1, 0)
			var buf []byte
			b.SetBytes(int64(len(output)))
			b.ReportAllocs()
			for b.Loop() {
				p.Log(0, output)
				buf, _ = p.next(buf[:0], now)
				now = now.Add(frameInterval)
			}
		})
	}
}
