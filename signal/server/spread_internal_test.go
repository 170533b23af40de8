package server

import (
	"testing"
	"time"
)

// Clients come back over as long as it takes to register them, and not at once.
func TestSpread(t *testing.T) {
	for clients, over := range map[int]time.Duration{
		0:       time.Second,
		1000:    3 * time.Second,
		100_000: 10 * time.Second,
	} {
		s := New(Config{})
		s.leaving = clients
		var tenths [10]int
		for range 10_000 {
			d := s.spread(false) - time.Second
			if d < 0 || d >= over {
				t.Fatalf("one of %d clients comes back %v after the first may", clients, d)
			}
			tenths[d*10/over]++
		}
		for i, n := range tenths {
			if n < 500 {
				t.Errorf("%d of 10,000 come back in tenth %d of %v", n, i, over)
			}
		}
	}
}
