package screen_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

func TestCanvasPart(t *testing.T) {
	s := screen.New(10, 4, screen.Options{})
	s.Write([]byte("0123456789\r\n漢字漢字漢\r\n\x1b[31mred\x1b[m\x1b[4;3H\x1b[?1000h\x1b]2;t\a\x1b[>1u\x1b[2;3r\x1b[?6h"))
	base := s.Snapshot()
	c := screen.NewCanvas(base, 6, 5)
	c.Draw(1, 0, 1, 0, 4, 3)
	c.Fill(5, 0, 1, 3, '│', screen.Style{Attr: screen.AttrDim})
	c.Fill(0, 3, 6, 1, '─', screen.Style{})
	c.Text(0, 4, 6, "a\x1b[1m漢é\u0301漢漢", screen.Style{Attr: screen.AttrReverse})
	c.Cursor(2, 2, true)
	n := c.Snapshot()
	if got, want := screenText(n), " 1234│\n  字 │\n ed  │\n──────\na[1m漢"; got != want {
		t.Errorf("the picture is\n%s\nnot\n%s", got, want)
	}
	if got := n.Cell(1, 2).Fg; got != screen.Indexed(1) {
		t.Errorf("the colour is %x", got)
	}
	if !n.Alternate() || !n.Mode(screen.ModeMouseNormal) || n.Title() != "t" || n.Mode(screen.ModeOrigin) {
		t.Error("the picture's state is not what it should be")
	}
	if cur := n.Cursor(); cur.X != 2 || cur.Y != 2 {
		t.Errorf("the cursor is at %d,%d", cur.X, cur.Y)
	}
	m := screen.New(6, 5, screen.Options{})
	m.Write(screen.AppendDiff(nil, nil, n))
	if got := m.Snapshot(); !got.Equal(n) {
		t.Errorf("painted: %s", firstDifference(n, got))
	}
	if why := m.CheckInvariants(); why != "" {
		t.Error(why)
	}
}

// TestCanvasOver puts a notice over every kind of screen and takes it away.
func TestCanvasOver(t *testing.T) {
	for seed := range 300 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 3))
		data := make([]byte, 1+rnd.IntN(100))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		data[0] |= 1
		s := screen.New(2+rnd.IntN(30), 1+rnd.IntN(8), screen.Options{})
		out := script(data)
		s.Write(out)
		s.Write([]byte{0x18})
		base := s.Snapshot()
		if len(base.Pending()) > 0 || base.Mode(screen.ModeSynchronized) {
			continue // not the moment for a notice
		}
		cols, rows := s.Size()
		c := screen.NewCanvas(base, cols, rows)
		y := rnd.IntN(rows)
		c.Text(rnd.IntN(cols), y, cols, "bob 漢字 has joined", screen.Style{Attr: screen.AttrReverse})
		over := c.Snapshot()
		s.Write(screen.AppendDiff(nil, base, over))
		if got := s.Snapshot(); !got.Equal(over) {
			t.Fatalf("put over: %s\n%q", firstDifference(over, got), out)
		}
		s.Write(screen.AppendDiff(nil, over, base))
		if got := s.Snapshot(); !got.Equal(base) {
			t.Fatalf("taken away: %s\n%q", firstDifference(base, got), out)
		}
	}
}

// TestCanvasAnySize draws parts of random screens at random places.
func TestCanvasAnySize(t *testing.T) {
	var last *screen.Snapshot
	m := screen.New(12, 5, screen.Options{})
	for seed := range 500 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 4))
		data := make([]byte, 1+rnd.IntN(100))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		s := screen.New(1+rnd.IntN(30), 1+rnd.IntN(8), screen.Options{})
		s.Write(script(data))
		c := screen.NewCanvas(s.Snapshot(), 12, 5)
		for range 3 {
			c.Draw(rnd.IntN(16)-2, rnd.IntN(8)-1, rnd.IntN(30)-2, rnd.IntN(8)-1, rnd.IntN(20), rnd.IntN(9))
			c.Fill(rnd.IntN(16)-2, rnd.IntN(8)-1, rnd.IntN(9)-1, rnd.IntN(5), '·', screen.Style{})
			c.Text(rnd.IntN(16)-2, rnd.IntN(8)-1, rnd.IntN(20), strings.Repeat("漢x", 9), screen.Style{})
		}
		c.Cursor(rnd.IntN(16)-2, rnd.IntN(8)-1, rnd.IntN(2) == 0)
		n := c.Snapshot()
		m.Write(screen.AppendDiff(nil, last, n))
		if got := m.Snapshot(); !got.Equal(n) {
			t.Fatalf("painted: %s", firstDifference(n, got))
		}
		if why := m.CheckInvariants(); why != "" {
			t.Fatal(why)
		}
		last = n
	}
}

func TestTextWidth(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "漢字": 4, "e\u0301": 1, "a\x1b\n\u009bb": 2, "👩\u200d👩": 4} {
		if got := screen.TextWidth(text); got != want {
			t.Errorf("%q takes %d columns, not %d", text, got, want)
		}
	}
}
