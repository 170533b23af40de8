package screen_test

import (
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

func TestPass(t *testing.T) {
	for _, c := range []struct{ name, in, out string }{
		{"text", "abc é 漢\r\n\t\b", "abc é 漢\r\n\t\b"},
		{"sequences", "\x1b[1;31mx\x1b[m\x1b[2;3H\x1b7\x1b(0q\x1b(B", "\x1b[1;31mx\x1b[m\x1b[2;3H\x1b7\x1b(0q\x1b(B"},
		{"colons", "\x1b[4:3;38:2::1:2:3m", "\x1b[4:3;38:2::1:2:3m"},
		{"malformed UTF-8", "a\xff\xc3(b", "a\ufffd\ufffd(b"},
		{"encoded C1 becomes ESC", "\u009b31mx\u0085", "\x1b[31mx\x1bE"},
		{"encoded C1 query", "\u009bcx", "x"},
		{"control in a sequence", "\x1b[3\r1mx", "\r\x1b[31mx"},
		{"cancelled", "\x1b[31\x18x", "x"},
		{"unknown sequences", "\x1b[1;2v\x1b[5#y\x1b[?5W\x1b[>7y\x1b q", "\x1b[?5W"},
		{"modes", "\x1b[?25;1000;1006h", "\x1b[?25h\x1b[?1000h\x1b[?1006h"},
		{"modes that make terminals talk", "\x1b[?2048;2031;1001;2027;9999h", ""},
		{"VT52 and columns", "\x1b[?2l\x1b[?3h\x1b[?40h", ""},
		{"columns allowed", "\x1b[?40h\x1b[?3h", "\x1b[?69l\x1b[r\x1b[2J\x1b[H"},
		{"window operations", "\x1b[8;50;100t\x1b[14t\x1b[22;0t\x1b[23;0t", "\x1b[22;0t\x1b[23;0t"},
		{"a title that was not pushed", "\x1b[23;0t", ""},
		{"double-size lines", "\x1b#3x\x1b#8", "x\x1b#8"},
		{"title", "\x1b]0;a\x01b\ac", "\x1b]0;ab\x1b\\c"},
		{"hyperlink", "\x1b]8;id=1:x=y;http://a/\x1b\\t\x1b]8;;\x1b\\", "\x1b]8;id=1;http://a/\x1b\\t\x1b]8;;\x1b\\"},
		{"hyperlink that is too long", "\x1b]8;;" + strings.Repeat("x", 3000) + "\x1b\\t", "\x1b]8;;\x1b\\t"},
		{"clipboard", "\x1b]52;c;aGk=\a", "\x1b]52;c;aGk=\x1b\\"},
		{"clipboard cleared", "\x1b]52;c;\a", "\x1b]52;c;\x1b\\"},
		{"clipboard query", "\x1b]52;c;?\ax", "x"},
		{"palette", "\x1b]4;1;#fff;2;?;3;rgb:1/2/3\a", "\x1b]4;1;#fff\x1b\\\x1b]4;3;rgb:1/2/3\x1b\\"},
		{"colours", "\x1b]10;#000;?;#fff\a\x1b]111\a\x1b]104;1;2\a\x1b]104\a", "\x1b]10;#000\x1b\\\x1b]12;#fff\x1b\\\x1b]111\x1b\\\x1b]104;1\x1b\\\x1b]104;2\x1b\\\x1b]104\x1b\\"},
		{"prompt mark and directory", "\x1b]133;A\a\x1b]7;file://h/d\x1b\\", "\x1b]133;A\x1b\\\x1b]7;file://h/d\x1b\\"},
		{"iTerm2 image and query", "\x1b]1337;File=inline=1:QUJD\a\x1b]1337;ReportCellSize\a", "\x1b]1337;File=inline=1:QUJD\x1b\\"},
		{"unknown OSC", "\x1b]5113;ac=recv\a\x1b]66;s=2;x\a", ""},
		{"kitty image", "\x1b_Gf=24,i=1,q=1;QUJD\x1b\\", "\x1b_Gf=24,i=1,q=2;QUJD\x1b\\"},
		{"kitty image, next chunk", "\x1b_Gm=1;QUJD\x1b\\", "\x1b_Gm=1,q=2;QUJD\x1b\\"},
		{"kitty image deleted", "\x1b_Ga=d\x1b\\", "\x1b_Ga=d,q=2\x1b\\"},
		{"kitty query", "\x1b_Gi=1,a=q;QUJD\x1b\\x", "x"},
		{"sixel", "\x1bP0;1q#0~~\x1b\\", "\x1bP0;1q#0~~\x1b\\"},
		{"sixel cancelled", "\x1bPq#0~~\x18x", "\x1bP" + "q#0~~\x18x"},
		{"string ended by a query", "\x1bPq#0~~\x1b[cx", "\x1bPq#0~~\x1b\\x"},
		{"tunnelled query", "\x1bPtmux;\x1b\x1b[c\x1b\\x", "x"},
		{"keys and reports", "\x1bP1|17/41\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\\x1bkname\x1b\\y", "y"},
		{"encoded terminator and query in a title", "\x1b]0;t\u009c\u009bcx", "\x1b]0;t\x1b\\x"},
		{"REP after a query", "a\x1b[c\x1b[3b", "a"},
		{"REP", "a\x1b[3b", "aaaa"},
		{"erasing with a wrap pending", strings.Repeat("x", 20) + "\x1b[K", strings.Repeat("x", 20) + "\x1b[1;20H\x1b[K"},
		{"single shift", "\x1b*0\x1bNqq", "\x1b*0─q"},
		{"8-bit controls", "\x1b Gx\x1b%@", "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := screen.New(20, 6, screen.Options{}).Pass(nil, []byte(c.in))
			if string(whole) != c.out {
				t.Errorf("%q passes as %q, not %q", c.in, whole, c.out)
			}
			var pieces []byte
			s := screen.New(20, 6, screen.Options{})
			for i := range len(c.in) {
				pieces = s.Pass(pieces, []byte{c.in[i]})
			}
			if string(pieces) != c.out {
				t.Errorf("byte by byte %q passes as %q, not %q", c.in, pieces, c.out)
			}
		})
	}
	for _, q := range queries {
		out := screen.New(20, 6, screen.Options{}).Pass(nil, []byte(q.ask))
		asked := false
		s := screen.New(20, 6, screen.Options{Reply: func([]byte) { asked = true }})
		if s.Write(out); asked {
			t.Errorf("%q passes as %q, which asks", q.ask, out)
		}
	}
}

// TestPassStreams checks that the body of an image comes out as it comes in,
// and is not collected.
func TestPassStreams(t *testing.T) {
	s := screen.New(20, 6, screen.Options{})
	out := s.Pass(nil, []byte("\x1bPq"))
	chunk := []byte(strings.Repeat("~", 1000))
	for range 1000 {
		before := len(out)
		out = s.Pass(out, chunk)
		if len(out) != before+len(chunk) {
			t.Fatalf("of %d bytes %d came out", len(chunk), len(out)-before)
		}
	}
	if s.InGround() {
		t.Error("inside a string the model says it is between sequences")
	}
	out = s.Pass(out, []byte("\x1b\\"))
	if want := "\x1bPq" + strings.Repeat("~", 1000*1000) + "\x1b\\"; string(out) != want {
		t.Errorf("%d bytes came out, not %d", len(out), len(want))
	}
	if !s.InGround() {
		t.Error("after a string the model says it is inside a sequence")
	}
}
