package cluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// benchServers are the ways for a guest to come to a host, which the costs of a
// cluster are the differences of.
func benchServers(b *testing.B, f func(b *testing.B, at, from string)) {
	b.Run("alone", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := server.New(server.Config{Limits: roomy()})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, l) }()
		b.Cleanup(func() {
			cancel()
			<-ended
		})
		url := "ws://" + l.Addr().String()
		f(b, url, url)
	})
	for _, name := range []string{"same-replica", "other-replica"} {
		b.Run(name, func(b *testing.B) {
			nats := startNATS(b).ClientURL()
			at, from := start(b, nats, roomy()), start(b, nats, roomy())
			waitFor(b, func() bool { return at.cluster.Stats().Peers == 1 && from.cluster.Stats().Peers == 1 })
			if name == "same-replica" {
				from = at
			}
			f(b, at.url, from.url)
		})
	}
}

// percentiles of single operations, in milliseconds.
func percentiles(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100])/1e6, fmt.Sprintf("p%d-ms", p))
	}
}

// BenchmarkSetup measures one setup after the other: a guest's pipe to the host,
// and 1 KiB there and back.
func BenchmarkSetup(b *testing.B) {
	benchServers(b, func(b *testing.B, at, from string) {
		reg, err := signal.Register(context.Background(), at, signaltest.NewKey(b), nil)
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		b.Cleanup(wg.Wait)
		b.Cleanup(func() { _ = reg.Close() })
		wg.Go(func() { signaltest.Echo(context.Background(), reg) })
		kib := signaltest.RandomBytes(1 << 10)
		var took []time.Duration
		for b.Loop() {
			begun := time.Now()
			if err := signaltest.Meet(context.Background(), reg.Info().Room, kib, from); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begun))
		}
		percentiles(b, took)
	})
}

// BenchmarkRegister measures one registration after the other.
func BenchmarkRegister(b *testing.B) {
	benchServers(b, func(b *testing.B, at, _ string) {
		var took []time.Duration
		for b.Loop() {
			key := signaltest.NewKey(b)
			begun := time.Now()
			reg, err := signal.Register(context.Background(), at, key, nil)
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begun))
			_ = reg.Close()
		}
		percentiles(b, took)
	})
}

// BenchmarkIdleRooms reports what a registered host that does nothing costs a
// replica, in a process of its own.
func BenchmarkIdleRooms(b *testing.B) {
	nats := startNATS(b).ClientURL()
	c := startChild(b, nats, "127.0.0.1:0")
	const rooms = 1000
	regs := make([]*signal.Registration, 0, rooms)
	defer func() {
		for _, r := range regs {
			_ = r.Close()
		}
	}()
	before := c.memory()
	for b.Loop() {
		for range rooms {
			reg, err := signal.Register(context.Background(), c.url, signaltest.NewKey(b), nil)
			if err != nil {
				b.Fatal(err)
			}
			regs = append(regs, reg)
		}
	}
	b.ReportMetric(float64(c.memory()-before)/float64(len(regs)), "B/room")
}

// memory is what the replica uses, in bytes of heap and stacks.
func (c *child) memory() int64 {
	c.t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}
