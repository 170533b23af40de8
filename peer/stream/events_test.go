package stream

import (
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/paste"
)

func TestFindInterrupt(t *testing.T) {
	tests := []struct {
		keys string
		at   int // -1: none
		n    int
	}{
		{"abc", -1, 0},
		{"\x03", 0, 1},
		{"abc\x03def", 3, 1},
		{"abc\x1c", 3, 1},
		{"abc\x1b[99;5u", 3, 7},
		{"abc\x1b[27;5;99~", 3, 10},
		{"abc\x1b[98;5u", -1, 0},
		{"\x1b[200~abc\x03\x1b[201~", -1, 0},
		{"\x1b[200~abc\x03\x1b[201~\x03", 16, 1},
		{"\x1b[200~abc\x1b[201~x\x1b[99;5u", 16, 7},
		{"\x1b\x03", 1, 1},
	}
	for _, tt := range tests {
		at, n := findInterrupt(new(paste.Tracker), []byte(tt.keys))
		want := tt.at
		if want < 0 {
			want = len(tt.keys)
		}
		if at != want || n != tt.n {
			t.Errorf("%q: %d bytes at %d, want %d at %d", tt.keys, n, at, tt.n, want)
		}
	}
}

func TestInputLogBounds(t *testing.T) {
	var l inputLog
	rest := l.typeLocked([]byte(strings.Repeat("x", maxBacklog+100)))
	if len(rest) != 100 || l.waiting != maxBacklog {
		t.Fatalf("%d bytes are waiting, %d are refused", l.waiting, len(rest))
	}
	for range 1000 {
		l.resizeLocked(80, 25)
	}
	if len(l.backlog) != maxBacklog/maxItem+1 {
		t.Errorf("%d items are waiting", len(l.backlog))
	}
	for l.extendLocked(1000, inputWindow) {
	}
	if n := len(l.bytes); n > inputWindow || n < inputWindow-eventHeader-1 {
		t.Errorf("%d bytes of log with a window of %d", n, inputWindow)
	}
	// An interrupt drops the rest, and may go past the window.
	l.signals = true
	l.typeLocked([]byte("\x03"))
	if l.waiting != 1 || !l.extendLocked(1000, inputWindow) || l.waiting != 0 {
		t.Errorf("%d bytes wait behind an interrupt", l.waiting)
	}
	if l.typed != maxBacklog+1 || l.dropped+l.open != l.typed {
		t.Errorf("typed %d, dropped %d, open %d", l.typed, l.dropped, l.open)
	}
	l.receivedLocked(l.endLocked())
	l.takenLocked(l.endLocked(), true)
	if l.open != 0 || l.bytes != nil || len(l.untaken) != 0 {
		t.Errorf("%d bytes open when all is taken", l.open)
	}
	if typed, ok := l.reactedLocked(l.endLocked()); !ok || typed != l.typed {
		t.Errorf("reacted to %d of %d", typed, l.typed)
	}
}

func TestInputQueueRefuses(t *testing.T) {
	for name, log := range map[string]string{
		"kind 0":           "\x00\x00\x00",
		"no keys":          "\x01\x00\x00",
		"event too long":   "\x01\x02\x01",
		"short resize":     "\x02\x00\x02\x00\x01",
		"resize to 0":      "\x02\x00\x04\x00\x50\x00\x00",
		"empty interrupt":  "\x03\x00\x00",
		"behind good ones": "\x01\x00\x01a\x63\x00\x01x\x00\x00\x01x",
	} {
		q := inputQueue{in: &toyInput{room: -1}}
		if q.put(0, []byte(log)) == nil {
			t.Errorf("%s: %q is accepted", name, log)
		}
	}
	// An unknown kind is passed over.
	in := &toyInput{room: -1}
	q := inputQueue{in: in}
	if err := q.put(0, []byte("\x01\x00\x01a\x63\x00\x02xy\x01\x00\x01b")); err != nil {
		t.Fatal(err)
	}
	if q.deliver(0); in.typed() != "ab" {
		t.Errorf("typed %q", in.typed())
	}
}
