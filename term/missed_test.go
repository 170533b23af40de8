package term

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

// Limits that no test reaches: of rows, and of bytes.
const all, most = 10_000, 1 << 20

// reply gives the Painter what it has asked for, if it has.
func (g *pairing) reply(rows, limit int) {
	g.t.Helper()
	select {
	case from := <-g.p.Missed():
		p := appendMissed(nil, g.host.settle().Snapshot, from, rows, limit)
		if len(p) > limit {
			g.t.Fatalf("%d bytes, more than %d", len(p), limit)
		}
		if err := g.p.Scrollback(p); err != nil {
			g.t.Fatal(err)
		}
	default:
	}
}

// answer waits until it is quiet, gives the Painter what it asks for, and waits until
// that is there.
func (g *pairing) answer(rows, limit int) {
	g.t.Helper()
	for range 3 {
		g.reply(rows, limit)
		g.show()
		g.now = g.now.Add(missedPatience - time.Second)
	}
}

var sequence = regexp.MustCompile("\x1b(\\][^\x1b]*\x1b\\\\|\\[[0-9;?\"]*[a-zA-Z]|[()*+]B)|[\x18\x0f]")

// scrollback is the text of the terminal's scrollback.
func (g *pairing) scrollback() []string {
	snap := g.tty.snapshot()
	text := string(snap.AppendScrollback(nil, 1<<20))
	text = sequence.ReplaceAllString(text, "")
	return strings.Split(strings.TrimRight(text, "\r\n"), "\r\n")
}

// numbered are lines that can be told from each other.
func numbered(word string, from, to int) (lines []string) {
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("%s %d", word, i))
	}
	return lines
}

func (g *pairing) printLines(word string, from, to int) {
	for _, l := range numbered(word, from, to) {
		g.print(l + "\r\n")
	}
}

// follow prints numbered lines that reach the Painter as they are.
func (g *pairing) follow(from, to int) {
	g.printLines("line", from, to)
	g.log(most)
}

// flood prints so many that the Painter gets a picture of where they end.
func (g *pairing) flood(from, to int) {
	g.printLines("line", from, to)
	g.frame(g.marks[len(g.marks)-1])
}

func (g *pairing) mustHave(lines ...string) {
	g.t.Helper()
	got := g.scrollback()
	if !slices.Equal(got, lines) {
		for i := range min(len(got), len(lines)) {
			if got[i] != lines[i] {
				g.t.Fatalf("row %d of %d in the scrollback is %q, not %q, of %d\n%q", i, len(got), got[i], lines[i], len(lines), got[max(i-3, 0):min(i+4, len(got))])
			}
		}
		g.t.Fatalf("the scrollback has %d rows, not %d; it ends in %q, not in %q", len(got), len(lines), got[max(len(got)-3, 0):], lines[max(len(lines)-3, 0):])
	}
}

// newMissing is a pairing whose guest has a shell of its own behind it.
func newMissing(t *testing.T) *pairing {
	g := newPairing(t, Size{40, 5}, Size{40, 5})
	_, _ = g.tty.Write([]byte("my own\r\n$ join\r\n\r\n\r\n\r\n"))
	return g
}

var own = []string{"my own", "$ join", "", "", "", ""}

func TestMissed(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, g *pairing) (want []string)
	}{
		{"before joining", func(t *testing.T, g *pairing) []string {
			g.printLines("old", 0, 20)
			g.frame(nil)
			g.mustShow("joined")
			g.answer(all, most)
			return numbered("old", 0, 16)
		}},
		{"before joining, in part", func(t *testing.T, g *pairing) []string {
			g.printLines("old", 0, 20)
			g.frame(nil)
			g.answer(10, most)
			return numbered("old", 6, 16) // and no word about the rest
		}},
		{"output while the history is under way", func(t *testing.T, g *pairing) []string {
			g.printLines("old", 0, 20)
			g.frame(nil)
			g.show()
			g.printLines("new", 0, 10)
			g.log(most)
			g.mustShow("between")
			g.printLines("more", 0, 10) // the host answers before these come
			from := <-g.p.Missed()
			_ = g.p.Scrollback(appendMissed(nil, g.host.settle().Snapshot, from, all, most))
			g.show() // not before the last output is here
			g.log(most)
			g.answer(all, most)
			return slices.Concat(numbered("old", 0, 20), numbered("new", 0, 10), numbered("more", 0, 6))
		}},
		{"a flood", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.mustShow("joined")
			g.follow(0, 10)
			g.flood(10, 200)
			g.mustShow("the flood")
			g.answer(all, most)
			g.follow(200, 210)
			return numbered("line", 0, 206)
		}},
		{"a flood, and more before it is quiet", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.flood(0, 100)
			g.show()
			g.follow(100, 110)
			g.mustShow("bytes again")
			g.flood(110, 300)
			g.mustShow("the second flood")
			g.answer(all, most)
			return numbered("line", 0, 296)
		}},
		{"a flood that is too long", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.show()
			g.follow(0, 10)
			g.flood(10, 500)
			g.answer(100, most)
			return slices.Concat(numbered("line", 0, 6), []string{"-- 390 lines left out --"}, numbered("line", 396, 496))
		}},
		{"few bytes are allowed", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.flood(0, 500)
			g.answer(all, 1500)
			got := g.scrollback()
			n := len(got) - len(own) - 1
			if n < 20 || n > 200 || !strings.HasSuffix(got[len(own)], " lines left out --") {
				t.Errorf("%d rows in 1500 bytes, after %q", n, got[len(own)])
			}
			return append([]string{fmt.Sprintf("-- %d lines left out --", 496-n)}, numbered("line", 496-n, 496)...)
		}},
		{"the host does not answer", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.flood(0, 500)
			g.show()
			g.follow(500, 520)
			g.mustShow("waiting")
			for range missedTries {
				g.now = g.now.Add(missedPatience)
				g.show()
			}
			g.mustShow("given up")
			return append([]string{"-- 496 lines left out --"}, numbered("line", 496, 516)...)
		}},
		{"a notice over it", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.p.Notice("look")
			g.follow(0, 20)
			g.show()
			g.follow(20, 30)
			g.show()
			g.now = g.now.Add(5 * time.Second)
			g.mustShow("no notice")
			return numbered("line", 0, 26)
		}},
		{"a terminal that is too slow", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.follow(0, 10)
			g.show()
			long := strings.Repeat("\x1b[m", maxUnwritten/3)
			g.printLines("line", 10, 50)
			g.print(long)
			for g.pos < g.host.Head() {
				g.log(32 << 10) // and nothing is written meanwhile
			}
			g.mustShow("slow")
			g.now = g.now.Add(time.Second)
			g.answer(all, most)
			return numbered("line", 0, 46)
		}},
		{"in a full-screen program", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.printLines("line", 0, 50)
			g.print("\x1b[?1049h\x1b[Hfull")
			g.frame(g.marks[0])
			g.mustShow("full-screen")
			g.answer(all, most)
			g.print("\x1b[?1049l")
			g.log(most)
			g.mustShow("and back")
			return numbered("line", 0, 46)
		}},
		{"a window of another size for a while", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.follow(0, 10)
			g.show()
			g.resizeGuest(Size{50, 5})
			g.mustShow("wider")
			g.follow(10, 30)
			g.mustShow("more, wider")
			g.resizeGuest(Size{40, 5})
			g.mustShow("as it was")
			g.now = g.now.Add(time.Second)
			g.answer(all, most)
			return numbered("line", 0, 26)
		}},
		{"leaving before it is quiet", func(t *testing.T, g *pairing) []string {
			g.frame(nil)
			g.flood(0, 100)
			g.show()
			g.follow(100, 110)
			g.mustShow("the last words")
			if err := g.p.leave(); err != nil {
				t.Fatal(err)
			}
			// The line below them needs room.
			return append([]string{"-- 96 lines left out --"}, numbered("line", 96, 107)...)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newMissing(t)
			want := tc.run(t, g)
			if !strings.HasPrefix(tc.name, "leaving") {
				g.mustShow("in the end")
			}
			g.mustHave(append(slices.Clone(own), want...)...)
		})
	}
}

// TestMissedQuiet has a program that floods again and again: the guest's terminal is
// not filled each time.
func TestMissedQuiet(t *testing.T) {
	g := newMissing(t)
	g.frame(nil)
	g.show()
	asked := 0
	for i := range 200 {
		g.flood(100*i, 100*i+100)
		for range 7 {
			g.now = g.now.Add(100 * time.Millisecond)
			buf, _ := g.p.next(nil, g.now)
			_, _ = g.tty.Write(buf)
		}
		select {
		case <-g.p.Missed():
			asked++
		default:
		}
	}
	if asked > 8 {
		t.Errorf("the host was asked %d times in %v", asked, 140*time.Second)
	}
	g.now = g.now.Add(missedQuietMax)
	g.answer(all, most)
	g.mustShow("in the end")
	if got := g.scrollback(); got[len(got)-1] != "line 19995" {
		t.Errorf("the last row is %q", got[len(got)-1])
	}
}

// TestMissedAtRandom loses and gets rows in all ways at once.
func TestMissedAtRandom(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := newMissing(t)
		n := 0
		g.frame(nil)
		for range 60 {
			switch rng.IntN(12) {
			case 0, 1, 2, 3:
				k := rng.IntN(12)
				g.printLines("line", n, n+k)
				n += k
			case 4, 5:
				g.log(rng.IntN(300))
			case 6:
				g.frame(g.marks[max(0, len(g.marks)-1-rng.IntN(3))])
			case 7:
				g.p.Notice("look")
			case 8:
				g.p.Repaint()
			case 9:
				g.now = g.now.Add(time.Duration(rng.IntN(2000)) * time.Millisecond)
				g.answer(all, most)
			default:
				g.show()
				g.reply(all, most)
			}
		}
		g.log(most)
		for range 5 {
			g.now = g.now.Add(10 * time.Second)
			g.answer(all, most)
		}
		g.mustShow(fmt.Sprint("seed ", seed))
		want := slices.Clone(own)
		want = append(want, numbered("line", 0, max(n-4, 0))...)
		got := g.scrollback()
		if len(want) > len(own) || len(got) > len(own) {
			if !slices.Equal(got, want) {
				t.Logf("seed %d", seed)
			}
			g.mustHave(want...)
		}
	}
}

// TestMissedIsClean has a host that sends more than rows.
func TestMissedIsClean(t *testing.T) {
	g := newMissing(t)
	asked := 0
	g.tty.screen = screen.New(40, 5, screen.Options{Reply: func([]byte) { asked++ }})
	g.printLines("old", 0, 20)
	g.frame(nil)
	g.show()
	p := appendMissed(nil, g.host.settle().Snapshot, <-g.p.Missed(), 100, most)
	p = slices.Concat(p[:missedHeader], []byte("\x1b[6n\x1b[c\x1b]11;?\a"), p[missedHeader:], []byte("\x1bP$qm"))
	if err := g.p.Scrollback(p); err != nil {
		t.Fatal(err)
	}
	g.mustShow("with scrollback")
	if asked != 0 {
		t.Errorf("the guest's terminal was asked %d times", asked)
	}
	for _, bad := range [][]byte{nil, p[:10], append([]byte{2}, p[1:]...), bytes.Repeat([]byte{1}, 16)} {
		if err := g.p.Scrollback(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
