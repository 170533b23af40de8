package seal

import (
	"errors"
	"math"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// The last sequence number is used once, and then no more.
func TestNeverWraps(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		s, o := NewSealer(Key{1}, ""), NewOpener(Key{1}, "")
		s.next = math.MaxUint64 - 1
		if ordered {
			o = NewOrderedOpener(Key{1}, "")
			o.next = math.MaxUint64 - 1
		}
		for range 2 {
			rec, err := s.Seal(nil, []byte("late"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.Open(nil, rec); err != nil {
				t.Fatal(err)
			}
			if _, err := o.Open(nil, rec); err == nil {
				t.Fatalf("ordered=%t: replay near the end of the numbers accepted", ordered)
			}
		}
		if out, err := s.Seal([]byte("x"), nil); !errors.Is(err, ErrExhausted) || string(out) != "x" {
			t.Errorf("after the last number: %q, %v", out, err)
		}
	}
}

// Kept to show why AES-256-GCM was chosen: run it on the machine in question.
func BenchmarkChaCha20Poly1305(b *testing.B) {
	aead, err := chacha20poly1305.New(make([]byte, KeySize))
	if err != nil {
		b.Fatal(err)
	}
	msg, buf := make([]byte, 1132), make([]byte, 0, 1132+tagSize)
	nonce := make([]byte, nonceSize)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		rec := aead.Seal(buf, nonce, msg, nil)
		if _, err := aead.Open(rec[:0], nonce, rec, nil); err != nil {
			b.Fatal(err)
		}
	}
}
