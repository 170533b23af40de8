package peer

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestHistory(t *testing.T) {
	noise := make([]byte, MaxHistory)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for name, p := range map[string][]byte{
		"a line": []byte("line\r\n"), "lines": bytes.Repeat([]byte("line\r\n"), 30000), "noise": noise,
	} {
		var r historyReader
		for range 2 { // one after the other
			packed := compressHistory(p)
			for len(packed) > 0 {
				n := min(len(packed), historyPiece)
				got, complete, err := r.add(controlHistory{n == len(packed), string(packed[:n])})
				packed = packed[n:]
				if err != nil || complete != (len(packed) == 0) || complete && !bytes.Equal(got, p) {
					t.Fatalf("%s: %d bytes, %v, %v", name, len(got), complete, err)
				}
			}
		}
	}
}

// TestHostileHistory has hosts that send too much, or something else.
func TestHostileHistory(t *testing.T) {
	bomb := compressHistory(make([]byte, 64<<20))
	for name, p := range map[string][]byte{"a bomb": bomb, "nothing": nil, "no history": []byte("\xffhello"), "too much": make([]byte, 2*MaxHistory)} {
		var r historyReader
		var err error
		for complete := false; !complete && err == nil; {
			n := min(len(p), historyPiece)
			_, complete, err = r.add(controlHistory{n == len(p), string(p[:n])})
			p = p[n:]
			if cap(r.got) > 2*MaxHistory {
				t.Fatalf("%s: %d bytes are held", name, cap(r.got))
			}
		}
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
