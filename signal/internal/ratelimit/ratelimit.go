// Package ratelimit bounds what each of very many strangers may do: a [Bucket]
// is one token bucket in 32 bytes, a [Table] keeps one for every client address
// and never grows beyond its size. The signaling server and the STUN responder
// share it.
//
// golang.org/x/time/rate is not used because its limiter is several times as
// large, locks on its own, and cannot say that it is full again and may be
// forgotten.
package ratelimit

import (
	"net/netip"
	"sync"
	"time"
)

// Rate is what a bucket refills with and holds. The zero Rate permits nothing.
type Rate struct {
	PerSecond float64 // tokens
	Burst     float64 // tokens in a full bucket
}

// Bucket is a token bucket; the zero Bucket is full. It is not safe for
// concurrent use.
type Bucket struct {
	spent float64 // tokens missing, as of last
	last  time.Time
}

// Take takes n tokens, or none and returns false if there are not enough.
func (b *Bucket) Take(now time.Time, r Rate, n float64) bool {
	b.refill(now, r)
	if b.spent+n > r.Burst {
		return false
	}
	b.spent += n
	return true
}

// Full reports whether the bucket is as good as new.
func (b *Bucket) Full(now time.Time, r Rate) bool {
	b.refill(now, r)
	return b.spent == 0
}

// Wait is the time until n tokens will be there.
func (b *Bucket) Wait(now time.Time, r Rate, n float64) time.Duration {
	b.refill(now, r)
	missing := b.spent + n - r.Burst
	if missing <= 0 || r.PerSecond <= 0 {
		return 0
	}
	return time.Duration(missing / r.PerSecond * float64(time.Second))
}

func (b *Bucket) refill(now time.Time, r Rate) {
	if elapsed := now.Sub(b.last); elapsed > 0 {
		b.spent = max(0, b.spent-elapsed.Seconds()*r.PerSecond)
	}
	b.last = now
}

// Prefix is the unit in which client addresses are counted: an IPv4 address,
// or the /64 that an IPv6 host may choose any address of.
func Prefix(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// Table holds a bucket, and a count of what is held at the moment, for every
// client address, by [Prefix]. Addresses whose bucket is full again and that
// hold nothing are forgotten. When Size addresses are remembered, all further
// ones share a single entry: then strangers get in each other's way, but not
// in that of those who were here before, and memory stays bounded.
//
// All methods are safe for concurrent use.
type Table struct {
	// Set before first use.
	Rate Rate
	Held int // most that one address may hold at once; 0: no limit
	Size int // most addresses to remember

	mu      sync.Mutex
	entries map[netip.Addr]*entry // guarded by mu
	rest    entry                 // guarded by mu
	swept   time.Time             // guarded by mu
}

type entry struct {
	bucket Bucket
	held   int
}

// sweepEvery bounds how often a full table is searched for entries to forget.
const sweepEvery = time.Second

// Allow takes n tokens of a's bucket.
func (t *Table) Allow(a netip.Addr, now time.Time, n float64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, _ := t.entryLocked(Prefix(a), now)
	return e.bucket.Take(now, t.Rate, n)
}

// Verdict is what [Table.Acquire] decided.
type Verdict int

// The verdicts.
const (
	VerdictNo   Verdict = iota // too often; see the wait
	VerdictHeld                // a holds as many as it may
	VerdictYes
)

// Acquire takes one token of a's bucket and notes that a holds one more. If
// and only if the verdict is [VerdictYes], the returned function must be
// called, once, when it does no longer.
func (t *Table) Acquire(a netip.Addr, now time.Time) (release func(), wait time.Duration, v Verdict) {
	a = Prefix(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	e, key := t.entryLocked(a, now)
	if t.Held > 0 && e.held >= t.Held {
		return nil, 0, VerdictHeld
	}
	if !e.bucket.Take(now, t.Rate, 1) {
		return nil, e.bucket.Wait(now, t.Rate, 1), VerdictNo
	}
	e.held++
	return func() { t.release(e, key) }, 0, VerdictYes
}

func (t *Table) release(e *entry, key netip.Addr) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e.held--
	if key.IsValid() && e.held == 0 && e.bucket.Full(now, t.Rate) {
		delete(t.entries, key)
	}
}

// Len is the number of remembered addresses.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}

// entryLocked returns a's entry and its key, which is invalid for the shared one.
func (t *Table) entryLocked(a netip.Addr, now time.Time) (*entry, netip.Addr) {
	if e := t.entries[a]; e != nil {
		return e, a
	}
	if len(t.entries) >= t.Size && now.Sub(t.swept) >= sweepEvery {
		t.swept = now
		for k, e := range t.entries {
			if e.held == 0 && e.bucket.Full(now, t.Rate) {
				delete(t.entries, k)
			}
		}
	}
	if len(t.entries) >= t.Size || !a.IsValid() {
		return &t.rest, netip.Addr{}
	}
	if t.entries == nil {
		t.entries = make(map[netip.Addr]*entry)
	}
	e := new(entry)
	t.entries[a] = e
	return e, a
}
