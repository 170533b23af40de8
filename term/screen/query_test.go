package screen_test

import (
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// queries are what programs ask, and what the model answers.
var queries = []struct{ ask, answer string }{
	{"\x1b[c", "\x1b[?62;6;22c"},
	{"\x1b[0c", "\x1b[?62;6;22c"},
	{"\x1bZ", "\x1b[?62;6;22c"},
	{"\x1b[>c", "\x1b[>41;390;0c"},
	{"\x1b[=c", "\x1bP!|00000000\x1b\\"},
	{"\x1b[>q", "\x1bP>|pairterm\x1b\\"},
	{"\x1b[5n", "\x1b[0n"},
	{"\x1b[3;7H\x1b[6n", "\x1b[3;7R"},
	{"\x1b[3;7H\x1b[?6n", "\x1b[?3;7;1R"},
	{"\x1b[2;5r\x1b[?6h\x1b[2;2H\x1b[6n", "\x1b[2;2R"},
	{"\x1b[?1$p", "\x1b[?1;2$y"},
	{"\x1b[?25$p", "\x1b[?25;1$y"},
	{"\x1b[?6h\x1b[?6$p", "\x1b[?6;1$y"},
	{"\x1b[?1049h\x1b[?1049$p", "\x1b[?1049;1$y"},
	{"\x1b[?2026$p", "\x1b[?2026;2$y"},
	{"\x1b[?2027$p", "\x1b[?2027;0$y"},
	{"\x1b[?9999$p", "\x1b[?9999;0$y"},
	{"\x1b[4h\x1b[4$p", "\x1b[4;1$y"},
	{"\x1b[x", "\x1b[2;1;1;128;128;1;0x"},
	{"\x1b[18t", "\x1b[8;6;20t"},
	{"\x1b[>5u\x1b[?u", "\x1b[?5u"},
	{"\x1b[>4;2m\x1b[?4m", "\x1b[>4;2m"},
	{"\x1b[1;38;5;200;4:3;58:2::1:2:3m\x1bP$qm\x1b\\", "\x1bP1$r0;1;4:3;38;5;200;58:2::1:2:3m\x1b\\"},
	{"\x1b[2;5r\x1bP$qr\x1b\\", "\x1bP1$r2;5r\x1b\\"},
	{"\x1b[4 q\x1bP$q q\x1b\\", "\x1bP1$r4 q\x1b\\"},
	{"\x1bP$qz\x1b\\", "\x1bP0$r\x1b\\"},
	{"\x1bP+q544e\x1b\\", "\x1bP1+r544e=787465726D2D323536636F6C6F72\x1b\\"},
	{"\x1bP+q5858\x1b\\", "\x1bP0+r5858\x1b\\"},
	{"\x1bP+qrm -rf\x1b\\", "\x1bP0+r\x1b\\"},
	{"\x1b]4;1;?\a", "\x1b]4;1;rgb:cdcd/0000/0000\x1b\\"},
	{"\x1b]4;1;#123\x1b\\\x1b]4;1;?\x1b\\", "\x1b]4;1;rgb:1111/2222/3333\x1b\\"},
	{"\x1b]10;?\a", "\x1b]10;rgb:e5e5/e5e5/e5e5\x1b\\"},
	{"\x1b]11;rgb:12/34/56\a\x1b]11;?\a", "\x1b]11;rgb:1212/3434/5656\x1b\\"},
	{"\x1b]10;?;?\a", "\x1b]10;rgb:e5e5/e5e5/e5e5\x1b\\\x1b]11;rgb:0000/0000/0000\x1b\\"},
	{"\x1b]11;papaya\a\x1b]11;?\a", ""}, // known by its name only
	{"\x1b]52;c;?\a", ""},               // nobody reads the clipboard
	{"\x1b[21t", ""},                    // or gets the title typed
	{"\x05", ""},
}

func TestQueries(t *testing.T) {
	for _, q := range queries {
		got := ""
		s := screen.New(20, 6, screen.Options{Reply: func(b []byte) { got += string(b) }})
		for i := range len(q.ask) {
			s.Write([]byte{q.ask[i]})
		}
		if got != q.answer {
			t.Errorf("%q is answered by %q, not %q", q.ask, got, q.answer)
		}
	}
}
