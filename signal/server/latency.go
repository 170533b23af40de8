package server

import (
	"sync/atomic"
	"time"
)

// Who a handshake was with.
const (
	roleHost = iota
	roleGuest
	roles
)

// latencyBounds are the upper bounds of a histogram's buckets but for the last,
// which has none: a LAN's fraction of a millisecond to a person who looks for a
// security key.
var latencyBounds = [...]time.Duration{
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond,
	100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second,
}

// Latency is a histogram of durations.
type Latency struct {
	Count   uint64
	Sum     time.Duration
	Buckets map[time.Duration]uint64 // how many took at most so long
}

// latency counts durations. It is safe for concurrent use.
type latency struct {
	sum    atomic.Int64 // nanoseconds
	counts [len(latencyBounds) + 1]atomic.Uint64
}

func (l *latency) observe(d time.Duration) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	l.counts[i].Add(1)
	l.sum.Add(int64(d))
}

func (l *latency) read() Latency {
	out := Latency{Sum: time.Duration(l.sum.Load()), Buckets: make(map[time.Duration]uint64, len(latencyBounds))}
	for i := range l.counts {
		out.Count += l.counts[i].Load()
		if i < len(latencyBounds) {
			out.Buckets[latencyBounds[i]] = out.Count
		}
	}
	return out
}
