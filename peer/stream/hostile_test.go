package stream

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// sinkhole is a Conn that swallows what it is given, with a limit on how much
// that may be at a time.
type sinkhole struct {
	t    *testing.T
	sent int
}

func (c *sinkhole) Send(p []byte) error {
	var q packet
	if err := q.parse(p); err != nil {
		c.t.Fatalf("sends %x: %v", p, err)
	}
	if c.sent++; c.sent > 600 {
		c.t.Fatal("sends without end")
	}
	return nil
}
func (c *sinkhole) Recv([]byte) (int, error) { select {} }
func (c *sinkhole) Buffered() uint64         { return 0 }
func (c *sinkhole) Close() error             { return nil }

// script makes a peer's doings of fuzzed bytes.
type script struct{ b []byte }

func (s *script) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	c := s.b[0]
	s.b = s.b[1:]
	return c
}

// near draws a position that is close to one of the given ones, or anywhere.
func (s *script) near(ps ...uint64) uint64 {
	c := s.byte()
	if c == 255 {
		var b [8]byte
		for i := range b {
			b[i] = s.byte()
		}
		return binary.BigEndian.Uint64(b[:]) & maxPosition
	}
	return (ps[int(c>>4)%len(ps)] + uint64(c&15) - 4) & maxPosition
}

// packet makes a well-formed datagram, which may say anything.
func (s *script) packet(e *endpoint, ps ...uint64) *packet {
	p := &packet{header: header{
		flags: s.byte() & flagsKnown, stamp: uint32(s.byte()) << 12, echo: micros(e.clock()) - uint32(s.byte())<<9,
		seq: max(1, s.near(e.seen.largest)), largest: max(1, s.near(e.flight.next)), bits: s.near(0) * 0x0101010101,
	}}
	if p.largest <= 64 {
		p.bits &= 1<<(p.largest-1) - 1
	}
	p.has = s.byte() & 15
	p.received, p.taken = s.near(ps...), s.near(ps...)
	p.taken = min(p.taken, p.received)
	p.reacted, p.reactedHead = s.near(ps...), s.near(ps...)
	p.base = s.near(ps...)
	p.state, p.stateBase = s.near(ps...), s.near(ps...)
	p.stateBase = min(p.stateBase, p.state)
	for p.n < int(s.byte()%3) {
		c := &p.chunks[p.n]
		kinds := []byte{kindKeys, kindLog, kindFrame}
		c.kind = kinds[int(s.byte())%3]
		if p.n > 0 {
			c.kind = max(c.kind, p.chunks[p.n-1].kind)
		}
		p.n++
		c.pos, c.mark = s.near(ps...), s.byte()&1 == 1 && c.kind == kindLog
		n := 1 + int(s.byte())
		if c.kind == kindFrame {
			c.frame, c.flags = 1+uint64(s.byte()%16), s.byte()&frameFlags
			if c.flags&frameBased != 0 {
				c.base = min(c.pos, s.near(ps...))
			}
			c.total = int(s.byte()) * int(s.byte()) * 129
			c.total = min(c.total, maxFrame)
			c.index = int(s.byte()) % fragments(c.total)
			n = fragmentLen(c.total, c.index)
		}
		c.data = make([]byte, n)
		for i := range min(n, 24) {
			c.data[i] = s.byte()
		}
	}
	return p
}

// play lets the endpoint receive what the script says.
func (s *script) play(t *testing.T, e *endpoint, act func(op byte), check func(), ps func() []uint64) {
	conn := &sinkhole{t: t}
	e.conn, e.generation, e.replaced = conn, 1, nil
	for step := 0; len(s.b) > 0 && step < 200; step++ {
		conn.sent = 0
		var b []byte
		switch op := s.byte() % 8; op {
		case 0:
			n := int(s.byte())
			n = min(n, len(s.b))
			b, s.b = s.b[:n], s.b[n:]
		case 1, 2, 3, 4:
			b = appendPacket(nil, s.packet(e, ps()...))
		case 5:
			e.epoch = e.epoch.Add(-time.Duration(s.byte()) * 3 * time.Millisecond)
		default:
			act(op)
		}
		if b != nil && len(b) <= MaxDatagram {
			in := inbounds.Get().(*inbound)
			in.generation, in.at, in.n = 1, e.clock(), copy(in.buf[:], b)
			e.now = in.at
			if err := e.receive(in); err != nil {
				if !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrSink) {
					t.Fatal(err)
				}
				return
			}
		}
		if err := e.turn(); err != nil {
			t.Fatal(err)
		}
		if n := e.flight.next - e.flight.low; n > maxFlight || e.flight.bytes < 0 {
			t.Fatalf("%d datagrams, %d bytes in flight", n, e.flight.bytes)
		}
		check()
	}
}

// FuzzSender has a guest send anything.
func FuzzSender(f *testing.F) {
	for _, seed := range hostileSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) { hostileGuest(t, b) })
	})
}

// hostileGuest has a guest do what b says.
func hostileGuest(t *testing.T, b []byte) {
	src := newToySource()
	in := &toyInput{room: -1}
	h := NewSender[*toy](nil, src, in, Config{})
	s := &script{b}
	s.play(t, &h.e, func(op byte) {
		switch n := s.byte(); {
		case op == 6:
			src.write(make([]byte, int(n)*int(n)))
		case n < 20:
			src.resize()
		case n < 40:
			in.setRoom(int(n))
		default:
			in.setRoom(-1)
			h.InputReady()
		}
	}, func() {
		o := &h.out
		if len(o.live) > maxFrames || len(o.bases) > maxFrames+maxMarks+1 {
			t.Fatalf("%d frames, %d bases", len(o.live), len(o.bases))
		}
		if len(h.input.bytes) > inputWindow+inputReserve || h.input.early.bytes > maxEarlyBytes || len(h.reacts) > maxReacts {
			t.Fatal("input beyond its bounds")
		}
		if o.frontier > src.head || o.acked > o.frontier {
			t.Fatalf("acknowledged %d, sent %d of %d", o.acked, o.frontier, src.head)
		}
	}, func() []uint64 {
		return []uint64{0, h.input.received, h.input.taken, h.out.acked, h.out.frontier, h.out.base.pos, src.head}
	})
}

// blindSink is a Sink that takes anything but every seventh frame.
type blindSink struct{ n int }

func (k *blindSink) Log(uint64, []byte) {}
func (k *blindSink) Frame(_ *toy, _, pos uint64, _ []byte) (*toy, error) {
	if k.n++; k.n%7 == 0 {
		return nil, errors.New("no")
	}
	return &toy{pos: pos}, nil
}
func (k *blindSink) Mark() *toy { return &toy{} }

// FuzzReceiver has a host send anything.
func FuzzReceiver(f *testing.F) {
	for _, seed := range hostileSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) { hostileHost(t, b) })
	})
}

// hostileHost has a host do what b says.
func hostileHost(t *testing.T, b []byte) {
	g := NewReceiver[*toy](nil, &blindSink{}, Config{OnEcho: func(uint64) {}})
	s := &script{b}
	s.play(t, &g.e, func(op byte) {
		n := s.byte()
		if op == 6 {
			if _, err := g.SendKeys(t.Context(), make([]byte, int(n)*int(n))); err != nil {
				t.Fatal(err)
			}
		} else if n < 40 {
			g.Refresh()
		} else if err := g.SendResize(int(n), 1); err != nil {
			t.Fatal(err)
		}
	}, func() {
		v := &g.view
		size := 0
		for _, a := range v.parts {
			size += len(a.data)
		}
		if len(v.bases) > maxHeldBases || len(v.parts) > maxFrames || size > maxAssembly || v.early.bytes > maxEarlyBytes || len(g.echos) > maxReacts {
			t.Fatalf("%d bases, %d bytes of %d frames, %d bytes of log", len(v.bases), size, len(v.parts), v.early.bytes)
		}
		if g.log.acked > g.log.next || g.in.start != g.log.acked {
			t.Fatalf("input: %d of %d, held from %d", g.log.acked, g.log.next, g.in.start)
		}
	}, func() []uint64 {
		return []uint64{0, g.log.acked, g.log.next, g.taken, g.view.pos, g.view.pos + 1000}
	})
}

// hostileSeeds are scripts that get far.
func hostileSeeds() [][]byte {
	var seeds [][]byte
	for i := range uint64(8) {
		seeds = append(seeds, randomBytes(i, 600))
	}
	return seeds
}

func randomBytes(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 5))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint64())
	}
	return b
}

// TestHostile has peers that do thousands of random things.
func TestHostile(t *testing.T) {
	for seed := range uint64(300) {
		b := randomBytes(seed, 8000)
		synctest.Test(t, func(t *testing.T) { hostileGuest(t, b) })
		synctest.Test(t, func(t *testing.T) { hostileHost(t, b) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestBomb has a host send a small frame that expands to a huge one.
func TestBomb(t *testing.T) {
	packed, ok := deflate(make([]byte, maxState+1), 0)
	if !ok {
		t.Fatal("zeroes do not compress")
	}
	if _, err := inflate(nil, packed, maxState); err == nil {
		t.Error("a frame beyond the limit is expanded")
	}
	packed, _ = deflate(make([]byte, maxState), 0)
	if p, err := inflate(nil, packed, maxState); err != nil || len(p) != maxState {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	if _, err := inflate(nil, packed[:len(packed)/2], maxState); err == nil {
		t.Error("half a frame is expanded")
	}
}

func FuzzInflate(f *testing.F) {
	packed, _ := deflate([]byte("some text, some text, some text"), 0)
	f.Add(packed)
	packed, _ = deflate(make([]byte, 10_000), 0)
	f.Add(packed)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := inflate(nil, b, 4096)
		if err == nil && len(p) > 4096 {
			t.Errorf("%d bytes", len(p))
		}
	})
}
