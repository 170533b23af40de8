package seal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/pairterm/pairterm/peer/seal"
)

func testKey(t testing.TB, label string) seal.Key {
	t.Helper()
	k, err := seal.Derive([]byte("a secret of the tunnel"), []byte("a binding"), label)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustSeal(t testing.TB, s *seal.Sealer, msg string) []byte {
	t.Helper()
	rec, err := s.Seal(nil, []byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestRoundTrip(t *testing.T) {
	key := testKey(t, "x")
	for _, ordered := range []bool{false, true} {
		s, o := seal.NewSealer(key, "x"), seal.NewOpener(key, "x")
		if ordered {
			o = seal.NewOrderedOpener(key, "x")
		}
		for i, msg := range []string{"", "k", string(bytes.Repeat([]byte("terminal"), 2000))} {
			rec, err := s.Seal([]byte("kept"), []byte(msg))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(rec, []byte("kept")) || len(rec) != 4+len(msg)+seal.Overhead {
				t.Fatalf("record %d: %d bytes for a message of %d", i, len(rec), len(msg))
			}
			if got := binary.BigEndian.Uint64(rec[4:]); got != uint64(i) {
				t.Fatalf("record %d has sequence number %d", i, got)
			}
			out, err := o.Open([]byte("kept"), rec[4:])
			if err != nil || string(out) != "kept"+msg {
				t.Fatalf("record %d: %q, %v", i, out, err)
			}
		}
	}
}

// A record is good for one key, one context, one time, and only unchanged.
func TestRefused(t *testing.T) {
	key := testKey(t, "x")
	rec := mustSeal(t, seal.NewSealer(key, "x"), "hello")
	for i := range rec {
		bad := bytes.Clone(rec)
		bad[i] ^= 0x10
		for _, o := range []*seal.Opener{seal.NewOpener(key, "x"), seal.NewOrderedOpener(key, "x")} {
			if _, err := o.Open(nil, bad); err == nil {
				t.Fatalf("byte %d changed, and still accepted", i)
			}
			if out, err := o.Open(nil, rec); err != nil || string(out) != "hello" {
				t.Fatalf("after a forgery the real record gives %q, %v", out, err)
			}
		}
	}
	for n := range rec {
		want := seal.ErrForged
		if n < seal.Overhead {
			want = seal.ErrShort
		}
		if _, err := seal.NewOpener(key, "x").Open(nil, rec[:n]); !errors.Is(err, want) {
			t.Fatalf("cut to %d bytes: %v, want %v", n, err, want)
		}
	}
	if _, err := seal.NewOpener(key, "y").Open(nil, rec); !errors.Is(err, seal.ErrForged) {
		t.Errorf("other context: %v", err)
	}
	if _, err := seal.NewOpener(testKey(t, "y"), "x").Open(nil, rec); !errors.Is(err, seal.ErrForged) {
		t.Errorf("other key: %v", err)
	}
}

func TestDeriveSeparates(t *testing.T) {
	seen := map[seal.Key]string{}
	for _, secret := range []string{"s", "t"} {
		for _, binding := range []string{"", "link 1", "link 2"} {
			for _, label := range []string{"sync guest to host", "sync host to guest", "control guest to host"} {
				k, err := seal.Derive([]byte(secret), []byte(binding), label)
				if err != nil {
					t.Fatal(err)
				}
				id := secret + "|" + binding + "|" + label
				if other, dup := seen[k]; dup {
					t.Errorf("%s and %s give the same key", id, other)
				}
				seen[k] = id
			}
		}
	}
}

func TestOrdered(t *testing.T) {
	key := testKey(t, "x")
	s := seal.NewSealer(key, "")
	var recs [][]byte
	for range 4 {
		recs = append(recs, mustSeal(t, s, "m"))
	}
	o := seal.NewOrderedOpener(key, "")
	for _, step := range []struct {
		rec  int
		want error
	}{{1, seal.ErrOutOfOrder}, {0, nil}, {0, seal.ErrOutOfOrder}, {2, seal.ErrOutOfOrder}, {1, nil}, {2, nil}, {1, seal.ErrOutOfOrder}, {3, nil}} {
		if _, err := o.Open(nil, recs[step.rec]); !errors.Is(err, step.want) {
			t.Fatalf("record %d: %v, want %v", step.rec, err, step.want)
		}
	}
}

// The window is compared with the obvious model, a set, over random reordering,
// loss and duplication, and jumps larger than itself.
func TestReplayWindowAgainstModel(t *testing.T) {
	key := testKey(t, "x")
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s, o := seal.NewSealer(key, ""), seal.NewOpener(key, "")
		var recs [][]byte
		for range 3 * seal.Window {
			recs = append(recs, mustSeal(t, s, ""))
		}
		accepted := map[int]bool{}
		top := -1
		for range 4 * seal.Window {
			// Mostly near the top, sometimes anywhere, sometimes far ahead.
			i := top + 2 - rng.IntN(seal.Window/2)
			switch rng.IntN(200) {
			case 0:
				i = rng.IntN(len(recs))
			case 1, 2, 3:
				i = top - seal.Window + rng.IntN(5) - 2
			}
			i = max(0, min(i, len(recs)-1))
			_, err := o.Open(nil, recs[i])
			want := !accepted[i] && top-i < seal.Window
			if (err == nil) != want || (err != nil && !errors.Is(err, seal.ErrReplayed)) {
				t.Fatalf("seed %d: record %d with top %d, seen %t: %v", seed, i, top, accepted[i], err)
			}
			if err == nil {
				accepted[i] = true
				top = max(top, i)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	key := testKey(t, "x")
	s, o := seal.NewSealer(key, "sync"), seal.NewOpener(key, "sync")
	msg, rec, out := make([]byte, 1100), make([]byte, 0, 2000), make([]byte, 0, 2000)
	n := testing.AllocsPerRun(200, func() {
		r, err := s.Seal(rec, msg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(out, r); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

// No bytes, however chosen, are accepted by an opener unless the sealer made them;
// none makes it panic, and none keeps the next real record from being opened.
func FuzzOpen(f *testing.F) {
	key := testKey(f, "x")
	real0 := mustSeal(f, seal.NewSealer(key, "x"), "zero")
	f.Add([]byte{})
	f.Add(real0)
	f.Add(bytes.Repeat([]byte{0xff}, seal.Overhead))
	f.Add(append(bytes.Repeat([]byte{0}, 7), real0...))
	f.Fuzz(func(t *testing.T, rec []byte) {
		for _, o := range []*seal.Opener{seal.NewOpener(key, "x"), seal.NewOrderedOpener(key, "x")} {
			if _, err := o.Open(nil, rec); (err == nil) != bytes.Equal(rec, real0) {
				t.Fatalf("%x: %v", rec, err)
			}
			if bytes.Equal(rec, real0) {
				continue
			}
			if out, err := o.Open(nil, real0); err != nil || string(out) != "zero" {
				t.Fatalf("after %x: %q, %v", rec, out, err)
			}
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	for _, size := range []int{1, 1132, 16 << 10} {
		b.Run(byteSize(size), func(b *testing.B) {
			key := testKey(b, "x")
			s, o := seal.NewSealer(key, "sync"), seal.NewOpener(key, "sync")
			msg, rec, out := make([]byte, size), make([]byte, 0, size+seal.Overhead), make([]byte, 0, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Seal(rec, msg)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := o.Open(out, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func byteSize(n int) string {
	switch n {
	case 1:
		return "key"
	case 16 << 10:
		return "bulk16k"
	}
	return "datagram"
}
