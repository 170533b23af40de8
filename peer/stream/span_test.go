package stream

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSpanSet compares with a plain set of positions.
func TestSpanSet(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var s spanSet
		var want [64]bool
		for step := range 200 {
			from := rng.Uint64N(64)
			sp := span{from, from + rng.Uint64N(64-from+1)}
			add := rng.IntN(2) == 0
			if add {
				s.add(sp)
			} else {
				s.remove(sp)
			}
			for i := sp.from; i < sp.to; i++ {
				want[i] = add
			}
			var got [64]bool
			last := span{}
			for i, e := range s.s {
				if e.from >= e.to || i > 0 && e.from <= last.to {
					t.Fatalf("seed %d, step %d: not sorted and disjoint: %v", seed, step, s.s)
				}
				last = e
				for j := e.from; j < e.to; j++ {
					got[j] = true
				}
			}
			if got != want {
				t.Fatalf("seed %d, step %d: after %v (add %v): %v", seed, step, sp, add, s.s)
			}
		}
	}
}

func TestOutlog(t *testing.T) {
	var o outlog
	o.reset(100)
	o.next = 1000
	o.arrived(span{200, 300})
	o.missing(span{150, 400})
	if want := []span{{150, 200}, {300, 400}}; !slices.Equal(o.lost.s, want) {
		t.Errorf("lost %v, want %v", o.lost.s, want)
	}
	o.arrived(span{300, 350}) // it was only late
	o.ackTo(170)
	if want := []span{{170, 200}, {350, 400}}; !slices.Equal(o.lost.s, want) {
		t.Errorf("lost %v, want %v", o.lost.s, want)
	}
	o.missing(span{50, 2000}) // what is acknowledged, or was never sent, is not
	if want := []span{{170, 200}, {350, 1000}}; !slices.Equal(o.lost.s, want) {
		t.Errorf("lost %v, want %v", o.lost.s, want)
	}
	o.redo()
	if want := []span{{170, 1000}}; !slices.Equal(o.lost.s, want) || !o.sacked.empty() {
		t.Errorf("lost %v, want %v", o.lost.s, want)
	}
	o.reset(0)
	o.next = 1 << 20
	for i := range uint64(10_000) {
		o.missing(span{i * 10, i*10 + 1})
		o.arrived(span{500_000 + i*10, 500_000 + i*10 + 1})
	}
	if len(o.lost.s) > maxSpans || len(o.sacked.s) > maxSpans {
		t.Errorf("%d and %d spans are kept", len(o.lost.s), len(o.sacked.s))
	}
}

func TestReorder(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		whole := text(rng, 5000)
		var r reorder
		pos := uint64(0)
		var got []byte
		for step := 0; len(got) < len(whole); step++ {
			from := rng.IntN(len(whole))
			if step > 300 {
				from = int(pos)
			}
			to := min(len(whole), from+1+rng.IntN(200))
			r.put(uint64(from), false, whole[from:to])
			for {
				e, ok := r.next(pos)
				if !ok {
					break
				}
				got = append(got, e.data[pos-e.pos:]...)
				pos = e.end()
			}
			bytes := 0
			for _, e := range r.chunks {
				bytes += len(e.data)
			}
			if bytes != r.bytes || bytes > maxEarlyBytes || len(r.chunks) > maxEarly {
				t.Fatalf("%d chunks of %d bytes, %d counted", len(r.chunks), bytes, r.bytes)
			}
		}
		if string(got) != string(whole) {
			t.Fatalf("seed %d: not what was put", seed)
		}
	}
	var r reorder
	for i := range uint64(100_000) {
		r.put(1+i*7919%100_000*2000, false, make([]byte, 1000))
	}
	if r.bytes > maxEarlyBytes || len(r.chunks) > maxEarly {
		t.Errorf("%d chunks of %d bytes are kept", len(r.chunks), r.bytes)
	}
}
