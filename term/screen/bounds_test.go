package screen_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// hostile are endless streams that try to make the model grow.
var hostile = map[string]func(i int) string{
	"clusters": func(i int) string {
		return fmt.Sprintf("x%c%c%c", 0x300+i%112, 0x300+i/112%112, 0x300+i/112/112%112)
	},
	"one long cluster": func(i int) string { return "\u0301\u0302" },
	"hyperlinks": func(i int) string {
		return fmt.Sprintf("\x1b]8;id=%d;http://%d/%s\x1b\\x", i, i, strings.Repeat("y", 1900))
	},
	"underline colours": func(i int) string { return fmt.Sprintf("\x1b[58:2::%d:%d:%dmx", i>>16&255, i>>8&255, i&255) },
	"titles":            func(i int) string { return fmt.Sprintf("\x1b]0;%d%s\a\x1b[22;0t", i, strings.Repeat("t", 4000)) },
	"palette":           func(i int) string { return fmt.Sprintf("\x1b]4;%d;rgb:%x/1/2\a", i%300, i&0xfff) },
	"unended string":    func(i int) string { return strings.Repeat("s", 1000) },
	"unended image":     func(i int) string { return "\x1bP0q" + strings.Repeat("~", 4000) },
	"lines":             func(i int) string { return fmt.Sprintf("line %d\r\n", i) },
	"kitty flags":       func(i int) string { return "\x1b[>1u\x1b[>3u" },
	"renditions":        func(i int) string { return "\x1b[1m\x1b[#{" },
	"alternate screens": func(i int) string { return "\x1b[?1049hx\x1b[?1049l" },
}

// TestBounds writes some megabytes of each hostile stream and looks at what the
// model holds on to.
func TestBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const most = 32 << 20
	for name, line := range hostile {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			s := screen.New(80, 24, screen.Options{})
			if strings.HasPrefix(name, "unended") {
				s.Write([]byte("\x1b]52;c;"))
			}
			var last *screen.Snapshot
			written := 0
			for i := 0; written < 4<<20 && i < 400_000; i++ {
				b := []byte(line(i))
				written += len(b)
				s.Write(b)
				if i%1000 == 0 {
					last = s.Snapshot() // as a peer holds its last acknowledged one
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > most {
				t.Errorf("%d MiB are held after %d MiB of input", grown>>20, written>>20)
			}
			if why := s.CheckInvariants(); why != "" {
				t.Error(why)
			}
			n := s.Snapshot()
			m := screen.New(80, 24, screen.Options{})
			m.Write(screen.AppendDiff(nil, nil, last))
			m.Write(screen.AppendDiff(nil, m.Snapshot(), n))
			if got := m.Snapshot(); !got.Equal(n) {
				t.Errorf("redrawn: %s", firstDifference(n, got))
			}
			runtime.KeepAlive(last)
		})
	}
}

// TestCompaction fills the tables over and over while snapshots are held, whose
// cells must go on to mean what they meant.
func TestCompaction(t *testing.T) {
	s := screen.New(40, 8, screen.Options{ScrollbackBytes: 1 << 15})
	type held struct {
		n    *screen.Snapshot
		text []byte
	}
	var all []held
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 20_000 {
		fmt.Fprintf(s, "\x1b]8;;http://h/%d\x1b\\e%c%c\x1b]8;;\x1b\\", i, 0x300+rnd.IntN(100), 0x300+rnd.IntN(100))
		if i%11 == 0 {
			s.Write([]byte("\r\n"))
		}
		if i == 5000 {
			s.Write([]byte("\x1b7\x1b[58:5:9m\x1b[#{\x1b[?1049h"))
		}
		if i%1500 == 0 {
			n := s.Snapshot()
			all = append(all, held{n, screen.AppendDiff(nil, nil, n)})
		}
	}
	if why := s.CheckInvariants(); why != "" {
		t.Fatal(why)
	}
	if s.Compactions() == 0 {
		t.Fatal("the tables were never compacted")
	}
	for i, h := range all {
		if !bytes.Equal(screen.AppendDiff(nil, nil, h.n), h.text) {
			t.Errorf("snapshot %d has changed", i)
		}
		// Between snapshots of different tables, too, a diff is exact.
		m := screen.New(40, 8, screen.Options{})
		m.Write(screen.AppendDiff(nil, nil, all[0].n))
		m.Write(screen.AppendDiff(nil, all[0].n, h.n))
		if got := m.Snapshot(); !got.Equal(h.n) {
			t.Errorf("snapshot %d: %s", i, firstDifference(h.n, got))
		}
	}
}
