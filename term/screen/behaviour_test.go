package screen_test

import (
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// TestBehaviour holds what xterm does where the recordings say little: margins
// on all sides, protection, rectangles, character sets and the like. Screens
// are 10 by 6; a cursor of -1 is not looked at.
func TestBehaviour(t *testing.T) {
	const fill = "\x1b[H0000000000\r\n1111111111\r\n2222222222\r\n3333333333\r\n4444444444\r\n5555555555"
	for _, c := range []struct {
		name, in, want string
		cx, cy         int
	}{
		// Left and right margins (DECLRMM).
		{"wrap between margins", "\x1b[?69h\x1b[3;6s\x1b[1;3Habcdef", "  abcd|  ef", 4, 1},
		{"no wrap at the margin from outside", "\x1b[?69h\x1b[3;6s\x1b[1;8Habcde", "       abc|  de", 4, 1},
		{"carriage return to the margin", "\x1b[?69h\x1b[3;6s\x1b[1;5Hx\ry", "  y x", 3, 0},
		{"carriage return from left of it", "\x1b[?69h\x1b[3;6s\x1b[1;2H\rx", "x", 1, 0},
		{"scroll between margins", fill + "\x1b[?69h\x1b[3;6s\x1b[2;4r\x1b[S", "0000000000|1122221111|2233332222|33    3333|4444444444|5555555555", 0, 0},
		{"scroll down between margins", fill + "\x1b[?69h\x1b[3;6s\x1b[2;4r\x1b[T", "0000000000|11    1111|2211112222|3322223333|4444444444|5555555555", 0, 0},
		{"insert line between margins", fill + "\x1b[?69h\x1b[3;6s\x1b[2;4H\x1b[L", "0000000000|11    1111|2211112222|3322223333|4433334444|5544445555", 2, 1},
		{"insert line outside margins", fill + "\x1b[?69h\x1b[3;6s\x1b[2;8H\x1b[L", "0000000000|1111111111|2222222222|3333333333|4444444444|5555555555", 7, 1},
		{"delete characters between margins", "0123456789\x1b[?69h\x1b[3;6s\x1b[1;4H\x1b[P", "01245 6789", 3, 0},
		{"insert characters between margins", "0123456789\x1b[?69h\x1b[3;6s\x1b[1;4H\x1b[@", "012 346789", 3, 0},
		{"cursor stops at the margin", "\x1b[?69h\x1b[3;6s\x1b[1;4H\x1b[9CX\x1b[9DY", "  Y  X", 3, 0},
		{"margins reset", "\x1b[?69h\x1b[3;6s\x1b[?69labcdefghijk", "abcdefghij|k", 1, 1},
		{"index outside margins does not scroll", fill + "\x1b[?69h\x1b[3;6s\x1b[6;8H\n", "0000000000|1111111111|2222222222|3333333333|4444444444|5555555555", 7, 5},
		{"origin mode with margins", "\x1b[?69h\x1b[3;6s\x1b[2;4r\x1b[?6h\x1b[2;2HX\x1b[9;9HY", "||   X|     Y", 5, 3},
		// Columns.
		{"insert columns", fill + "\x1b[2;4r\x1b[3;3H\x1b[2'}", "0000000000|11  111111|22  222222|33  333333|4444444444|5555555555", 2, 2},
		{"delete columns", "abcdef\x1b[1;2H\x1b[2'~", "adef", 1, 0},
		{"scroll left", "abcdef\x1b[1;2H\x1b[2 @", "cdef", 1, 0},
		{"scroll right", "abcdef\x1b[1;2H\x1b[2 A", "  abcdef", 1, 0},
		{"scroll left from outside the margins", "abcdef\x1b[?69h\x1b[3;6s\x1b[1;1H\x1b[2 @", "abcdef", 0, 0},
		{"scroll right from outside the margins", "abcdef\x1b[?69h\x1b[3;6s\x1b[1;8H\x1b[2 A", "abcdef", 7, 0},
		{"forward index keeps a pending wrap", "0123456789\x1b9X", "123456789|X", 1, 1},
		{"back index", "abc\r\x1b6", " abc", 0, 0},
		{"forward index", "abc\x1b[1;10Hz\x1b[1;10H\x1b9", "bc      z", 9, 0},
		// Protection (DECSCA).
		{"selective erase of a line", "ab\x1b[1\"qcd\x1b[2\"qef\x1b[?2K", "  cd", 6, 0},
		{"selective erase of the display", "ab\r\n\x1b[1\"qcd\x1b[\"q\x1b[?2J", "|cd", 2, 1},
		{"plain erase takes the protected", "\x1b[1\"qcd\x1b[2K", "", 2, 0},
		{"SGR 0 leaves protection", "\x1b[1\"qa\x1b[mb\x1b[?2K", "ab", 2, 0},
		// Rectangles.
		{"fill", "\x1b[88;2;3;4;5$x", "|  XXX|  XXX|  XXX", 0, 0},
		{"erase", fill + "\x1b[2;3;4;5$z", "0000000000|11   11111|22   22222|33   33333|4444444444|5555555555", -1, 0},
		{"selective erase", "ab\x1b[1\"qcd\x1b[1;1;1;9${", "  cd", 4, 0},
		{"copy", "abc\r\ndef\x1b[1;1;2;2;1;2;3;1$v", "abc|deab|  de", 3, 1},
		{"copy over itself", "abcdef\x1b[1;1;1;5;1;1;2;1$v", "aabcde", 6, 0},
		// Wide characters.
		{"wide at the edge wraps", "123456789漢", "123456789|漢", 2, 1},
		{"wide at the edge without autowrap", "\x1b[?7l123456789漢x", "123456789x", 9, 0},
		{"half overwritten from the left", "漢字\x1b[1;1Hx", "x 字", 1, 0},
		{"half overwritten from the right", "漢字\x1b[1;4Hx", "漢 x", 4, 0},
		{"half deleted", "漢字\x1b[1;2H\x1b[P", " 字", 1, 0},
		{"half erased", "漢字\x1b[1;2H\x1b[X", "  字", 1, 0},
		{"inserted in the middle", "漢字\x1b[1;2H\x1b[@", "   字", 1, 0},
		{"pushed over the edge", "12345678漢\x1b[1;1H\x1b[@", " 12345678", 0, 0},
		{"wide inserted", "abcdefghij\x1b[1;2H\x1b[4h漢", "a漢bcdefgh", 3, 0},
		{"combining after a wide one", "漢\u0301x", "漢\u0301x", 3, 0},
		{"combining in the last column", "123456789e\u0301x", "123456789e\u0301|x", 1, 1},
		{"combining with nothing before", "\u0301x", "x", 1, 0},
		// Character sets.
		{"locking shifts", "\x1b*0\x1bnq\x0fq", "─q", 2, 0},
		{"single shift", "\x1b+0\x1bOqq", "─q", 2, 0},
		{"UK", "\x1b(A#\x1b(B#", "£#", 2, 0},
		{"German", "\x1b(K[]{|}~\x1b(B", "ÄÜäöüß", 6, 0},
		{"saved and restored", "\x1b(0\x1b7\x1b(Bq\x1b8q", "─", 1, 0},
		{"graphics underscore is blank", "\x1b(0a_a", "▒ ▒", 3, 0},
		{"UTF-8 is not mapped", "\x1b(0é", "é", 1, 0},
		// Tabs.
		{"default stops", "\tx", "        x", 9, 0},
		{"cleared stops", "\x1b[3g\tx", "         x", 9, 0},
		{"back over a stop", "\x1b[1;9H\x1b[Zx", "x", 1, 0},
		{"two back", "\x1b[3g\x1b[1;3H\x1bH\x1b[1;6H\x1bH\x1b[1;9H\x1b[2Zx", "  x", 3, 0},
		// Wrapping.
		{"reverse wrap", "0123456789ab\x1b[?45h\b\b\bX", "012345678X|ab", 9, 0},
		{"no reverse wrap over a real line end", "ab\r\n\x1b[?45h\bX", "ab|X", 1, 1},
		{"pending is cleared by a move", "0123456789\x1b[DX", "01234567X9", 9, 0},
		{"pending is saved and restored", "0123456789\x1b7\x1b[3;3H\x1b8X", "0123456789|X", 1, 1},
		{"pending survives SGR and modes", "0123456789\x1b[1m\x1b[?25l\x1b)0X", "0123456789|X", 1, 1},
		{"pending survives a soft reset", "0123456789\x1b[!pX", "0123456789|X", 1, 1},
		{"not at a margin that it takes away", "\x1b[?69h\x1b[1;4sabcd\x1b[!pX", "abcX", 4, 0},
		{"pending survives DECLRMM", "0123456789\x1b[?69hX", "0123456789|X", 1, 1},
		{"and its end", "\x1b[?69h0123456789\x1b[?69lX", "0123456789|X", 1, 1},
		{"tab keeps it", "0123456789\tX", "0123456789|X", 1, 1},
		{"line feed takes it back", "0123456789\nX", "0123456789|         X", 9, 1},
		// Scrolling region.
		{"line feed below the region", "\x1b[1;3r\x1b[6;1Ha\nb", "|||||ab", 2, 5},
		{"reverse index above the region", "\x1b[3;5r\x1b[1;1Ha\x1bMb", "ab", 2, 0},
		{"region of one line is refused", "a\x1b[3;3rb", "ab", 2, 0},
		{"region homes the cursor", "a\x1b[2;5rb", "b", 1, 0},
		{"newline mode", "\x1b[20ha\nb", "a|b", 1, 1},
		// Resets.
		{"soft reset", "\x1b[?6h\x1b[2;4r\x1b[4h\x1b[1m\x1b[!pab\x1b[1;1Hc", "c|ab", 1, 0},
		{"full reset on the alternate screen", "ab\x1b[?1049hcd\x1bce", "e", 1, 0},
		{"DECCOLM is not allowed", "ab\x1b[?3hc", "abc", 3, 0},
		{"DECCOLM is allowed", "ab\x1b[?40h\x1b[?3hc", "c", 1, 0},
		{"DECCOLM without clearing", "ab\x1b[?40;95h\x1b[?3hc", "cb", 1, 0},
		// The alternate screen.
		{"cursor is shared by 47", "ab\x1b[?47hc", "  c", 3, 0},
		{"each has its saved cursor", "ab\x1b7\x1b[?47h\x1b[5;5H\x1b7\x1b[?47l\x1b8c", "abc", 3, 0},
		{"the alternate one begins empty", "\x1b[?47hab\x1b[?47l\x1b[?47hc", "  c", 3, 0},
		{"1048 saves", "ab\x1b[?1048h\x1b[4;4H\x1b[?1048lc", "abc", 3, 0},
		// What nobody knows does not leak.
		{"unknown CSI", "\x1b[1;2zx\x1b[?1;2yx\x1b[>1%yx", "xxx", 3, 0},
		{"unknown ESC", "\x1b!x\x1b#zx\x1b yx", "", -1, 0},
		{"too many intermediates", "\x1b[1!!!px", "x", 1, 0},
		{"marker in the wrong place", "\x1b[1?25hx", "x", 1, 0},
		{"OSC of any kind", "\x1b]133;A\ax\x1b]7;file:///\x1b\\x\x1b]x\x1b\\x", "xxx", 3, 0},
		{"window name", "\x1bkname\x1b\\x", "x", 1, 0},
		{"more parameters than fit", "\x1b[" + strings.Repeat("1;", 40) + "31mx", "x", 1, 0},
		{"a parameter beyond all bounds", "\x1b[99999999999999999999Cx", "         x", 9, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := screen.New(10, 6, screen.Options{})
			s.Write([]byte(c.in))
			n := s.Snapshot()
			want := strings.TrimRight(strings.Join(trimRows(strings.Split(c.want, "|")), "\n"), "\n")
			if got := screenText(n); got != want && c.want != "" {
				t.Errorf("%q shows %q, not %q", c.in, got, want)
			}
			if cur := n.Cursor(); c.cx >= 0 && (cur.X != c.cx || cur.Y != c.cy) {
				t.Errorf("after %q the cursor is at %d,%d, not %d,%d", c.in, cur.X, cur.Y, c.cx, c.cy)
			}
		})
	}
}

// TestRendition reads SGR in all its forms.
func TestRendition(t *testing.T) {
	for _, c := range []struct {
		in     string
		fg, bg screen.Color
		attr   screen.Attr
		ul     screen.Color
	}{
		{"\x1b[1;2;3;5;7;8;9;53m", 0, 0, screen.AttrBold | screen.AttrDim | screen.AttrItalic | screen.AttrBlink | screen.AttrReverse | screen.AttrHidden | screen.AttrStrike | screen.AttrOverline, 0},
		{"\x1b[1;2;3;5;7;8;9;53m\x1b[22;23;25;27;28;29;55m", 0, 0, 0, 0},
		{"\x1b[31;42m", screen.Indexed(1), screen.Indexed(2), 0, 0},
		{"\x1b[91;102m", screen.Indexed(9), screen.Indexed(10), 0, 0},
		{"\x1b[38;5;200;48;5;100m", screen.Indexed(200), screen.Indexed(100), 0, 0},
		{"\x1b[38:5:200;48:5:100m", screen.Indexed(200), screen.Indexed(100), 0, 0},
		{"\x1b[38;2;1;2;3;48;2;4;5;6m", screen.RGB(1, 2, 3), screen.RGB(4, 5, 6), 0, 0},
		{"\x1b[38:2:1:2:3;48:2::4:5:6m", screen.RGB(1, 2, 3), screen.RGB(4, 5, 6), 0, 0},
		{"\x1b[38;2;1;2;3;1m", screen.RGB(1, 2, 3), 0, screen.AttrBold, 0},
		{"\x1b[31m\x1b[38;5m", screen.Indexed(1), 0, 0, 0},
		{"\x1b[38;5;300;1m", 0, 0, screen.AttrBold, 0},
		{"\x1b[31;39;42;49m", 0, 0, 0, 0},
		{"\x1b[4m", 0, 0, screen.Attr(0).WithUnderline(screen.UnderlineSingle), 0},
		{"\x1b[4:3m", 0, 0, screen.Attr(0).WithUnderline(screen.UnderlineCurly), 0},
		{"\x1b[4:3m\x1b[4:0m", 0, 0, 0, 0},
		{"\x1b[21m", 0, 0, screen.Attr(0).WithUnderline(screen.UnderlineDouble), 0},
		{"\x1b[4:9m", 0, 0, 0, 0},
		{"\x1b[58:2::1:2:3m", 0, 0, 0, screen.RGB(1, 2, 3)},
		{"\x1b[58;5;7m", 0, 0, 0, screen.Indexed(7)},
		{"\x1b[58;5;7m\x1b[59m", 0, 0, 0, 0},
		{"\x1b[1;31;58;5;7m\x1b[m", 0, 0, 0, 0},
		{"\x1b[1;31m\x1b[#{\x1b[0;4m\x1b[#}", screen.Indexed(1), 0, screen.AttrBold, 0},
	} {
		s := screen.New(10, 2, screen.Options{})
		s.Write([]byte(c.in + "x"))
		n := s.Snapshot()
		got := n.Cell(0, 0)
		if got.Fg != c.fg || got.Bg != c.bg || got.Attr != c.attr || n.UnderlineColor(got) != c.ul {
			t.Errorf("%q: %+v, underline %x", c.in, got, n.UnderlineColor(got))
		}
	}
}

// TestEraseInColour checks background colour erase.
func TestEraseInColour(t *testing.T) {
	for _, in := range []string{"\x1b[K", "\x1b[J", "\x1b[2J", "\x1b[9X", "\x1b[L", "\x1b[9@", "\x1b[T", "\x1b[?1049h"} {
		s := screen.New(9, 2, screen.Options{})
		s.Write([]byte("text\x1b[H\x1b[1;31;42m" + in))
		c := s.Snapshot().Cell(5, 0)
		if want := screen.Indexed(2); c.Bg != want || c.Fg != 0 || c.Attr != 0 || !c.Blank() {
			t.Errorf("%q leaves %+v", in, c)
		}
	}
}

// TestEraseHalf erases the first half of a wide character, with which the other
// goes, and the second, of which the first stays as a blank.
func TestEraseHalf(t *testing.T) {
	for _, c := range []struct {
		in     string
		x      int
		fg, bg screen.Color
	}{
		{"\x1b[1;3H\x1b[1K", 3, 0, screen.Indexed(4)},
		{"\x1b[1;3H\x1b[1J", 3, 0, screen.Indexed(4)},
		{"\x1b[1;3H\x1b[X", 3, 0, screen.Indexed(4)},
		{"\x1b[1;4H\x1b[K", 2, screen.Indexed(2), screen.Indexed(1)},
		{"\x1b[1;3Hx", 3, screen.Indexed(2), screen.Indexed(1)},
	} {
		s := screen.New(9, 2, screen.Options{})
		s.Write([]byte("\x1b[32;41m漢字\x1b[39;44m" + c.in))
		if got := s.Snapshot().Cell(c.x, 0); got.Fg != c.fg || got.Bg != c.bg || s.Snapshot().Cell(c.x, 0).Width() != 1 {
			t.Errorf("%q leaves %+v", c.in, got)
		}
	}
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		in    string
		mode  screen.Mode
		set   bool
		names string
	}{
		{"\x1b[?1000h\x1b[?1002h", screen.ModeMouseNormal, false, "one protocol takes the place of another"},
		{"\x1b[?1000h\x1b[?1002h", screen.ModeMouseButton, true, ""},
		{"\x1b[?1003h\x1b[?1000l", screen.ModeMouseAny, false, "resetting any ends all"},
		{"\x1b[?1006h\x1b[?1015h", screen.ModeMouseSGR, false, ""},
		{"\x1b[?1015h\x1b[?1006h", screen.ModeMouseSGR, true, ""},
		{"\x1b=", screen.ModeKeypad, true, ""},
		{"\x1b=\x1b>", screen.ModeKeypad, false, ""},
		{"\x1b[?66h", screen.ModeKeypad, true, ""},
		{"\x1b[?25l\x1b[?25s\x1b[?25h\x1b[?25r", screen.ModeCursorVisible, false, "XTSAVE and XTRESTORE"},
		{"\x1b[?2004h\x1b[!p", screen.ModeBracketedPaste, true, "soft reset leaves it"},
		{"\x1b[?1h\x1b[!p", screen.ModeCursorKeys, false, "soft reset"},
		{"\x1b[?7l\x1bc", screen.ModeAutowrap, true, "full reset"},
		{"\x1b[?6h", screen.ModeOrigin, true, ""},
		{"\x1b[?1;2004h", screen.ModeBracketedPaste, true, "several at once"},
	} {
		s := screen.New(10, 2, screen.Options{})
		s.Write([]byte(c.in))
		if s.Snapshot().Mode(c.mode) != c.set {
			t.Errorf("%q: mode %d is not %v (%s)", c.in, c.mode, c.set, c.names)
		}
	}
}

func TestTitles(t *testing.T) {
	s := screen.New(10, 2, screen.Options{})
	for _, c := range []struct{ in, title string }{
		{"\x1b]2;one\a", "one"},
		{"\x1b]0;two\x1b\\", "two"},
		{"\x1b[22;0t\x1b]2;three\a", "three"},
		{"\x1b[23;0t", "two"},
		{"\x1b[23;0t", "two"},
		{"\x1b]1;icon\a", "two"},
		{"\x1b]2;é漢\a", "é漢"},
		{"\x1b]2;a\tb\x01c\u0090", "é漢"}, // a C1 control ends it without ado
		{"\x1b\\\x1b]2;\a", ""},
	} {
		s.Write([]byte(c.in))
		if got := s.Snapshot().Title(); got != c.title {
			t.Errorf("after %q the title is %q, not %q", c.in, got, c.title)
		}
	}
	s.Write([]byte("\x1b]2;" + strings.Repeat("é", 5000) + "\a"))
	if n := len(s.Snapshot().Title()); n > 1024 || n < 1020 {
		t.Errorf("a long title has %d bytes", n)
	}
}

func TestHyperlinks(t *testing.T) {
	s := screen.New(20, 2, screen.Options{})
	s.Write([]byte("a\x1b]8;id=7;http://x/\x1b\\b\x1b[1mc\x1b[m\x1b]8;;\x1b\\d"))
	n := s.Snapshot()
	for x, want := range []string{"", "http://x/", "http://x/", ""} {
		if _, uri := n.Link(n.Cell(x, 0)); uri != want {
			t.Errorf("cell %d links to %q, not %q", x, uri, want)
		}
	}
	if id, _ := n.Link(n.Cell(1, 0)); id != "7" {
		t.Errorf("id is %q", id)
	}
}

func TestBells(t *testing.T) {
	s := screen.New(10, 2, screen.Options{})
	s.Write([]byte("\a\x1b]0;t\a\a\x1b[\a1m"))
	if n := s.Snapshot().Bells(); n != 3 {
		t.Errorf("%d bells, not 3", n)
	}
}
