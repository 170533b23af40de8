package screen_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// replayOffsets are the places at which a recording's states are taken: the
// oracles' checkpoints, and some bytes in between, most of them inside
// sequences.
func replayOffsets(t *testing.T, r recording) []int {
	dir := filepath.Join("testdata", "conformance")
	offsets := []int{0, len(r.raw)}
	for _, c := range loadCheckpoints(t, dir, "xterm", r.Name) {
		offsets = append(offsets, c.Off)
	}
	for i := 1; i < 12; i++ {
		off := len(r.raw) * i / 12
		for off < len(r.raw) && r.raw[off] != 0x1b {
			off++
		}
		offsets = append(offsets, min(off+i%5, len(r.raw)))
	}
	return sortedInts(offsets)
}

// apply writes the bytes of a diff to a model in state from (nil: fresh).
func apply(from *screen.Screen, diff []byte) *screen.Snapshot {
	from.Write(diff)
	return from.Snapshot()
}

// uncommon resets what AppendDiff without a known state takes to be as in a fresh
// terminal.
var uncommon = "\x18" + strings.Repeat("\x1b[23;0t", 10) + strings.Repeat("\x1b[#}", 10) +
	"\x1b]0;\x1b\\\x1b]104\x1b\\\x1b]105\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\" +
	"\x1b[>m\x1b[>f\x1b[?4;12;40;45;67;95;1007;1034;1036;1039;1042;1043;1045l\x1b[?8;1035h\x1b[?5W" +
	// XTSAVE.
	"\x1b[?1;5;7;8;9;25;66;1000;1002;1003;1004;1005;1006;1015;1016;1035;2004l" +
	"\x1b[?1;4;5;7;8;9;12;25;45;66;67;95;1000;1002;1003;1004;1005;1006;1007;1015;1016s" +
	"\x1b[?1034;1035;1036;1039;1042;1043;1045;2004s\x1b[?7;8;25;1035h\x1b[?7;8;25;1035s"

func TestReplay(t *testing.T) {
	for _, r := range loadRecordings(t, filepath.Join("testdata", "conformance")) {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			offsets := replayOffsets(t, r)
			var states []*screen.Snapshot
			play(r, []int{len(r.raw)}, offsets, func(_ int, s *screen.Screen) {
				states = append(states, s.Snapshot())
			})
			size, count := 0, 0
			for j, b := range states {
				full := screen.AppendDiff(nil, nil, b)
				m := screen.New(r.Cols, r.Rows, screen.Options{})
				if got := apply(m, full); !got.Equal(b) {
					t.Fatalf("full redraw at %d: %s\n%q", offsets[j], firstDifference(b, got), full)
				}
				size += len(full)
				count++
				// The rest of the bytes may follow.
				m.Write(r.raw[offsets[j]:])
				if got, want := m.Snapshot(), states[len(states)-1]; !got.Equal(want) {
					t.Fatalf("full redraw at %d, then the rest: %s", offsets[j], firstDifference(want, got))
				}
				for i, a := range states {
					m := screen.New(r.Cols, r.Rows, screen.Options{})
					m.Write(r.raw[:offsets[i]])
					diff := screen.AppendDiff(nil, a, b)
					if got := apply(m, diff); !got.Equal(b) {
						t.Fatalf("from %d to %d: %s\n%q", offsets[i], offsets[j], firstDifference(b, got), diff)
					}
					// A terminal in any state of the session is redrawn as well.
					m.Write([]byte(uncommon))
					if got := apply(m, full); !got.Equal(b) {
						t.Fatalf("full redraw at %d over %d: %s", offsets[j], offsets[i], firstDifference(b, got))
					}
				}
			}
			t.Logf("%d states, %d bytes a full redraw on average", count, size/count)
		})
	}
}
