package term

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestBacklog compares with a log of which everything is kept.
func TestBacklog(t *testing.T) {
	const size = 64
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		l := newBacklog(size)
		var all []byte
		floor := 0
		for range 200 {
			switch rng.IntN(8) {
			case 0:
				l.cut()
				all = append(all, 0)
				floor = len(all)
			default:
				p := make([]byte, rng.IntN(2*size))
				for i := range p {
					p[i] = byte(rng.IntN(256))
				}
				l.append(p)
				all = append(all, p...)
			}
			if l.head != uint64(len(all)) {
				t.Fatalf("seed %d: head is %d, want %d", seed, l.head, len(all))
			}
			pos, limit := rng.IntN(len(all)+2), rng.IntN(size)
			got, ok := l.since([]byte("x"), uint64(pos), limit)
			held := pos >= floor && pos >= len(all)-size && pos <= len(all)
			if ok != held {
				t.Fatalf("seed %d: since(%d) of %d, floor %d: %v, want %v", seed, pos, len(all), floor, ok, held)
			}
			if ok && !bytes.Equal(got[1:], all[pos:min(pos+limit, len(all))]) {
				t.Fatalf("seed %d: since(%d, %d) is wrong", seed, pos, limit)
			}
		}
	}
}
