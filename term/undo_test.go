package term

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// base is what is written to give back a terminal that nothing was changed in.
const (
	undoStart = "\x1b\\\x1b[?2026l"
	undoEnd   = "\x0f\x1b(B\x1b[m\x1b[?7h\x1b[?25h"
)

func TestUndo(t *testing.T) {
	for _, tt := range []struct {
		name, output, undo string
	}{
		{"nothing", "plain text\r\n\x1b[1;31mred\x1b[m", ""},
		{"cursor hidden", "\x1b[?25l\x1b[?2026h", ""},
		{"alternate screen", "\x1b[?1049h", "\x1b[?1049l"},
		{"alternate screen, old way", "\x1b[?47h", "\x1b[?47l"},
		{"back on the main screen", "\x1b[?1049h\x1b[?1049l", ""},
		{"mouse", "\x1b[?1000h\x1b[?1002;1006h", "\x1b[?1000;1002;1006l"},
		{"vim", "\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h",
			"\x1b[?1049l\x1b[?1;1004;2004l\x1b>\x1b[23;0t"},
		{"kitty keys on both screens", "\x1b[>1u\x1b[?1049h\x1b[>5u\x1b[>31u",
			"\x1b[<2u\x1b[?1049l\x1b[<1u"},
		{"kitty keys popped", "\x1b[>1u\x1b[<u", ""},
		{"kitty keys set", "\x1b[=5;1u", "\x1b[=0u"},
		{"kitty keys set on the alternate screen", "\x1b[?1049h\x1b[=5;1u", "\x1b[=0u\x1b[?1049l"},
		{"margins", "\x1b[3;10r", "\x1b7\x1b[?6;69l\x1b[r\x1b8"},
		{"margins reset", "\x1b[3;10r\x1b[r", ""},
		{"origin", "\x1b[3;10r\x1b[?6h", "\x1b[?6;69l\x1b[r\x1b[999;1H\n"},
		{"insert", "\x1b[4h", "\x1b[4l"},
		{"keypad", "\x1b=", "\x1b>"},
		{"style", "\x1b[5 q", "\x1b[0 q"},
		{"style reset", "\x1b[5 q\x1b[0 q", ""},
		{"other keys", "\x1b[>4;2m", "\x1b[>4m"},
		{"other keys reset", "\x1b[>4;2m\x1b[>4m", ""},
		{"colours", "\x1b]11;#000000\x07\x1b]4;1;red\x1b\\", "\x1b]104\x1b\\\x1b]111\x1b\\"},
		{"colours reset", "\x1b]11;#000000\x07\x1b]111\x07", ""},
		{"link", "\x1b]8;;http://example.com\x1b\\here", "\x1b]8;;\x1b\\"},
		{"reset", "\x1b[?1049h\x1b[?1000h\x1bc", ""},
		{"soft reset", "\x1b[4h\x1b=\x1b[?1h\x1b[!p", ""},
		{"cut off by CAN", "\x1b[?1049\x18h", ""},
		{"begun anew", "\x1b[?10\x1b[?1049h", "\x1b[?1049l"},
		{"C0 inside", "\x1b[?10\r49h", "\x1b[?1049l"},
		{"hyperlink text that looks like one", "\x1b]0;[?1049h\x07", ""},
		{"too long", "\x1b[?" + strings.Repeat("0", 200) + "1049h", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := undoStart + tt.undo + undoEnd
			var whole modeTracker
			whole.track([]byte(tt.output))
			if got := string(whole.appendUndo(nil)); got != want {
				t.Errorf("undo is\n%q, want\n%q", got, want)
			}
			var split modeTracker
			for i := range len(tt.output) {
				split.track([]byte{tt.output[i]})
			}
			if split.modes != whole.modes {
				t.Errorf("byte by byte: %+v, whole: %+v", split.modes, whole.modes)
			}
		})
	}
}

// TestUndoIsComplete undoes random modes and looks whether any is left.
func TestUndoIsComplete(t *testing.T) {
	parts := []string{"\x1b[?1049h", "\x1b[?47h", "\x1b[?1047h", "\x1b[?1;6;69h", "\x1b[2;5r",
		"\x1b[>3u", "\x1b[=1u", "\x1b[4;20h", "\x1b=", "\x1b[3 q", "\x1b[>4;1m", "\x1b[22;0t",
		"\x1b]10;red\x07", "\x1b]4;3;blue\x07", "\x1b[?1003;1006;2004;1004;1015;1016;9;5;45;66h", "x"}
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var output string
		for range rng.IntN(20) {
			output += parts[rng.IntN(len(parts))]
		}
		var tr modeTracker
		tr.track([]byte(output))
		tr.track(tr.appendUndo(nil))
		left := tr.modes
		left.colours &^= 1 // OSC 104 without a number resets all of the palette, but may name entries
		left.link = false
		if left != (modes{}) {
			t.Fatalf("after %q: %+v is left", output, left)
		}
	}
}

func FuzzTrack(f *testing.F) {
	f.Add([]byte("\x1b[?1049h\x1b]8;;x\x07\x1b[>1u\x1b[1;2r"), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, at uint8) {
		var whole, split modeTracker
		whole.track(p)
		i := min(int(at), len(p))
		split.track(p[:i])
		split.track(p[i:])
		if whole.modes != split.modes {
			t.Fatalf("%+v, split at %d: %+v", whole.modes, i, split.modes)
		}
		if n := len(whole.appendUndo(nil)); n > maxKeeperBody-500 {
			t.Fatalf("undo takes %d bytes", n)
		}
	})
}

func BenchmarkTrack(b *testing.B) {
	for name, text := range map[string]string{
		"plain":  strings.Repeat("the quick brown fox jumps over the lazy dog\r\n", 100),
		"colour": strings.Repeat("\x1b[1;34mdir\x1b[0m  \x1b[38;5;12mfile.go\x1b[m \r\n", 100),
	} {
		b.Run(name, func(b *testing.B) {
			var tr modeTracker
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				tr.track([]byte(text))
			}
		})
	}
}
