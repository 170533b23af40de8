package screen

import "bytes"

// A Snapshot is the state of a Screen at one moment: both screens, cursors,
// modes and all else that AppendDiff restores. It is immutable and safe for
// use by any number of goroutines.
type Snapshot struct {
	state
	rows []*row
	back []*row
	hist history

	clusters []string
	exts     []extent
	table    tables

	pending []byte
	gen     uint64
	resizes uint64
	bells   uint64
}

// Snapshot returns the present state. The first write to a row after it copies
// that row; otherwise it costs two short copies.
func (s *Screen) Snapshot() *Snapshot {
	if s.last != nil {
		return s.last
	}
	n := &Snapshot{
		state:    s.state,
		hist:     s.hist.freeze(),
		clusters: s.clusters.texts,
		exts:     s.exts.list,
		table:    s.tableID(),
		pending:  s.appendPending(nil),
		gen:      s.gen,
		resizes:  s.resizes,
		bells:    s.bells,
	}
	rows := make([]*row, len(s.rows)+len(s.back))
	n.rows = rows[:copy(rows, s.rows):len(s.rows)]
	if s.back != nil {
		n.back = rows[len(s.rows):]
		copy(n.back, s.back)
	}
	s.epoch++
	clear(s.free)
	s.free = s.free[:0]
	s.last = n
	return n
}

// Size returns the size in cells.
func (n *Snapshot) Size() (cols, rows int) { return n.cols, n.height }

// Generation returns the Screen's Generation at the time of the snapshot.
func (n *Snapshot) Generation() uint64 { return n.gen }

// Bells returns how often BEL rang since the Screen was made.
func (n *Snapshot) Bells() uint64 { return n.bells }

// Alternate reports whether the alternate screen is shown.
func (n *Snapshot) Alternate() bool { return n.alt }

// Title returns the window title.
func (n *Snapshot) Title() string { return n.title }

// Mode reports whether a mode is set.
func (n *Snapshot) Mode(m Mode) bool {
	if m == ModeOrigin {
		return n.cur.origin
	}
	return n.modes.has(m)
}

// Pending returns the bytes of the sequence in whose middle the input ended:
// written to a parser in ground state they bring it to the same place. It is
// empty between sequences. Control characters that were executed inside the
// sequence are left out. The caller must not change the slice.
func (n *Snapshot) Pending() []byte { return n.pending }

// A CursorState is the cursor as it is seen.
type CursorState struct {
	X, Y    int  // column and row, from 0
	Visible bool // DECTCEM
	Style   int  // DECSCUSR 0..6
	Pending bool // in the last column, and the next character wraps first
}

// Cursor returns the cursor.
func (n *Snapshot) Cursor() CursorState {
	return CursorState{n.cur.x, n.cur.y, n.modes.has(ModeCursorVisible), int(n.cursorStyle), n.cur.pending}
}

// Row returns the cells of row y of the shown screen up to the last one that
// was used; those after it are zero. The caller must not change the slice.
func (n *Snapshot) Row(y int) []Cell { return n.rows[y].cells }

// Cell returns one cell of the shown screen.
func (n *Snapshot) Cell(x, y int) Cell { return n.rows[y].at(x) }

// Wrapped reports whether the row after y continues the text of row y.
func (n *Snapshot) Wrapped(y int) bool { return n.rows[y].wrapped }

// SameRow reports whether row y of n is known, without looking at its cells,
// to be row oy of o. False means that it may still be equal.
func (n *Snapshot) SameRow(y int, o *Snapshot, oy int) bool { return n.rows[y] == o.rows[oy] }

// AppendText appends the text of a cell of this snapshot: a space for a blank,
// nothing for the tail of a wide character.
func (n *Snapshot) AppendText(dst []byte, c Cell) []byte { return c.appendChar(dst, n.clusters) }

// AppendRow appends the text of row y without its trailing blanks.
func (n *Snapshot) AppendRow(dst []byte, y int) []byte {
	mark := len(dst)
	for _, c := range n.rows[y].cells {
		dst = c.appendChar(dst, n.clusters)
	}
	return append(dst[:mark], bytes.TrimRight(dst[mark:], " ")...)
}

// Link returns the hyperlink (OSC 8) of a cell of this snapshot; its URI is
// empty if there is none.
func (n *Snapshot) Link(c Cell) (id, uri string) {
	x := n.exts[c.ext]
	return x.id, x.uri
}

// UnderlineColor returns the colour that the underline of a cell of this
// snapshot is drawn in; the default is that of the text.
func (n *Snapshot) UnderlineColor(c Cell) Color { return n.exts[c.ext].underline }
