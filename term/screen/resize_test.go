package screen_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

func TestResize(t *testing.T) {
	type size struct{ cols, rows int }
	for _, c := range []struct {
		name, in string
		sizes    []size
		want     string
		cx, cy   int
	}{
		{"wider joins", "0123456789abcde", []size{{15, 4}}, "0123456789abcde", 14, 0},
		{"narrower wraps", "0123456789", []size{{4, 4}}, "0123|4567|89", 2, 2},
		{"there and back", "0123456789abcde\r\nxyz", []size{{4, 4}, {10, 4}}, "0123456789|abcde|xyz", 3, 2},
		{"only real wraps are joined", "0123456789\r\nabc", []size{{20, 4}}, "0123456789|abc", 3, 1},
		{"wide characters are not cut", "漢字漢字漢", []size{{5, 4}}, "漢字|漢字|漢", 2, 2},
		{"the gap before a wide one is no text", "012345678漢", []size{{20, 4}}, "012345678漢", 11, 0},
		{"blanks at the end are no text", "ab        \r\ncd", []size{{5, 4}}, "ab|cd", 2, 1},
		{"rows below the cursor go first", "a\r\nb\x1b[4;1Hd\x1b[2;2H", []size{{10, 2}}, "a|b", 1, 1},
		{"then rows at the top", "a\r\nb\r\nc\r\nd", []size{{10, 2}}, "c|d", 1, 1},
		{"and they come back", "a\r\nb\r\nc\r\nd", []size{{10, 2}, {10, 4}}, "a|b|c|d", 1, 3},
		{"cleared rows do not", "a\r\nb\r\nc\r\nd\r\ne\x1b[2J\x1b[H$", []size{{10, 6}}, "$", 1, 0},
		{"one column", "ab漢c", []size{{1, 3}}, "a|b|c", 0, 2},
		{"the alternate screen is cut", "\x1b[?1049h0123456789\r\nab", []size{{5, 4}}, "01234|ab", 2, 1},
		{"and extended", "\x1b[?1049h0123456789\r\nab", []size{{5, 4}, {10, 5}}, "01234|ab", 2, 1},
		{"a wide character is cut with it", "\x1b[?1049h0123漢", []size{{5, 4}}, "0123", 4, 0},
		{"the cursor's row stays on it", "\x1b[?1049ha\r\nb\r\nc\r\nd", []size{{10, 2}}, "c|d", 1, 1},
		{"the main screen behind it is wrapped", "0123456789ab\x1b[?1049hx", []size{{6, 4}}, "|  x", 3, 1},
		{"margins are reset", "\x1b[2;3r", []size{{10, 5}}, "", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := screen.New(10, 4, screen.Options{})
			s.Write([]byte(c.in))
			for _, z := range c.sizes {
				s.Resize(z.cols, z.rows)
				if why := s.CheckInvariants(); why != "" {
					t.Fatal(why)
				}
			}
			n := s.Snapshot()
			want := strings.TrimRight(strings.ReplaceAll(c.want, "|", "\n"), "\n")
			if got := screenText(n); got != want {
				t.Errorf("%q, %v: shows %q, not %q", c.in, c.sizes, got, want)
			}
			if cur := n.Cursor(); c.cx >= 0 && (cur.X != c.cx || cur.Y != c.cy) {
				t.Errorf("%q, %v: the cursor is at %d,%d, not %d,%d", c.in, c.sizes, cur.X, cur.Y, c.cx, c.cy)
			}
		})
	}
}

func TestResizeBehindAlternate(t *testing.T) {
	s := screen.New(10, 4, screen.Options{})
	s.Write([]byte("0123456789ab\x1b[?1049hx"))
	s.Resize(6, 4)
	s.Write([]byte("\x1b[?1049lc"))
	if got := screenText(s.Snapshot()); got != "012345\n6789ab\nc" {
		t.Errorf("the main screen shows %q", got)
	}
}

// TestResizeKeepsHistory drags the size around and looks whether all lines are
// still there, once and in order.
func TestResizeKeepsHistory(t *testing.T) {
	s := screen.New(20, 6, screen.Options{})
	const lines = 300
	for i := range lines {
		fmt.Fprintf(s, "line %d %s\r\n", i, strings.Repeat("x", i%37))
	}
	for i := range 60 {
		before := s.Snapshot()
		s.Resize(3+(i*7)%40, 1+(i*5)%17)
		if before.ScrollbackLen() == 0 {
			t.Fatal("no scrollback")
		}
	}
	s.Resize(20, 6)
	n := s.Snapshot()
	got := strings.Fields(historyText(n))
	want := strings.Fields(func() (all string) {
		for i := range lines {
			all += fmt.Sprintf("line %d %s ", i, strings.Repeat("x", i%37))
		}
		return all
	}())
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("word %d of %d is not %q (%d words): %q", i, len(want), want[i], len(got), got[max(0, i-8):min(len(got), i+12)])
		}
	}
}

// historyText is all text, scrollback and screen, in lines.
func historyText(n *screen.Snapshot) string {
	var b []byte
	for i := range n.ScrollbackLen() {
		b = n.AppendScrollbackRow(b, i)
	}
	_, rows := n.Size()
	for y := range rows {
		b = n.AppendRow(b, y)
		if !n.Wrapped(y) {
			b = append(b, '\n')
		}
	}
	return strings.Join(trimRows(strings.Split(string(b), "\n")), "\n")
}
