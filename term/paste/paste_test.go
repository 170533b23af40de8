package paste

import "testing"

func TestTracker(t *testing.T) {
	tests := []struct {
		keys    string
		inside  bool
		closing string
	}{
		{"", false, ""},
		{"abc", false, ""},
		{"\x1b[200~", true, End},
		{"\x1b[200~abc\x1b[201~", false, ""},
		{"\x1b[200~abc\x1b[200~", true, End},
		{"\x1b[200~abc\x1b", true, End},
		{"\x1b[200~abc\x1b[20", true, "1~"},
		{"\x1b[200~abc\x1b[201", true, "~"},
		{"\x1b[200~abc\x1b[200", true, End},
		{"\x1b[200~abc\x1b\x1b[201~", false, ""},
		{"\x1b[20", false, "0~" + End},
		{"\x1b[200", false, "~" + End},
		{"\x1b[201", false, "~"},
		{"\x1b[20~", false, ""},
		{"\x1b[A\x1b[200x\x1b[200~", true, End},
	}
	for _, tt := range tests {
		for split := range len(tt.keys) + 1 {
			var p Tracker
			p.Feed([]byte(tt.keys[:split]))
			p.Feed([]byte(tt.keys[split:]))
			if p.inside != tt.inside || p.Closing() != tt.closing {
				t.Errorf("%q: inside %v, closing %q; want %v, %q", tt.keys, p.inside, p.Closing(), tt.inside, tt.closing)
			}
		}
		// Closing it closes it.
		var p Tracker
		p.Feed([]byte(tt.keys))
		p.Feed([]byte(p.Closing()))
		if p.inside || p.n > 3 {
			t.Errorf("%q is not closed by %q", tt.keys, p.Closing())
		}
	}
}
