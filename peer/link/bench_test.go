package link_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/seal"
)

// percentiles reports the median and the 99th percentile in microseconds.
func percentiles(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	at := func(p int) float64 { return float64(took[(len(took)-1)*p/100]) / float64(time.Microsecond) }
	b.ReportMetric(at(50), "p50-µs")
	b.ReportMetric(at(99), "p99-µs")
}

// BenchmarkSetUp measures the time from Dial and Accept to open channels at both ends.
func BenchmarkSetUp(b *testing.B) {
	guest, host := newTransport(b, loopback()), newTransport(b, loopback())
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		l1, l2 := connect(b, guest, host)
		took = append(took, time.Since(begin))
		b.StopTimer()
		_, _ = l1.Close(), l2.Close()
		b.StartTimer()
	}
	percentiles(b, took)
}

// sealed wraps both ends of a channel.
func sealed(b *testing.B, l1, l2 *link.Link, c1, c2 *link.Channel, ordered bool) (seal.Datagrams, seal.Datagrams) {
	b.Helper()
	binding := l1.Binding()
	key := func(label string) seal.Key {
		k, err := seal.Derive([]byte("exported from the tunnel"), binding[:], label)
		if err != nil {
			b.Fatal(err)
		}
		return k
	}
	there, back := key("there"), key("back")
	cfg := seal.Config{Ordered: ordered, MaxMessage: link.MaxMessage - seal.Overhead}
	cfg1, cfg2 := cfg, cfg
	cfg1.Send, cfg1.Recv, cfg2.Send, cfg2.Recv = there, back, back, there
	return seal.Wrap(c1, cfg1), seal.Wrap(c2, cfg2)
}

// channels runs a benchmark on both channels, sealed and plain.
func channels(b *testing.B, f func(b *testing.B, near, far seal.Datagrams)) {
	for _, ordered := range []bool{false, true} {
		for _, seal := range []bool{false, true} {
			name := map[bool]string{false: "sync", true: "control"}[ordered] + map[bool]string{false: "/plain", true: "/sealed"}[seal]
			b.Run(name, func(b *testing.B) {
				l1, l2 := connect(b, newTransport(b, loopback()), newTransport(b, loopback()))
				c1, c2 := l1.Sync(), l2.Sync()
				if ordered {
					c1, c2 = l1.Control(), l2.Control()
				}
				if seal {
					s1, s2 := sealed(b, l1, l2, c1, c2, ordered)
					f(b, s1, s2)
				} else {
					f(b, c1, c2)
				}
				_, _ = l1.Close(), l2.Close()
			})
		}
	}
}

// BenchmarkEcho sends a byte there and back.
func BenchmarkEcho(b *testing.B) {
	channels(b, func(b *testing.B, near, far seal.Datagrams) {
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, link.MaxMessage)
			for {
				n, err := far.Recv(buf)
				if err != nil || n == 0 {
					return
				}
				if far.Send(buf[:n]) != nil {
					return
				}
			}
		})
		var took []time.Duration
		buf, key := make([]byte, link.MaxMessage), []byte("k")
		b.ReportAllocs()
		for b.Loop() {
			begin := time.Now()
			if err := near.Send(key); err != nil {
				b.Fatal(err)
			}
			if _, err := near.Recv(buf); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		percentiles(b, took)
		if err := near.Send(nil); err != nil {
			b.Fatal(err)
		}
		wg.Wait()
	})
}

// BenchmarkThroughput sends in one direction, with 256 KiB buffered at most.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{1100, 16000} {
		b.Run(map[int]string{1100: "datagrams", 16000: "bulk"}[size], func(b *testing.B) {
			l1, l2 := connect(b, newTransport(b, loopback()), newTransport(b, loopback()))
			near, far := sealed(b, l1, l2, l1.Control(), l2.Control(), true)
			var wg sync.WaitGroup
			wg.Go(func() {
				buf := make([]byte, link.MaxMessage)
				for {
					if n, err := far.Recv(buf); err != nil || n == 0 {
						return
					}
				}
			})
			msg := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if near.Buffered() > 256<<10 {
					if err := l1.Control().WaitBelow(context.Background(), 128<<10); err != nil {
						b.Fatal(err)
					}
				}
				if err := near.Send(msg); err != nil {
					b.Fatal(err)
				}
			}
			if err := near.Send(nil); err != nil {
				b.Fatal(err)
			}
			wg.Wait()
			_, _ = l1.Close(), l2.Close()
		})
	}
}

// BenchmarkLinkMemory reports what an idle link costs, both ends together.
func BenchmarkLinkMemory(b *testing.B) {
	guest, host := newTransport(b, loopback()), newTransport(b, loopback())
	l1, l2 := connect(b, guest, host) // what is shared is there now
	defer func() { _, _ = l1.Close(), l2.Close() }()
	use := func() (bytes uint64, goroutines int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
	}
	bytes, goroutines := use()
	var links []*link.Link
	const n = 16
	for range n {
		l1, l2 := connect(b, guest, host)
		links = append(links, l1, l2)
	}
	bytes2, goroutines2 := use()
	for b.Loop() {
	}
	b.ReportMetric(float64(bytes2-bytes)/n/1024, "KiB/pair")
	b.ReportMetric(float64(goroutines2-goroutines)/n, "goroutines/pair")
	for _, l := range links {
		_ = l.Close()
	}
}
