package screen_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// TestDiffIsSmall holds diffs of what happens all the time to what they need.
func TestDiffIsSmall(t *testing.T) {
	for _, c := range []struct{ name, before, change, diff string }{
		{"nothing", "$ ", "", ""},
		{"nothing, by way of much", "$ ", "x\b \b\x1b[1m\x1b[m", "\x00"},
		{"a key is echoed", "$ l", "s", "s"},
		{"a key is erased", "$ ls", "\b \b", "\b\x1b[K\x00"},
		{"a short command", "$ ls", "\r\na b\r\n$ ", "\r\na b\r\n$ "},
		{"the cursor moves", "$ ls", "\x1b[5;9H", "\x1b[5;9H"},
		{"one cell changes", "abcdefgh\r", "\x1b[1;5HX\r", "abcdX\r"},
		{"a colour", "$ ", "\x1b[1;31mx\x1b[m", "\x1b[1;31mx\x1b[m"},
		{"colours that follow each other", "", "\x1b[31ma\x1b[0;1;31mb\x1b[0;32mc\x1b[m", "\x1b[31ma\x1b[1mb\x1b[;32mc\x1b[m"},
		{"a rule", "", "\x1b[7m" + strings.Repeat("=", 30) + "\x1b[m\r", "\x1b[7m=\x1b[29b\r\x1b[m"},
		{"a wide erasure", strings.Repeat("x", 40) + "\r", "\x1b[1;5H\x1b[20X\r", "xxxx\x1b[20X\r"},
		{"a title", "$ ", "\x1b]0;t\a", "\x1b]0;t\x1b\\"},
		{"a mode", "$ ", "\x1b[?2004h", "\x1b[?2004h"},
		{"keyboard flags", "$ ", "\x1b[>1u", "\x1b[>1u"},
		{"the rest is blank", "a\r\nb\r\nc\r\nd\r\ne\x1b[H", "\x1b[2J", "\x1b[J"},
		{"a synchronized update is open", "$ ", "\x1b[?2026h", "\x1b[?2026h"},
		{"the last line wraps", "0123456789012345678901234567890123456789", "x", "x"},
	} {
		s := screen.New(40, 6, screen.Options{})
		s.Write([]byte(c.before))
		a := s.Snapshot()
		s.Write([]byte(c.change))
		b := s.Snapshot()
		diff := screen.AppendDiff(nil, a, b)
		// A NUL says that no character may be repeated; whether it is needed is
		// another test's matter.
		if strings.TrimRight(string(diff), "\x00") != strings.TrimRight(c.diff, "\x00") {
			t.Errorf("%s: %q, not %q", c.name, diff, c.diff)
		}
		m := screen.New(40, 6, screen.Options{})
		m.Write([]byte(c.before))
		if got := apply(m, diff); !got.Equal(b) {
			t.Errorf("%s: %s", c.name, firstDifference(b, got))
		}
	}
}

// TestDiffScrolls looks at how much a diff takes when lines move.
func TestDiffScrolls(t *testing.T) {
	lines := func(from, n int) (out string) {
		for i := range n {
			out += fmt.Sprintf("\r\nthis is line %d of a long text that goes on", from+i)
		}
		return out
	}
	for _, c := range []struct {
		name, before, change string
		most                 int
	}{
		{"a log", lines(0, 30), lines(30, 2), 150},
		{"a log above a status line", lines(0, 30) + "\x1b[1;19r\x1b[20;1Hstatus\x1b[19;1H", lines(30, 2), 170},
		{"a pager forward", "\x1b[?1049h" + lines(0, 19), "\x1b[20;1H" + lines(19, 3), 220},
		{"a pager back", "\x1b[?1049h" + lines(0, 19), "\x1b[H\x1bMone line more", 60},
		{"a line deleted in an editor", "\x1b[?1049h" + lines(0, 19), "\x1b[6;1H\x1b[M", 80},
		{"a line inserted in an editor", "\x1b[?1049h" + lines(0, 19), "\x1b[6;1H\x1b[Lnew", 80},
	} {
		s := screen.New(80, 20, screen.Options{})
		s.Write([]byte(c.before))
		a := s.Snapshot()
		s.Write([]byte(c.change))
		b := s.Snapshot()
		diff := screen.AppendDiff(nil, a, b)
		if len(diff) > c.most {
			t.Errorf("%s takes %d bytes: %q", c.name, len(diff), diff)
		}
		m := screen.New(80, 20, screen.Options{})
		m.Write([]byte(c.before))
		if got := apply(m, diff); !got.Equal(b) {
			t.Errorf("%s: %s", c.name, firstDifference(b, got))
		}
	}
}

// TestDiffFillsScrollback follows a log with diffs; what scrolls off must be in
// the scrollback of the terminal that follows, too.
func TestDiffFillsScrollback(t *testing.T) {
	host := screen.New(30, 8, screen.Options{})
	guest := screen.New(30, 8, screen.Options{})
	var last *screen.Snapshot
	for i := range 120 {
		fmt.Fprintf(host, "\x1b[3%dmline %d\x1b[m %s\r\n", i%8, i, strings.Repeat("word ", i%9))
		if i%3 != 2 {
			continue
		}
		n := host.Snapshot()
		guest.Write(screen.AppendDiff(nil, last, n))
		last = n
	}
	want, got := historyText(host.Snapshot()), historyText(guest.Snapshot())
	if got != want {
		t.Errorf("the guest's history is\n%s\nnot\n%s", got, want)
	}
	if n := guest.Snapshot().ScrollbackLen(); n < 100 {
		t.Errorf("only %d rows", n)
	}
}

// TestScrollbackTo gives the scrollback to a fresh terminal, then the screen.
func TestScrollbackTo(t *testing.T) {
	host := screen.New(30, 8, screen.Options{})
	for i := range 60 {
		fmt.Fprintf(host, "\x1b[4%dmline %d\x1b[m %s漢字\r\n", i%8, i, strings.Repeat("word ", i%9))
	}
	host.Write([]byte("\x1b[?1049hon the other screen\x1b[1;3r\x1b[?6h"))
	n := host.Snapshot()
	guest := screen.New(30, 8, screen.Options{})
	guest.Write([]byte("before" + strings.Repeat("\r\n", 8) + "wiped\x1b[?1049h\x1b[2;4r\x1b[?6h\x1b(0"))
	guest.Write(n.AppendScrollback(nil, 1<<20))
	guest.Write(screen.AppendDiff(nil, nil, n))
	g := guest.Snapshot()
	if !g.Equal(n) {
		t.Errorf("the screen: %s", firstDifference(n, g))
	}
	if got, want := historyText(g), "before\n"+historyText(n); got != want {
		t.Errorf("the guest's history is\n%s\nnot\n%s", got, want)
	}
	// Few rows, which do not fill the screen.
	before := g.ScrollbackTotal()
	guest.Write(n.AppendScrollback(nil, 3))
	if got := guest.Snapshot().ScrollbackTotal() - before; got != 3 {
		t.Errorf("%d rows more instead of three", got)
	}
	// A part of it.
	if text := string(n.AppendScrollback(nil, 3)); strings.Count(text, "line ") > 3 {
		t.Errorf("three rows are %q", text)
	}
	if b := n.AppendScrollback(nil, 0); len(b) != 0 {
		t.Errorf("no rows are %q", b)
	}
}

// TestDiffInPlace scrolls far, and the terminal's scrollback has nothing of it.
func TestDiffInPlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	host := screen.New(40, 10, screen.Options{})
	guest := screen.New(40, 10, screen.Options{})
	var last *screen.Snapshot
	for i := range 200 {
		for range rng.IntN(15) {
			fmt.Fprintf(host, "line %d of %d\r\n", i, rng.IntN(100))
		}
		if rng.IntN(10) == 0 {
			host.Write([]byte("\x1b[H\x1b[J"))
		}
		n := host.Snapshot()
		guest.Write(screen.AppendDiffInPlace(nil, last, n))
		g := guest.Snapshot()
		if !g.Equal(n) {
			t.Fatal(firstDifference(n, g))
		}
		if g.ScrollbackTotal() != 0 {
			t.Fatalf("after %d diffs %d rows have left", i+1, g.ScrollbackTotal())
		}
		last = n
	}
}
