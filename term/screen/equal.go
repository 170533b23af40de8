package screen

import (
	"bytes"
	"slices"
	"strconv"
)

// Equal reports whether two snapshots are the same state, of the same size:
// everything but the scrollback and the counters. They may come from
// different Screens.
func (n *Snapshot) Equal(o *Snapshot) bool { return n.difference(o) == "" }

// difference names the first part of the state in which two snapshots differ.
func (n *Snapshot) difference(o *Snapshot) string {
	switch {
	case n == o:
		return ""
	case n.cols != o.cols || n.height != o.height:
		return "size"
	case n.alt != o.alt:
		return "alternate screen"
	case !bytes.Equal(n.pending, o.pending):
		return "pending sequence"
	case !n.sameCursor(&n.cur, o, &o.cur):
		return "cursor"
	case !n.sameCursor(&n.saved[onMain], o, &o.saved[onMain]):
		return "saved cursor of the main screen"
	case !n.sameCursor(&n.saved[onAlt], o, &o.saved[onAlt]):
		return "saved cursor of the alternate screen"
	case n.kitty != o.kitty:
		return "keyboard flags"
	case n.top != o.top || n.bottom != o.bottom || n.left != o.left || n.right != o.right:
		return "margins"
	case n.modes != o.modes:
		return "modes"
	case n.savedModes != o.savedModes:
		return "saved modes"
	case !slices.Equal(n.tabs, o.tabs):
		return "tab stops"
	case n.cursorStyle != o.cursorStyle:
		return "cursor style"
	case n.modKeys != o.modKeys || n.fmtKeys != o.fmtKeys:
		return "key modifiers"
	case n.title != o.title || n.icon != o.icon:
		return "title"
	case !slices.Equal(n.titles, o.titles):
		return "title stack"
	case !slices.EqualFunc(n.pens, o.pens, func(a, b style) bool { return n.sameStyle(a, o, b) }):
		return "rendition stack"
	case !samePalette(n.palette, o.palette):
		return "palette"
	case n.lastChar != o.lastChar:
		return "last character"
	}
	for y, r := range n.rows {
		if !n.sameRow(r, o, o.rows[y]) {
			return "row " + strconv.Itoa(y)
		}
	}
	for y, r := range n.back {
		if !n.sameRow(r, o, o.back[y]) {
			return "row " + strconv.Itoa(y) + " of the main screen"
		}
	}
	return ""
}

func samePalette(a, b *palette) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || *a == *b
}

func (n *Snapshot) sameCursor(a *cursor, o *Snapshot, b *cursor) bool {
	return a.x == b.x && a.y == b.y && a.pending == b.pending && a.origin == b.origin &&
		a.sets == b.sets && n.sameStyle(a.pen, o, b.pen)
}

func (n *Snapshot) sameStyle(a style, o *Snapshot, b style) bool {
	if a.ext != 0 || b.ext != 0 {
		if n.table != o.table && n.exts[a.ext] != o.exts[b.ext] || n.table == o.table && a.ext != b.ext {
			return false
		}
		a.ext, b.ext = 0, 0
	}
	return a == b
}

// sameCell compares a cell of n with one of o.
func (n *Snapshot) sameCell(a Cell, o *Snapshot, b Cell) bool {
	if a == b && (n.table == o.table || a.char&charCluster == 0 && a.ext == 0) {
		return true
	}
	if n.table == o.table || !n.sameStyle(a.style(), o, b.style()) {
		return false
	}
	if a.char&charCluster == 0 || b.char&charCluster == 0 {
		return a.char == b.char
	}
	return a.char&charWide == b.char&charWide && n.clusters[a.char&charMask] == o.clusters[b.char&charMask]
}

func (n *Snapshot) sameRow(a *row, o *Snapshot, b *row) bool {
	if a == b {
		return true
	}
	if a.wrapped != b.wrapped {
		return false
	}
	return n.sameCells(a.cells, o, b.cells)
}

func (n *Snapshot) sameCells(a []Cell, o *Snapshot, b []Cell) bool {
	if len(a) > len(b) {
		return o.sameCells(b, n, a)
	}
	for i := range a {
		if !n.sameCell(a[i], o, b[i]) {
			return false
		}
	}
	for _, c := range b[len(a):] {
		if c != (Cell{}) {
			return false
		}
	}
	return true
}
