package screen

// A Style is how the text of a Canvas looks.
type Style struct {
	Fg, Bg Color
	Attr   Attr
}

// A Canvas composes a picture out of a snapshot's cells and text of one's own:
// the part of a screen that fits a window, its edge, a notice over it. The
// picture is a Snapshot again, so that AppendDiff paints it. Every position
// and length is in cells, and clipped to the canvas.
type Canvas struct {
	base *Snapshot
	n    *Snapshot
}

// NewCanvas returns a canvas of the given size.
//
// With the size of base it shows base, and the picture has all of its state
// but for a sequence that base ends in the middle of: the diff from base to the
// picture puts something over the screen, and the diff back takes it away.
//
// With another size it is blank, and its picture is one of the alternate
// screen, whose programs' needs (title, colours, cursor style, modes of mouse,
// keyboard and pasting) are those of base, and with the default margins and
// tab stops.
func NewCanvas(base *Snapshot, cols, rows int) *Canvas {
	cols, rows = clampSize(cols, rows)
	n := *base
	c := &Canvas{base: base, n: &n}
	n.pending, n.lastChar = nil, 0
	n.modes.put(ModeSynchronized, false)
	if cols == base.cols && rows == base.height {
		n.rows = append([]*row(nil), base.rows...)
		return c
	}
	n.cols, n.height = cols, rows
	n.alt = true
	n.cur = cursor{}
	n.saved = [2]cursor{}
	n.kitty = [2]kittyStack{onAlt: {flags: base.kitty[base.which()].flags}}
	n.top, n.bottom, n.left, n.right = 0, rows, 0, cols
	n.modes.put(ModeInsert, false)
	n.modes.put(ModeLeftRightMargin, false)
	n.modes.put(ModeAutowrap, true)
	n.tabs = defaultTabs(cols)
	n.titles, n.pens = nil, nil
	n.savedModes = 0
	n.hist = history{}
	all := make([]*row, 2*rows)
	for y := range all {
		all[y] = &emptyRow
	}
	n.rows, n.back = all[:rows:rows], all[rows:]
	return c
}

// edit returns row y with all cells, to be written to.
func (c *Canvas) edit(y int) *row {
	old := c.n.rows[y]
	r := &row{cells: make([]Cell, c.n.cols)}
	copy(r.cells, old.cells)
	c.n.rows[y] = r
	return r
}

// clip cuts a span at the canvas' right edge.
func (c *Canvas) clip(x, y, width int) (int, bool) {
	if x < 0 || y < 0 || x >= c.n.cols || y >= c.n.height || width <= 0 {
		return 0, false
	}
	return min(width, c.n.cols-x), true
}

// Draw copies width times height cells of the base from column and row sx, sy
// to x, y. Wide characters of which only a half is in that part are left out.
func (c *Canvas) Draw(x, y, sx, sy, width, height int) {
	for i := range height {
		w, ok := c.clip(x, y+i, min(width, c.base.cols-sx))
		if !ok || sx < 0 || sy+i < 0 || sy+i >= c.base.height {
			continue
		}
		src := c.base.rows[sy+i]
		if len(src.cells) <= sx && c.n.rows[y+i] == &emptyRow {
			continue
		}
		r := c.edit(y + i)
		r.split(x)
		r.split(x + w)
		part := r.cells[x : x+w]
		clear(part)
		if sx < len(src.cells) {
			copy(part, src.cells[sx:])
		}
		cutWide(part)
	}
}

// Fill puts a character of one column into width times height cells.
func (c *Canvas) Fill(x, y, width, height int, char rune, st Style) {
	cell := style{fg: st.Fg, bg: st.Bg, attr: st.Attr}.cell(uint32(char))
	if runeWidth(char) != 1 || char < ' ' {
		cell.char = ' '
	}
	cell.normalize()
	for i := range height {
		w, ok := c.clip(x, y+i, width)
		if !ok {
			continue
		}
		r := c.edit(y + i)
		r.split(x)
		r.split(x + w)
		fill(r.cells[x:x+w], cell)
	}
}

// Text writes text from column x of row y on, in at most width columns, and
// returns the columns that it took. Control characters and characters of no
// width are left out.
func (c *Canvas) Text(x, y, width int, text string, st Style) int {
	width, ok := c.clip(x, y, width)
	if !ok {
		return 0
	}
	r := c.edit(y)
	pen := style{fg: st.Fg, bg: st.Bg, attr: st.Attr}
	used := 0
	for _, ch := range text {
		w := runeWidth(ch)
		if ch < ' ' || ch >= 0x7f && ch < 0xa0 || w == 0 {
			continue
		}
		if used+w > width {
			break
		}
		r.open(x+used, x+used+w, c.n.cols)
		cell := pen.cell(uint32(ch))
		if w == 2 {
			cell.char |= charWide
			r.cells[x+used+1] = pen.cell(charTail)
		}
		cell.normalize()
		r.cells[x+used] = cell
		used += w
	}
	return used
}

// TextWidth is the number of columns that Canvas.Text takes for text, if there
// is room.
func TextWidth(text string) int {
	n := 0
	for _, ch := range text {
		if ch >= ' ' && (ch < 0x7f || ch >= 0xa0) {
			n += runeWidth(ch)
		}
	}
	return n
}

// Cursor puts the cursor at x, y, or hides it.
func (c *Canvas) Cursor(x, y int, visible bool) {
	cur := &c.n.cur
	if x >= 0 && y >= 0 && x < c.n.cols && y < c.n.height && (x != cur.x || y != cur.y) {
		cur.x, cur.y, cur.pending = x, y, false
	}
	c.n.modes.put(ModeCursorVisible, visible)
}

// Snapshot returns the picture. The canvas must not be used after it.
func (c *Canvas) Snapshot() *Snapshot {
	if cur := &c.n.cur; cur.pending {
		// See Screen.settlePending.
		r := c.n.rows[cur.y]
		cur.pending = !r.wrapped && r.at(cur.x).char&charWide == 0
	}
	return c.n
}
