package screen_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// TestSnapshotIsImmutable lets readers look at snapshots while the screen goes
// on; the race detector has its say, too.
func TestSnapshotIsImmutable(t *testing.T) {
	s := screen.New(40, 10, screen.Options{ScrollbackBytes: 1 << 14})
	var wg sync.WaitGroup
	for i := range 200 {
		for k := range 5 {
			fmt.Fprintf(s, "\x1b[3%dmline %d é漢e\u0301 \x1b]8;;http://x/%d\x1b\\link\x1b]8;;\x1b\\\r\n", k, i, i)
		}
		if i%7 == 0 {
			fmt.Fprintf(s, "\x1b[?1049h\x1b[Htitle\x1b]2;%d\a\x1b[22t\x1b]4;%d;#fff\a", i, i)
		} else if i%7 == 3 {
			fmt.Fprint(s, "\x1b[?1049l\x1b[3;7r\x1b[2M\x1b[r")
		}
		n := s.Snapshot()
		if s.Snapshot() != n {
			t.Fatal("without a write between them two snapshots are not the same")
		}
		full := screen.AppendDiff(nil, nil, n)
		back := n.AppendScrollback(nil, 100)
		wg.Go(func() {
			for range 3 {
				if !bytes.Equal(screen.AppendDiff(nil, nil, n), full) || !bytes.Equal(n.AppendScrollback(nil, 100), back) {
					t.Error("a snapshot has changed")
				}
			}
		})
		if i%50 == 20 {
			s.Resize(30+i%20, 8+i%5)
		}
	}
	wg.Wait()
}

func TestRowsAreShared(t *testing.T) {
	s := screen.New(40, 10, screen.Options{})
	s.Write([]byte("one\r\ntwo\r\nthree"))
	a := s.Snapshot()
	s.Write([]byte("\x1b[2;1HX"))
	b := s.Snapshot()
	for y, same := range []bool{true, false, true, true} {
		if b.SameRow(y, a, y) != same {
			t.Errorf("row %d: the same is %v", y, !same)
		}
	}
	if got := string(a.AppendRow(nil, 1)); got != "two" {
		t.Errorf("the snapshot has %q", got)
	}
	s.Write([]byte("\x1b[10;1H\n"))
	c := s.Snapshot()
	if !c.SameRow(0, b, 1) || c.ScrollbackTotal() != 1 {
		t.Error("scrolling has copied rows")
	}
}

func TestGeneration(t *testing.T) {
	s := screen.New(10, 2, screen.Options{})
	g := s.Generation()
	if s.Write(nil); s.Generation() != g {
		t.Error("nothing written, and another generation")
	}
	for _, change := range []func(){
		func() { s.Write([]byte("x")) },
		func() { s.Write([]byte("\x1b[")) },
		func() { s.Resize(11, 2) },
		func() { s.Pass(nil, []byte("y")) },
	} {
		change()
		if s.Generation() == g {
			t.Error("a change, and the same generation")
		}
		g = s.Generation()
		if n := s.Snapshot(); n.Generation() != g {
			t.Error("the snapshot has another generation")
		}
	}
	if s.Resize(11, 2); s.Generation() != g {
		t.Error("the same size, and another generation")
	}
}

// TestPending cuts sequences at every byte.
func TestPending(t *testing.T) {
	for _, c := range []struct{ in, pending string }{
		{"", ""},
		{"abc", ""},
		{"é\xe6\xbc", "\xe6\xbc"},
		{"\x1b", "\x1b"},
		{"\x1b(", "\x1b("},
		{"\x1b[", "\x1b["},
		{"\x1b[?25", "\x1b[?25"},
		{"\x1b[1;\r38:2::1", "\x1b[1;38:2::1"},
		{"\x1b[3 ", "\x1b[3 "},
		{"\x1b[1;31m\x1b", "\x1b"},
		{"\x1b]0;ti", "\x1b]0;ti"},
		{"\x1b]0;ti\x1b", "\x1b"},
		{"\x1bP1$qr", "\x1bP1$qr"},
		{"\x1b_Gf=1;x", "\x1b_Gf=1;x"},
		{"\x1b^anything", "\x1bX"},
		{"\x1bN", "\x1bN"},
	} {
		s := screen.New(10, 2, screen.Options{})
		s.Write([]byte(c.in))
		if got := string(s.Snapshot().Pending()); got != c.pending {
			t.Errorf("%q leaves %q pending, not %q", c.in, got, c.pending)
		}
		if s.InGround() != (c.pending == "") {
			t.Errorf("%q: in ground state is %v", c.in, s.InGround())
		}
	}
}

// TestCutAnywhere takes a snapshot at every byte of a stream full of sequences,
// and lets the rest follow.
func TestCutAnywhere(t *testing.T) {
	stream := []byte("\x1b[31mred\x1b[0m \x1b]0;title\x07e\u0301漢\x1b(0lqk\x1b(B\x1b[2;4r\x1b[?6h\x1b[2;2Hx\x1b[3b" +
		"\x1b[4h<\x1b[4l\x1bP$qm\x1b\\\x1b]8;id=1;http://a/\x1b\\link\x1b]8;;\x07\x1b7\x1b[?1049h\x1b[44mfull\x1b[K\x1b[>1u" +
		"\x1b[?1049l\x1b[?2026hsync\x1b[?2026l0123456789012345678901234567890123456789\x1b[1;5\rmx\x1b_Gf=1;AA\x1b\\\x1bNq\x1b[38:2::1:2:3mend\xe6\xbc\xa2")
	opts := screen.Options{}
	whole := screen.New(20, 6, opts)
	whole.Write(stream)
	want := whole.Snapshot()
	for cut := range len(stream) + 1 {
		s := screen.New(20, 6, opts)
		s.Write(stream[:cut])
		n := s.Snapshot()
		m := screen.New(20, 6, opts)
		m.Write(screen.AppendDiff(nil, nil, n))
		if got := m.Snapshot(); !got.Equal(n) {
			t.Fatalf("redrawn at byte %d (after %q): %s", cut, stream[max(0, cut-12):cut], firstDifference(n, got))
		}
		m.Write(stream[cut:])
		if got := m.Snapshot(); !got.Equal(want) {
			t.Fatalf("cut at byte %d (after %q): %s", cut, stream[max(0, cut-12):cut], firstDifference(want, got))
		}
	}
}
