package screen_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// A recording is an entry of a manifest, with its bytes. The format is described
// in testdata/conformance/README.md.
type recording struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Cols   int    `json:"cols"`
	Rows   int    `json:"rows"`
	SHA256 string `json:"sha256"`
	Chunks []int  `json:"chunks"`

	Want *string `json:"want"` // hand: rows separated by |
	CX   int     `json:"cx"`
	CY   int     `json:"cy"`

	raw []byte
}

// A checkpoint is what one oracle saw after Off bytes. What it does not report
// is nil.
type checkpoint struct {
	Off   int            `json:"off"`
	CX    int            `json:"cx"`
	CY    int            `json:"cy"`
	Alt   *bool          `json:"alt"`
	Modes map[string]any `json:"modes"` // xterm.js
	Info  map[string]any `json:"info"`  // tmux
	Rows  [][]span       `json:"rows"`
}

// A span is cells of one rendition: [text, fg, bg, flags].
type span struct {
	cells         []string // one rune or cluster each
	fg, bg, flags string
}

func (s *span) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) != 4 {
		return fmt.Errorf("span of %d parts", len(parts))
	}
	var text string
	if err := json.Unmarshal(parts[0], &text); err == nil {
		for _, r := range text {
			s.cells = append(s.cells, string(r))
		}
	} else if err := json.Unmarshal(parts[0], &s.cells); err != nil {
		return err
	}
	for i, p := range []*string{&s.fg, &s.bg, &s.flags} {
		if err := json.Unmarshal(parts[i+1], p); err != nil {
			return err
		}
	}
	return nil
}

// conformanceDir is testdata's, or the directory that PAIRTERM_CONFORMANCE names.
func conformanceDir() string {
	if dir := os.Getenv("PAIRTERM_CONFORMANCE"); dir != "" {
		return dir
	}
	return filepath.Join("testdata", "conformance")
}

func loadRecordings(tb testing.TB, dir string) []recording {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) && filepath.Base(dir) == "hand" {
		return nil
	}
	if err != nil {
		tb.Fatal(err)
	}
	var list []recording
	if err := json.Unmarshal(b, &list); err != nil {
		tb.Fatalf("%s: %v", dir, err)
	}
	for i := range list {
		r := &list[i]
		if r.raw, err = os.ReadFile(filepath.Join(dir, r.File)); err != nil {
			tb.Fatal(err)
		}
		if sum := sha256.Sum256(r.raw); r.SHA256 != "" && r.SHA256 != hex.EncodeToString(sum[:]) {
			tb.Fatalf("%s is not the file that was recorded", r.File)
		}
	}
	return list
}

// loadCheckpoints returns an oracle's checkpoints; none if it was not asked.
func loadCheckpoints(tb testing.TB, dir, oracle, name string) []checkpoint {
	tb.Helper()
	f, err := os.Open(filepath.Join(dir, "expected", oracle, name+".json.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var list []checkpoint
	if err := json.NewDecoder(z).Decode(&list); err != nil {
		tb.Fatalf("%s: %v", f.Name(), err)
	}
	return list
}

// look is a cell as the oracles describe it. Empty fields are not known.
type look struct{ text, fg, bg, flags string }

// blankLook is a cell that a row of a checkpoint does not reach.
var blankLook = look{" ", "d", "d", ""}

// expandRow lays the spans of a checkpoint out in columns; the tail of a wide
// character has no text.
func expandRow(spans []span, cols int) []look {
	var row []look
	for _, s := range spans {
		for _, text := range s.cells {
			row = append(row, look{text, s.fg, s.bg, s.flags})
			if cellWidth(text) == 2 {
				row = append(row, look{"", s.fg, s.bg, s.flags})
			}
		}
	}
	for len(row) < cols {
		row = append(row, blankLook)
	}
	return row
}

// cellWidth is the width of a cell of the oracles: that of its widest rune.
func cellWidth(text string) int {
	w := 1
	for _, r := range text {
		w = max(w, screen.RuneWidth(r))
	}
	return w
}

func cellLook(n *screen.Snapshot, c screen.Cell) look {
	return look{string(n.AppendText(nil, c)), colorLook(c.Fg), colorLook(c.Bg), flagsLook(c.Attr)}
}

func colorLook(c screen.Color) string {
	if i, ok := c.Index(); ok {
		return fmt.Sprintf("p%d", i)
	}
	if r, g, b, ok := c.RGB(); ok {
		return fmt.Sprintf("#%02x%02x%02x", r, g, b)
	}
	return "d"
}

func flagsLook(a screen.Attr) string {
	var b []byte
	for _, f := range []struct {
		on   bool
		flag byte
	}{
		{a&screen.AttrBold != 0, 'b'},
		{a&screen.AttrDim != 0, 'd'},
		{a&screen.AttrItalic != 0, 'i'},
		{a.Underline() != 0, 'u'},
		{a&screen.AttrBlink != 0, 'k'},
		{a&screen.AttrReverse != 0, 'r'},
		{a&screen.AttrHidden != 0, 'h'},
		{a&screen.AttrStrike != 0, 's'},
	} {
		if f.on {
			b = append(b, f.flag)
		}
	}
	return string(b)
}

// sameAttributes compares what the oracle knows.
func sameAttributes(got, want look) bool {
	if want.fg == "?" || want.bg == "?" || want.flags == "?" {
		return true
	}
	return got.fg == want.fg && got.bg == want.bg && sortedFlags(got.flags) == sortedFlags(want.flags)
}

func sortedFlags(s string) string {
	var set [256]bool
	for i := range len(s) {
		set[s[i]] = true
	}
	var b []byte
	for _, f := range []byte("bdiukrhs") {
		if set[f] {
			b = append(b, f)
		}
	}
	return string(b)
}

// score counts what is wrong, that is, unlike every oracle that tells it. Cells
// that are wrong by choice are counted apart.
type score struct{ cells, text, choice, attrs, cursor, modes int }

func (s *score) add(o score) {
	s.cells += o.cells
	s.text += o.text
	s.choice += o.choice
	s.attrs += o.attrs
	s.cursor += o.cursor
	s.modes += o.modes
}

func (s score) wrong() int { return s.text + s.attrs + s.cursor + s.modes }

func (s score) String() string {
	return fmt.Sprintf("wrong text %d, attributes %d, cursor %d, modes %d of %d cells (and %d by choice)",
		s.text, s.attrs, s.cursor, s.modes, s.cells, s.choice)
}

// byChoice tells the two cases in which the model follows xterm although both
// xterm.js and tmux differ: the underscore of DEC graphics is a blank, and EL
// with a wrap pending erases the last column.
func byChoice(got, want look, x, cols int) bool {
	return got.text == " " && (want.text == "_" || x == cols-1)
}

// compare scores a snapshot against what the oracles say of the same moment.
// Of each kind of mistake the first is described in notes.
func compare(n *screen.Snapshot, oracles []checkpoint) (sc score, notes []string) {
	cols, rows := n.Size()
	note := func(count int, format string, args ...any) {
		if count < 4 {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	expanded := make([][]look, len(oracles))
	for y := range rows {
		for i, o := range oracles {
			var spans []span
			if y < len(o.Rows) {
				spans = o.Rows[y]
			}
			expanded[i] = expandRow(spans, cols)
		}
		for x := range cols {
			sc.cells++
			got := cellLook(n, n.Cell(x, y))
			text, attrs := false, false
			for i := range oracles {
				want := expanded[i][x]
				text = text || got.text == want.text
				attrs = attrs || sameAttributes(got, want)
			}
			if !text && byChoice(got, expanded[0][x], x, cols) {
				sc.choice++
			} else if !text {
				note(sc.text, "at %d,%d: text %q, want %q", x, y, got.text, expanded[0][x].text)
				sc.text++
			}
			if !attrs && byChoice(got, expanded[0][x], x, cols) {
				sc.choice++
			} else if !attrs {
				note(sc.attrs, "at %d,%d: %q is %+v, want %+v", x, y, got.text, got, expanded[0][x])
				sc.attrs++
			}
		}
	}
	cur := n.Cursor()
	cursor, alt, altKnown := false, false, false
	for _, o := range oracles {
		// Both oracles tell a pending wrap by a cursor beyond the last column.
		cursor = cursor || o.CY == cur.Y && (o.CX == cur.X || o.CX == cur.X+1 && cur.Pending)
		if o.Alt != nil {
			altKnown = true
			alt = alt || *o.Alt == n.Alternate()
		}
	}
	if !cursor {
		note(sc.cursor, "cursor %d,%d (pending %v), want %d,%d", cur.X, cur.Y, cur.Pending, oracles[0].CX, oracles[0].CY)
		sc.cursor++
	}
	if altKnown && !alt {
		note(0, "alternate screen %v", n.Alternate())
		sc.modes++
	}
	for _, m := range modeNames {
		told, ok := false, false
		for _, o := range oracles {
			for _, set := range []struct {
				values map[string]any
				name   string
			}{{o.Modes, m.xterm}, {o.Info, m.tmux}} {
				if v, has := set.values[set.name]; has && set.name != "" {
					told = true
					ok = ok || modeIsSet(v) == n.Mode(m.mode)
				}
			}
		}
		if told && !ok {
			note(0, "mode %s%s is %v", m.xterm, m.tmux, n.Mode(m.mode))
			sc.modes++
		}
	}
	for _, o := range oracles {
		if v, ok := o.Modes["mouseTrackingMode"]; ok && v != mouseMode(n) {
			if tmuxMouse(oracles) != mouseMode(n) {
				note(0, "mouse is %s, want %v", mouseMode(n), v)
				sc.modes++
			}
		}
	}
	return sc, notes
}

var modeNames = []struct {
	mode        screen.Mode
	xterm, tmux string
}{
	{screen.ModeCursorKeys, "applicationCursorKeysMode", "keypad_cursor"},
	{screen.ModeKeypad, "applicationKeypadMode", "keypad"},
	{screen.ModeBracketedPaste, "bracketedPasteMode", ""},
	{screen.ModeInsert, "insertMode", "insert"},
	{screen.ModeOrigin, "originMode", "origin"},
	{screen.ModeReverseWrap, "reverseWraparoundMode", ""},
	{screen.ModeFocus, "sendFocusMode", ""},
	{screen.ModeSynchronized, "synchronizedOutputMode", ""},
	{screen.ModeAutowrap, "wraparoundMode", "wrap"},
	{screen.ModeCursorVisible, "", "cursor"},
	{screen.ModeMouseSGR, "", "mouse_sgr"},
}

func modeIsSet(v any) bool { return v == true || v == "1" }

// mouseMode names the mouse protocol as xterm.js does.
func mouseMode(n *screen.Snapshot) string {
	switch {
	case n.Mode(screen.ModeMouseAny):
		return "any"
	case n.Mode(screen.ModeMouseButton):
		return "drag"
	case n.Mode(screen.ModeMouseNormal):
		return "vt200"
	case n.Mode(screen.ModeMouseX10):
		return "x10"
	}
	return "none"
}

func tmuxMouse(oracles []checkpoint) string {
	for _, o := range oracles {
		switch {
		case o.Info == nil:
		case modeIsSet(o.Info["mouse_all"]):
			return "any"
		case modeIsSet(o.Info["mouse_button"]):
			return "drag"
		case modeIsSet(o.Info["mouse_standard"]):
			return "vt200"
		default:
			return "none"
		}
	}
	return ""
}

// pieces are the ways in which a recording is written.
var pieces = []struct {
	name string
	cut  func(r recording) []int // lengths of the writes
}{
	{"whole", func(r recording) []int { return []int{len(r.raw)} }},
	{"chunks", func(r recording) []int { return r.Chunks }},
	{"bytes", func(r recording) []int {
		sizes := make([]int, len(r.raw))
		for i := range sizes {
			sizes[i] = 1
		}
		return sizes
	}},
}

// play writes raw in pieces and calls at with the model at each offset.
func play(r recording, sizes []int, offsets []int, at func(off int, s *screen.Screen)) {
	s := screen.New(r.Cols, r.Rows, screen.Options{})
	pos := 0
	write := func(to int) {
		for len(offsets) > 0 && offsets[0] <= to {
			s.Write(r.raw[pos:offsets[0]])
			pos = offsets[0]
			at(pos, s)
			offsets = offsets[1:]
		}
		s.Write(r.raw[pos:to])
		pos = to
	}
	for _, n := range sizes {
		write(min(pos+n, len(r.raw)))
	}
	write(len(r.raw))
}

// TestConformance plays the recordings in testdata, or in the directory that
// PAIRTERM_CONFORMANCE names, whole, in their chunks and byte by byte. It fails
// where anything is wrong; with -v it tells of each recording how much was
// compared.
func TestConformance(t *testing.T) {
	dir := conformanceDir()
	var total score
	missing := 0
	for _, r := range loadRecordings(t, dir) {
		oracles := map[int][]checkpoint{}
		var offsets []int
		for _, name := range []string{"xterm", "tmux"} {
			for _, c := range loadCheckpoints(t, dir, name, r.Name) {
				if oracles[c.Off] == nil {
					offsets = append(offsets, c.Off)
				}
				oracles[c.Off] = append(oracles[c.Off], c)
			}
		}
		offsets = sortedInts(offsets)
		if len(offsets) == 0 {
			t.Logf("%-16s nothing is expected of it", r.Name)
			missing++
			continue
		}
		var first []*screen.Snapshot
		for i, p := range pieces {
			var sc score
			var notes []string
			k := 0
			play(r, p.cut(r), offsets, func(off int, s *screen.Screen) {
				n := s.Snapshot()
				if i == 0 {
					first = append(first, n)
				} else if !n.Equal(first[k]) {
					t.Errorf("%s: written in %s the state at %d is another: %s", r.Name, p.name, off, firstDifference(first[k], n))
				}
				k++
				one, why := compare(n, oracles[off])
				sc.add(one)
				for _, w := range why {
					notes = append(notes, fmt.Sprintf("at byte %d: %s", off, w))
				}
			})
			if i > 0 {
				continue
			}
			t.Logf("%-16s %2d checkpoints: %v", r.Name, len(offsets), sc)
			for i, n := range notes {
				if i < 12 {
					t.Logf("    %s", n)
				}
			}
			total.add(sc)
		}
	}
	hand := conformHand(t, filepath.Join(dir, "hand"))
	report := t.Logf
	if total.wrong() > 0 {
		report = t.Errorf
	}
	report("total: %v; %d hand-made sequences wrong; %d recordings of which nothing is expected", total, hand, missing)
}

// conformHand checks the hand-made sequences and returns how many are wrong.
func conformHand(t *testing.T, dir string) (wrong int) {
	for _, r := range loadRecordings(t, dir) {
		for _, p := range pieces {
			play(r, p.cut(r), []int{len(r.raw)}, func(_ int, s *screen.Screen) {
				n := s.Snapshot()
				got := screenText(n)
				cur := n.Cursor()
				if r.Want != nil && *r.Want != "" {
					want := strings.TrimRight(strings.Join(trimRows(strings.Split(*r.Want, "|")), "\n"), "\n")
					if got != want || r.CX >= 0 && (cur.X != r.CX && !(cur.Pending && cur.X+1 == r.CX) || cur.Y != r.CY) {
						wrong++
						t.Errorf("%s in %s: got %q, cursor %d,%d; want %q, %d,%d", r.Name, p.name, got, cur.X, cur.Y, want, r.CX, r.CY)
					}
					return
				}
				// No judgement was made: one of the terminals must agree.
				ok, told := false, false
				for _, oracle := range []string{"xterm", "tmux"} {
					b, err := os.ReadFile(filepath.Join(dir, "expected", oracle, r.Name+".txt"))
					if err == nil {
						told = true
						ok = ok || string(bytes.TrimRight(b, "\n")) == got
					}
				}
				if told && !ok {
					wrong++
					t.Errorf("%s in %s: %q is what no oracle shows", r.Name, p.name, got)
				}
			})
		}
	}
	return wrong
}

func trimRows(rows []string) []string {
	for i, r := range rows {
		rows[i] = strings.TrimRight(r, " ")
	}
	return rows
}

// screenText is the text of the screen without trailing blanks.
func screenText(n *screen.Snapshot) string {
	_, rows := n.Size()
	var b []byte
	for y := range rows {
		b = n.AppendRow(b, y)
		b = append(b, '\n')
	}
	return string(bytes.TrimRight(b, "\n"))
}
