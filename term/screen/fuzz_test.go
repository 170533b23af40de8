package screen_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// tokens are what scripts are made of; %d stands for a number.
var tokens = []string{
	"a", "Hello, world ", "\r\n", "\n", "\r", "\b", "\t", " ", "0123456789abcdef",
	"漢", "漢字テスト", "é", "e\u0301", "👩\u200d👩", "\u0301", "─", "🙂", "\xff", "\xe6\xbc", "\u009b%dC", "\u0085",
	"\x1b[%d;%dH", "\x1b[%dA", "\x1b[%dB", "\x1b[%dC", "\x1b[%dD", "\x1b[%dE", "\x1b[%dF", "\x1b[%dG", "\x1b[%dd",
	"\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[J", "\x1b[1J", "\x1b[2J", "\x1b[3J", "\x1b[?J", "\x1b[?K", "\x1b[%dX",
	"\x1b[%d@", "\x1b[%dP", "\x1b[%dL", "\x1b[%dM", "\x1b[%dS", "\x1b[%dT", "\x1b[%db", "x\x1b[%db",
	"\x1b[%dI", "\x1b[%dZ", "\x1bH", "\x1b[g", "\x1b[3g", "\x1b[?5W",
	"\x1b[%d;%dr", "\x1b[r", "\x1b[?69h", "\x1b[?69l", "\x1b[%d;%ds", "\x1b[s", "\x1b[u", "\x1b7", "\x1b8",
	"\x1bD", "\x1bM", "\x1bE", "\x1b6", "\x1b9", "\x1b[%d'}", "\x1b[%d'~", "\x1b[%d @", "\x1b[%d A",
	"\x1b[?6h", "\x1b[?6l", "\x1b[?7h", "\x1b[?7l", "\x1b[4h", "\x1b[4l", "\x1b[20h", "\x1b[20l", "\x1b[?45h",
	"\x1b[?47h", "\x1b[?47l", "\x1b[?1047h", "\x1b[?1047l", "\x1b[?1048h", "\x1b[?1048l", "\x1b[?1049h", "\x1b[?1049l",
	"\x1b[?1h", "\x1b[?25l", "\x1b[?25h", "\x1b[?1000h", "\x1b[?1003h", "\x1b[?1002l", "\x1b[?1006h", "\x1b[?2004h", "\x1b[?2026h", "\x1b[?2026l",
	"\x1b[?5h", "\x1b[?12h", "\x1b[?1004h", "\x1b[?1;25;2004s", "\x1b[?1;25;2004r", "\x1b[?40h", "\x1b[?3h", "\x1b[?2031h",
	"\x1b[m", "\x1b[1m", "\x1b[31m", "\x1b[4%dm", "\x1b[38;5;%dm", "\x1b[48;2;%d;2;3m", "\x1b[4:3m", "\x1b[58:5:%dm", "\x1b[7m", "\x1b[22;24;27m", "\x1b[49m",
	"\x1b[1\"q", "\x1b[\"q", "\x1b[#{", "\x1b[#}", "\x1b[%d q", "\x1b[!p", "\x1b#8", "\x1bc",
	"\x1b]0;title %d\a", "\x1b]2;t\x1b\\", "\x1b[22;0t", "\x1b[23;0t", "\x1b]4;%d;rgb:1/2/3\a", "\x1b]104\a", "\x1b]11;#123\a", "\x1b]111\a",
	"\x1b]8;;http://example.com/%d\x1b\\", "\x1b]8;id=%d;x:y\a", "\x1b]8;;\x1b\\", "\x1b]52;c;?\a", "\x1b]52;c;eA==\a",
	"\x1b(0", "\x1b(B", "\x1b)0", "\x1b*A", "\x1b(K", "\x0e", "\x0f", "\x1bn", "\x1bN", "\x1bO", "lqk_x~", "\x1b(%%6",
	"\x1b[>%du", "\x1b[<%du", "\x1b[=%d;1u", "\x1b[>4;%dm", "\x1b[>4n", "\x1b[>1;%df",
	"\x1b[%d;1;9;9;3$z", "\x1b[42;%d;2;9;9$x", "\x1b[1;1;3;5;1;%d;%d$v", "\x1b[1;1;%d;9${",
	"\x1b[c", "\x1b[6n", "\x1b[?6n", "\x1b[>c", "\x1b[>q", "\x1b[?1$p", "\x1bP$qm\x1b\\", "\x1bP+q544e\x1b\\", "\x1b]10;?\a", "\x1b]4;1;?\a", "\x1b[?u", "\x1b[18t", "\x05", "\x1bZ",
	"\x1b_Ga=q;AAAA\x1b\\", "\x1b_Gf=24,i=%d;AAAA\x1b\\", "\x1bPq#0~~\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\", "\x1bktitle\x1b\\",
	"\x18", "\x1b", "\x1b[", "\x1b]", "\x1bP", "\x00", "\x7f", "\x1b[1;2;3", "\x1b[?", "\x1b[<1?", "\x1b\\", "\x1b[ ", "\x1b(",
}

// script makes output of a terminal program out of arbitrary bytes: sequences
// that it picks, and their numbers; or the bytes as they are.
func script(data []byte) []byte {
	if len(data) > 0 && data[0] == 0 {
		return data[1:]
	}
	var out []byte
	for len(data) > 0 {
		t := tokens[int(data[0])%len(tokens)]
		data = data[1:]
		for i := 0; i < len(t); i++ {
			if t[i] != '%' || i+1 >= len(t) || t[i+1] != 'd' {
				out = append(out, t[i])
				continue
			}
			i++
			if len(data) > 0 {
				out = fmt.Append(out, data[0]%24)
				data = data[1:]
			}
		}
	}
	return out
}

// split writes p in pieces whose lengths come from sizes.
func split(s *screen.Screen, p, sizes []byte) {
	for i := 0; len(p) > 0; i++ {
		n := 1
		if len(sizes) > 0 {
			n = min(int(sizes[i%len(sizes)])%7+1, len(p))
		}
		s.Write(p[:n])
		p = p[n:]
	}
}

// checkStream checks all that is promised about a stream of output, with a
// snapshot taken after cut bytes.
func checkStream(t *testing.T, out []byte, cols, rows, cut int, sizes []byte) {
	t.Helper()
	opts := screen.Options{ScrollbackBytes: 1 << 14}
	fresh := func() *screen.Screen { return screen.New(cols, rows, opts) }
	sound := func(s *screen.Screen, what string) {
		t.Helper()
		if why := s.CheckInvariants(); why != "" {
			t.Fatalf("%s: %s\n%dx%d, %q", what, why, cols, rows, out)
		}
	}
	same := func(want, got *screen.Snapshot, what string, diff []byte) {
		t.Helper()
		if !want.Equal(got) {
			t.Fatalf("%s: %s\n%dx%d, cut %d: %q + %q\ndiff %q", what, firstDifference(want, got), cols, rows, cut, out[:cut], out[cut:], diff)
		}
	}
	cut = min(cut, len(out))
	m := fresh()
	m.Write(out[:cut])
	sound(m, "model")
	at := m.Snapshot()
	m.Write(out[cut:])
	sound(m, "model")
	end := m.Snapshot()

	// Split points never matter.
	m2 := fresh()
	split(m2, out, sizes)
	same(end, m2.Snapshot(), "in pieces", nil)

	// A snapshot, then the rest of the bytes.
	full := screen.AppendDiff(nil, nil, at)
	m3 := fresh()
	m3.Write(full)
	sound(m3, "redrawn")
	same(at, m3.Snapshot(), "full redraw", full)
	m3.Write(out[cut:])
	same(end, m3.Snapshot(), "full redraw, then the rest", full)

	// A diff, to and fro.
	diff := screen.AppendDiff(nil, at, end)
	m4 := fresh()
	m4.Write(out[:cut])
	m4.Write(diff)
	same(end, m4.Snapshot(), "diff", diff)
	// The other way, between models of their own.
	back := screen.AppendDiff(nil, m4.Snapshot(), at)
	m4.Write(back)
	same(at, m4.Snapshot(), "diff back", back)
	// What is the same needs no bytes.
	if again := screen.AppendDiff(nil, at, m4.Snapshot()); len(again) > 0 && len(at.Pending()) == 0 {
		t.Fatalf("the diff of equal states is %q\n%q", again, out[:cut])
	}
	// A terminal in a state that is not known.
	m4.Write(out[cut:])
	m4.Write([]byte(uncommon))
	m4.Write(full)
	same(at, m4.Snapshot(), "full redraw over another state", full)

	// What passes makes the same screen on a terminal, and asks it nothing.
	asked := ""
	term := screen.New(cols, rows, screen.Options{Reply: func(answer []byte) { asked = string(answer) }})
	guest := fresh()
	var passed []byte
	passed = guest.Pass(passed, full)
	passed = guest.Pass(passed, out[cut:])
	term.Write(passed)
	if asked != "" {
		t.Fatalf("a query passed, answered by %q\n%q\npassed %q", asked, out, passed)
	}
	same(end, guest.Snapshot(), "passing", full)
	if why := samePicture(end, term.Snapshot()); why != "" {
		t.Fatalf("the terminal shows something else: %s\n%dx%d, %q\npassed %q", why, cols, rows, out, passed)
	}
}

// samePicture compares what can be seen.
func samePicture(a, b *screen.Snapshot) string {
	cols, rows := a.Size()
	for y := range rows {
		for x := range cols {
			if ca, cb := cellLook(a, a.Cell(x, y)), cellLook(b, b.Cell(x, y)); ca != cb {
				return fmt.Sprintf("at %d,%d: %+v, and %+v", x, y, ca, cb)
			}
		}
	}
	if a.Cursor() != b.Cursor() {
		return fmt.Sprintf("cursor %+v, and %+v", a.Cursor(), b.Cursor())
	}
	return ""
}

func FuzzScreen(f *testing.F) {
	f.Add([]byte{0}, uint8(10), uint8(6), uint16(0), []byte{1})
	for i := range tokens {
		f.Add([]byte{8, byte(i), 3, 5, 9, 4, byte(i), 1}, uint8(10+i%9), uint8(3+i%5), uint16(i%29), []byte{byte(i), 2})
	}
	for _, r := range loadRecordings(f, filepath.Join("testdata", "conformance")) {
		f.Add(append([]byte{0}, r.raw[:min(len(r.raw), 2000)]...), uint8(80), uint8(24), uint16(700), []byte{5, 3})
	}
	f.Fuzz(func(t *testing.T, data []byte, cols, rows uint8, cut uint16, sizes []byte) {
		checkStream(t, script(data), int(cols)%40+1, int(rows)%12+1, int(cut), sizes)
	})
}

// FuzzResize changes the size at any moment.
func FuzzResize(f *testing.F) {
	f.Add([]byte{8, 8, 8, 2, 9}, []byte{20, 5, 3, 9, 9, 40, 7, 2})
	f.Add([]byte{9, 9, 9, 9, 2, 8, 8, 92, 8}, []byte{2, 1, 1, 39, 11, 6, 10, 5})
	f.Fuzz(checkResizes)
}

// checkResizes writes a script and changes the size now and then: sizes are
// triples of a number of bytes, columns and rows.
func checkResizes(t *testing.T, data, sizes []byte) {
	s := screen.New(20, 6, screen.Options{ScrollbackBytes: 1 << 14})
	out := script(data)
	for i := 0; i+2 < len(sizes); i += 3 {
		n := min(int(sizes[i]), len(out))
		s.Write(out[:n])
		out = out[n:]
		before := s.Snapshot()
		text := len(screen.AppendDiff(nil, nil, before))
		cols, rows := int(sizes[i+1])%40+1, int(sizes[i+2])%12+1
		s.Resize(cols, rows)
		if why := s.CheckInvariants(); why != "" {
			t.Fatalf("after %dx%d: %s", cols, rows, why)
		}
		// Snapshots do not change with the screen.
		if n := len(screen.AppendDiff(nil, nil, before)); n != text {
			t.Fatalf("a snapshot has changed")
		}
		after := s.Snapshot()
		m := screen.New(cols, rows, screen.Options{})
		if c, r := before.Size(); c == cols && r == rows {
			before = nil
		}
		m.Write(screen.AppendDiff(nil, before, after))
		if got := m.Snapshot(); !got.Equal(after) {
			t.Fatalf("redraw in the new size: %s", firstDifference(after, got))
		}
	}
	s.Write(out)
	if why := s.CheckInvariants(); why != "" {
		t.Fatal(why)
	}
}

func TestScriptUsesAllTokens(t *testing.T) {
	if len(tokens) > 256 {
		t.Fatalf("%d tokens, and a byte picks one", len(tokens))
	}
	if !bytes.Contains(script([]byte{8}), []byte("0123456789")) {
		t.Fatal("tokens are picked by another number")
	}
}

// TestRandomStreams checks what FuzzScreen checks, on streams that are longer
// than a fuzzer grows them in the time that there is.
func TestRandomStreams(t *testing.T) {
	rounds := 1500
	if testing.Short() {
		rounds = 150
	}
	if n, err := strconv.Atoi(os.Getenv("PAIRTERM_RANDOM_STREAMS")); err == nil {
		rounds = n
	}
	for seed := range rounds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 1))
		data := make([]byte, 1+rnd.IntN(120))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		data[0] |= 1
		out := script(data)
		checkStream(t, out, 1+rnd.IntN(24), 1+rnd.IntN(9), rnd.IntN(len(out)+1), data[:min(8, len(data))])
		sizes := make([]byte, 3*rnd.IntN(8))
		for i := range sizes {
			sizes[i] = byte(rnd.Uint32())
		}
		checkResizes(t, data, sizes)
	}
}
