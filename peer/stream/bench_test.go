package stream

import (
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// pipe is a perfect link within the process.
type pipe struct {
	out, in chan pipeDatagram
	done    chan struct{}
	once    *sync.Once
}

type pipeDatagram struct {
	buf *[MaxDatagram]byte
	n   int
}

func newPipe() (a, b *pipe) {
	x, y := make(chan pipeDatagram, 512), make(chan pipeDatagram, 512)
	done, once := make(chan struct{}), new(sync.Once)
	return &pipe{x, y, done, once}, &pipe{y, x, done, once}
}

var pipeBuffers = sync.Pool{New: func() any { return new([MaxDatagram]byte) }}

func (p *pipe) Send(b []byte) error {
	buf := pipeBuffers.Get().(*[MaxDatagram]byte)
	select {
	case p.out <- pipeDatagram{buf, copy(buf[:], b)}:
	default: // lost
	}
	return nil
}

func (p *pipe) Recv(b []byte) (int, error) {
	select {
	case m := <-p.in:
		n := copy(b, m.buf[:m.n])
		pipeBuffers.Put(m.buf)
		return n, nil
	case <-p.done:
		return 0, io.EOF
	}
}

func (p *pipe) Buffered() uint64 { return 0 }

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// countSink is a Sink that does nothing but count.
type countSink struct {
	grew func(pos uint64)
}

func (k *countSink) Log(pos uint64, p []byte) { k.grew(pos + uint64(len(p))) }
func (k *countSink) Frame(_ *toy, _, pos uint64, _ []byte) (*toy, error) {
	k.grew(pos)
	return &toy{pos: pos}, nil
}
func (k *countSink) Mark() *toy { return &toy{} }

func running(b *testing.B, src *toySource, in Input, sink Sink[*toy]) (*Sender[*toy], *Receiver[*toy]) {
	hc, gc := newPipe()
	host, guest := NewSender(hc, src, in, Config{}), NewReceiver(gc, sink, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = host.Run(ctx) })
	wg.Go(func() { _ = guest.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return host, guest
}

// BenchmarkEcho is a key from the guest to the host and its echo back, what the
// streams add to any link.
func BenchmarkEcho(b *testing.B) {
	src := newToySource()
	in := &toyInput{room: -1, got: src.write}
	seen := make(chan uint64, 16)
	_, guest := running(b, src, in, &countSink{func(pos uint64) { seen <- pos }})
	<-seen // the first state
	var times []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		want := src.Head() + 1
		if _, err := guest.SendKeys(context.Background(), []byte("x")); err != nil {
			b.Fatal(err)
		}
		for <-seen < want {
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(percentile(times, 0.5).Microseconds()), "µs-p50")
	b.ReportMetric(float64(percentile(times, 0.99).Microseconds()), "µs-p99")
}

// BenchmarkBulk is output at the speed at which the guest takes it as a log.
func BenchmarkBulk(b *testing.B) {
	src := newToySource()
	seen := make(chan uint64, 1024)
	host, _ := running(b, src, &toyInput{room: -1}, &countSink{func(pos uint64) {
		select {
		case seen <- pos:
		default:
			<-seen
			seen <- pos
		}
	}})
	<-seen
	chunk := text(rand.New(rand.NewPCG(1, 1)), 16<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		src.write(chunk)
		for want := src.Head(); want > 64<<10 && <-seen < want-64<<10; {
		}
	}
	st := host.Stats()
	b.ReportMetric(float64(st.Frames), "frames")
	b.ReportMetric(float64(st.Lost)/float64(st.Sent), "lost/datagram")
}

// BenchmarkMemory is what a pair of a Sender and a Receiver keeps in memory
// after traffic.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const pairs = 32
	src := newToySource()
	rng := rand.New(rand.NewPCG(1, 1))
	var hosts []*Sender[*toy]
	for range pairs {
		h, _ := running(b, src, &toyInput{room: -1}, &countSink{func(uint64) {}})
		hosts = append(hosts, h)
	}
	chunk := text(rng, 4000)
	for b.Loop() {
		src.write(chunk)
	}
	for _, h := range hosts {
		if err := h.Drain(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/pairs/1024, "KB/pair")
}
