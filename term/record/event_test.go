package record

import (
	"strings"
	"testing"
	"time"
)

func BenchmarkEvent(b *testing.B) {
	output := []byte(strings.Repeat("\x1b[32mok\x1b[m  some test of something  0.01s\r\n", 100))
	r := New(nil, nil, Options{})
	at := time.Now()
	b.SetBytes(int64(len(output)))
	b.ReportAllocs()
	for b.Loop() {
		r.line = r.line[:0]
		r.event(at, 'o', output)
	}
}
