package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// The benchmarks' server runs in a process of its own, so that its memory can
// be told from the clients'. 10,000 rooms:
//
//	go test ./signal/server -run '^$' -bench Idle -benchtime 1x -rooms 10000
var (
	benchRooms = flag.Int("rooms", 1000, "idle rooms of the benchmarks")
	benchRate  = flag.Int("rate", 500, "setups a second of BenchmarkPacedSetups")
)

const childEnv = "PAIRTERM_TEST_SIGNAL_SERVER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		serveChild(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

// roomy are limits that do not get in a benchmark's way, whose clients all
// have one address.
func roomy() server.Limits {
	return server.Limits{
		AddressConnections: 1 << 20,
		AddressRate:        server.Rate{PerSecond: 1e9, Burst: 1e9},
		RoomRate:           server.Rate{PerSecond: 1e9, Burst: 1e9},
		Guests:             1 << 14,
		AddressGuests:      1 << 14,
		PipeBytes:          1<<32 - 1,
	}
}

// childReport is what the child answers to a line on its standard input.
type childReport struct {
	Rooms      int64
	Heap       uint64 // bytes in use, after a collection
	Stacks     uint64
	Resident   uint64 // of the whole process; 0 where it is not known
	Goroutines int
}

// serveChild runs a server until standard input ends.
func serveChild(mode string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	config := server.Config{Limits: roomy()}
	if mode == "tls" {
		config.TLS = testTLS().server
	}
	s := server.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(l.Addr().String())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = out.Encode(childReport{
			Rooms:      s.Stats().Rooms,
			Heap:       m.HeapInuse,
			Stacks:     m.StackInuse,
			Resident:   resident(),
			Goroutines: runtime.NumGoroutine(),
		})
	}
	cancel()
	<-ended
}

func resident() uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseUint(strings.Fields(v)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// child is the parent's view of it.
type child struct {
	url string
	in  io.WriteCloser
	out *json.Decoder
}

func startChild(b *testing.B, mode string) *child {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	c := &child{in: in, out: json.NewDecoder(out)}
	if err := c.out.Decode(&c.url); err != nil {
		b.Fatal(err)
	}
	if mode == "tls" {
		c.url = "wss://" + c.url
	} else {
		c.url = "ws://" + c.url
	}
	return c
}

func (c *child) report(b *testing.B) childReport {
	b.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		b.Fatal(err)
	}
	var r childReport
	if err := c.out.Decode(&r); err != nil {
		b.Fatal(err)
	}
	return r
}

type tlsPair struct{ server, client *tls.Config }

// testTLS borrows the certificate that httptest has for 127.0.0.1.
var testTLS = sync.OnceValue(func() tlsPair {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	pool := x509.NewCertPool()
	pool.AddCert(ts.Certificate())
	return tlsPair{
		server: &tls.Config{Certificates: ts.TLS.Certificates, MinVersion: tls.VersionTLS12},
		client: &tls.Config{RootCAs: pool},
	}
})

// inParallel runs f for 0 … n-1, a few at a time.
func inParallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, 16) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func holdRooms(b *testing.B, url string, n int, opts *signal.Options) {
	b.Helper()
	regs := make([]*signal.Registration, n)
	b.Cleanup(func() {
		inParallel(n, func(i int) {
			if regs[i] != nil {
				_ = regs[i].Close()
			}
		})
	})
	inParallel(n, func(i int) {
		var err error
		if regs[i], err = signal.Register(context.Background(), url, signaltest.NewKey(b), opts); err != nil {
			b.Error(err)
		}
	})
	if b.Failed() {
		b.FailNow()
	}
}

// BenchmarkIdleRooms reports what an idle registered host costs the server.
func BenchmarkIdleRooms(b *testing.B) {
	for _, mode := range []string{"plain", "tls"} {
		b.Run(mode, func(b *testing.B) {
			c := startChild(b, mode)
			opts := &signal.Options{TLS: testTLS().client, Timeout: time.Minute}
			before := c.report(b)
			for b.Loop() {
				holdRooms(b, c.url, *benchRooms, opts)
			}
			after := c.report(b)
			n := float64(after.Rooms - before.Rooms)
			b.ReportMetric(float64(after.Heap+after.Stacks-before.Heap-before.Stacks)/n, "B/room")
			b.ReportMetric(float64(after.Resident-before.Resident)/n, "RSS-B/room")
			b.ReportMetric(float64(after.Resident)/(1<<20), "RSS-MiB")
			b.ReportMetric(float64(after.Goroutines-before.Goroutines)/n, "goroutines/room")
			b.ReportMetric(b.Elapsed().Seconds()*1e6/n, "µs/registration")
		})
	}
}

// echoHosts registers n hosts that echo what their guests send.
func echoHosts(b *testing.B, url string, n int) []signal.Room {
	b.Helper()
	rooms := make([]signal.Room, n)
	var wg sync.WaitGroup
	b.Cleanup(wg.Wait)
	for i := range n {
		reg := signaltest.Register(b, url, signaltest.NewKey(b), nil)
		rooms[i] = reg.Info().Room
		wg.Go(func() { signaltest.Echo(context.Background(), reg) })
	}
	return rooms
}

// BenchmarkSetups measures complete setups: clients and server share the
// machine. Percentiles are of single setups, in milliseconds.
func BenchmarkSetups(b *testing.B) {
	for _, idle := range []int{0, *benchRooms} {
		b.Run(fmt.Sprintf("idle=%d", idle), func(b *testing.B) {
			c := startChild(b, "plain")
			holdRooms(b, c.url, idle, nil)
			rooms := echoHosts(b, c.url, 8)
			kib := signaltest.RandomBytes(1 << 10)
			var mu sync.Mutex
			var took []time.Duration
			next := 0
			b.SetParallelism(8)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					mu.Lock()
					room := rooms[next%len(rooms)]
					next++
					mu.Unlock()
					start := time.Now()
					if err := signaltest.Meet(context.Background(), room, kib, c.url); err != nil {
						b.Error(err)
						return
					}
					d := time.Since(start)
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
			b.StopTimer()
			reportSetups(b, took)
		})
	}
}

func reportSetups(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "setups/s")
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100])/1e6, fmt.Sprintf("p%d-ms", p))
	}
}

// BenchmarkPacedSetups measures setups at a rate, while others idle. Each counts
// from when it was due, so that waiting for the machine counts too.
func BenchmarkPacedSetups(b *testing.B) {
	c := startChild(b, "plain")
	holdRooms(b, c.url, *benchRooms, nil)
	rooms := echoHosts(b, c.url, 8)
	kib := signaltest.RandomBytes(1 << 10)
	took := make([]time.Duration, b.N)
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for i := range b.N {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(*benchRate))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			if err := signaltest.Meet(context.Background(), rooms[i%len(rooms)], kib, c.url); err != nil {
				b.Error(err)
			}
			took[i] = time.Since(due)
		})
	}
	wg.Wait()
	b.StopTimer()
	reportSetups(b, took)
}

// BenchmarkPipe measures one pipe, guest to host: setting up a connection needs
// little, but nothing should be slow by accident.
func BenchmarkPipe(b *testing.B) {
	c := startChild(b, "plain")
	reg := signaltest.Register(b, c.url, signaltest.NewKey(b), nil)
	guest, host := signaltest.Pair(b, c.url, reg)
	chunk := signaltest.RandomBytes(8 << 10)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	got := make([]byte, len(chunk))
	for b.Loop() {
		// There and back, so that no queue overflows.
		if _, err := guest.Write(chunk); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(host, got); err != nil {
			b.Fatal(err)
		}
	}
}
