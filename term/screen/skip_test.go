package screen_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// flood returns so many lines of text, each made of line and its number.
func flood(line string, lines int) []byte {
	var b bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&b, "%d %s\r\n", i, line)
	}
	return b.Bytes()
}

// checkSkip compares a screen that skips what it may with one that does not, both
// after some output, and returns how much was skipped.
func checkSkip(t *testing.T, before, flood []byte, cols, rows, limit int) int {
	t.Helper()
	opts := screen.Options{ScrollbackBytes: limit}
	plain, skipping := screen.New(cols, rows, opts), screen.New(cols, rows, opts)
	for _, s := range []*screen.Screen{plain, skipping} {
		s.Write(before)
	}
	early := skipping.Snapshot() // rows that may not be written to
	was := screen.AppendDiff(nil, nil, early)
	plain.Write(flood)
	n := skipping.Skip(flood)
	if why := skipping.CheckInvariants(); why != "" {
		t.Fatalf("after skipping %d of %d bytes: %s", n, len(flood), why)
	}
	if n > 0 {
		// The screen is exact at once, too.
		part := screen.New(cols, rows, opts)
		part.Write(before)
		part.Write(flood[:n])
		if a, b := part.Snapshot(), skipping.Snapshot(); !a.Equal(b) {
			t.Fatalf("after %q, %d of %d bytes: %s", before, n, len(flood), firstDifference(a, b))
		}
	}
	skipping.Write(flood[n:])
	a, b := plain.Snapshot(), skipping.Snapshot()
	if !a.Equal(b) {
		t.Fatalf("after %q, %d of %d bytes skipped: %s", before, n, len(flood), firstDifference(a, b))
	}
	if !bytes.Equal(was, screen.AppendDiff(nil, nil, early)) {
		t.Fatal("an earlier snapshot was changed")
	}
	have, want := b.ScrollbackLen(), a.ScrollbackLen()
	if have <= want-128 { // more where rows that were reused had room to spare
		t.Fatalf("%d rows of scrollback, without skipping %d", have, want)
	}
	some := min(have, want)
	if !bytes.Equal(a.AppendScrollback(nil, some), b.AppendScrollback(nil, some)) {
		t.Fatalf("the last %d rows of scrollback differ", some)
	}
	if a.Bells() != b.Bells() {
		t.Fatalf("%d bells, without skipping %d", b.Bells(), a.Bells())
	}
	return n
}

func TestSkip(t *testing.T) {
	text := "a line of a plain log, of the usual length, without colours"
	for _, tc := range []struct {
		name   string
		before string
		flood  []byte
		limit  int
		skips  bool
	}{
		{"a log", "", flood(text, 5000), 1 << 15, true},
		{"no scrollback", "", flood(text, 5000), -1, true},
		{"in a colour", "\x1b[42;31mx", flood(text, 5000), 1 << 15, true},
		{"long lines", "", flood(strings.Repeat(text, 9), 500), 1 << 15, true},
		{"short lines", "", flood("", 50000), 1 << 15, true},
		{"wide characters", "", flood("端末の画面は行と列からなり漢字は二つの桁を占める", 5000), 1 << 15, true},
		{"no autowrap, inserting", "\x1b[?7l\x1b[4h", flood(strings.Repeat(text, 3), 2000), 1 << 15, true},
		{"line feeds only", "", bytes.ReplaceAll(flood(text, 5000), []byte("\r\n"), []byte("\n")), 1 << 15, false},
		{"progress without lines", "", bytes.Repeat([]byte("\r 50 %"), 20000), 1 << 15, false},
		{"a large scrollback", "", flood(text, 5000), 100 << 20, false},
		{"until a bell", "", append(flood(text, 5000), '\a'), 1 << 15, true},
		{"until a sequence", "", append(flood(text, 2500), append([]byte("\x1b[7m"), flood(text, 2500)...)...), 1 << 15, true},
		{"a bell here and there", "", bytes.Repeat(append(flood(text, 250), '\a'), 10), 1 << 15, false},
		{"a sequence here and there", "", bytes.Repeat(append([]byte("\x1b[7m"), flood(text, 250)...), 10), 1 << 15, false},
		{"an encoded C1 control here and there", "", bytes.Repeat(append([]byte("\u009b7m"), flood(text, 250)...), 10), 1 << 15, false},
		{"another charset in it", "", append([]byte{0x0e}, flood(text, 5000)...), 1 << 15, false},
		{"in a sequence", "\x1b[", flood(text, 5000), 1 << 15, false},
		{"after a single shift", "\x1b*0\x1bN", flood(text, 5000), 1 << 15, false},
		{"on the alternate screen", "\x1b[?1049h", flood(text, 5000), 1 << 15, false},
		{"in a region", "\x1b[2;5r", flood(text, 5000), 1 << 15, false},
		{"between margins", "\x1b[?69h\x1b[2;5s", flood(text, 5000), 1 << 15, false},
		{"with reverse wraparound", "\x1b[?45h", flood(text, 5000), 1 << 15, false},
		{"little", "", flood(text, 100), 1 << 15, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := checkSkip(t, []byte(tc.before), tc.flood, 80, 24, tc.limit)
			if n > 0 != tc.skips {
				t.Errorf("%d of %d bytes were skipped", n, len(tc.flood))
			}
		})
	}
}

func FuzzSkip(f *testing.F) {
	f.Add([]byte("\x1b[1m"), []byte("some text\r\n"), byte(20), byte(5))
	f.Add([]byte("\x1b[?69h\x1b[3;9s"), []byte("\xe7\xab\xaf\r\x08\v\n\r\n"), byte(9), byte(3))
	f.Add([]byte("\x1b[?7l"), []byte("a\tb\r\nlong, much longer than the screen\n\r\n"), byte(12), byte(2))
	f.Fuzz(func(t *testing.T, before, lines []byte, cols, rows byte) {
		if len(lines) == 0 || len(lines) > 1<<12 || len(before) > 1<<12 {
			return
		}
		out := bytes.Repeat(lines, (1<<17)/len(lines))
		checkSkip(t, before, out, int(cols)%100+1, int(rows)%30+1, 1<<13)
	})
}
