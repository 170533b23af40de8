package ratelimit

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestBucket(t *testing.T) {
	r := Rate{PerSecond: 2, Burst: 3}
	now := time.Unix(1000, 0)
	var b Bucket
	for i := range 3 {
		if !b.Take(now, r, 1) {
			t.Fatalf("take %d of a full bucket of 3 failed", i)
		}
	}
	if b.Take(now, r, 1) {
		t.Fatal("took a fourth token of 3")
	}
	if w := b.Wait(now, r, 1); w != 500*time.Millisecond {
		t.Errorf("wait = %v, want 500ms", w)
	}
	now = now.Add(500 * time.Millisecond)
	if !b.Take(now, r, 1) {
		t.Error("no token after the wait")
	}
	now = now.Add(-time.Hour) // a clock that jumps back gives nothing, takes nothing
	if b.Take(now, r, 1) {
		t.Error("a token out of the past")
	}
	now = now.Add(1499 * time.Millisecond)
	if b.Full(now, r) {
		t.Error("full too early")
	}
	if now = now.Add(time.Millisecond); !b.Full(now, r) {
		t.Error("not full in time")
	}
	if b.Take(now.Add(time.Hour), r, 4) {
		t.Error("took more than a burst")
	}
}

func TestPrefix(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
		{"fe80::1%eth0", "fe80::"},
	} {
		if got := Prefix(netip.MustParseAddr(c.a)); got != netip.MustParseAddr(c.b) {
			t.Errorf("Prefix(%s) = %s, want %s", c.a, got, c.b)
		}
	}
}

func addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func TestTableHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := &Table{Rate: Rate{PerSecond: 1, Burst: 10}, Held: 2, Size: 4}
		r1, _, v1 := tab.Acquire(addr(1), time.Now())
		_, _, v2 := tab.Acquire(addr(1), time.Now())
		_, _, v3 := tab.Acquire(addr(1), time.Now())
		if v1 != VerdictYes || v2 != VerdictYes || v3 != VerdictHeld {
			t.Fatalf("verdicts %v %v %v", v1, v2, v3)
		}
		if _, _, v := tab.Acquire(addr(2), time.Now()); v != VerdictYes {
			t.Error("one address got in another's way")
		}
		r1()
		if _, _, v := tab.Acquire(addr(1), time.Now()); v != VerdictYes {
			t.Error("nothing to acquire after a release")
		}
	})
}

func TestTableIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := &Table{Rate: Rate{PerSecond: 1, Burst: 2}, Size: 100}
		release, _, _ := tab.Acquire(addr(0), time.Now())
		for i := range 10_000 {
			tab.Allow(addr(i), time.Now(), 1)
		}
		if n := tab.Len(); n != 100 {
			t.Fatalf("%d addresses remembered, want 100", n)
		}
		if tab.Allow(addr(5_000), time.Now(), 1) {
			t.Error("strangers beyond the table's size have unlimited tokens")
		}
		if !tab.Allow(addr(7), time.Now(), 1) {
			t.Error("a known address suffers from strangers")
		}
		time.Sleep(3 * time.Second) // all buckets are full again
		if !tab.Allow(addr(5_000), time.Now(), 1) {
			t.Error("a stranger is refused by an idle table")
		}
		if n := tab.Len(); n != 2 {
			t.Errorf("%d addresses remembered, want 2: the holder and the newcomer", n)
		}
		release()
		if n := tab.Len(); n != 1 {
			t.Errorf("%d addresses remembered after the release, want 1", n)
		}
	})
}

func BenchmarkTable(b *testing.B) {
	tab := &Table{Rate: Rate{PerSecond: 10, Burst: 20}, Size: 1 << 16}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tab.Allow(addr(i&0xffff), time.Now(), 1)
		i++
	}
}
