package screen

// rows makes the shown screen's rows those of want.
func (d *differ) rows(want []*row, main bool) {
	d.lead = false
	changed, text := 0, 0
	for y, r := range want {
		if d.have[y] != r && d.from.sameRow(d.have[y], d.to, r) {
			d.have[y] = r
		}
		if d.have[y] != r {
			changed++
			if len(r.cells) > 0 {
				text++
			}
		}
	}
	if changed == 0 {
		return
	}
	d.neutral()
	if text > 2 && d.modes.has(ModeCursorVisible) {
		d.putMode(ModeCursorVisible, false)
	}
	if !main || !d.inPlace {
		d.scroll(want, main)
	}
	d.clearBelow(want)
	for y := range want {
		if d.lead || d.have[y] != want[y] {
			d.paintRow(y, want)
		}
	}
}

// spoil notes that the terminal's cell at x, y is not known any more.
func (d *differ) spoil(x, y int) {
	r := row{wrapped: d.have[y].wrapped}
	r.cells = append(r.cells, d.have[y].cells...)
	r.extend(d.cols, d.cols)
	if r.cells[x].char&charTail != 0 && x > 0 {
		r.cells[x-1] = unknownCell(r.cells[x-1])
	}
	if r.cells[x].char&charWide != 0 && x+1 < d.cols {
		r.cells[x+1] = unknownCell(r.cells[x+1])
	}
	r.cells[x] = unknownCell(r.cells[x])
	d.have[y] = &r
}

// scroll moves the largest block of rows that is to be shown elsewhere.
func (d *differ) scroll(want []*row, main bool) {
	gone := 0 // rows that the program scrolled off the top
	if main && d.from.table.owner == d.to.table.owner && d.from.resizes == d.to.resizes {
		gone = int(min(d.to.hist.total-d.from.hist.total, uint64(d.height)))
	}
	y0, y1, by := d.movedBlock(want)
	switch {
	case y0 == y1:
		if gone == 0 {
			return
		}
		// Nothing of the old screen is left, down to what did not move. It
		// goes where the program sent it: into the terminal's scrollback.
		bottom := d.height
		for bottom > 0 && d.have[bottom-1] == want[bottom-1] {
			bottom--
		}
		if bottom < 2 {
			return
		}
		d.shift(0, bottom, min(gone, bottom), true)
	case by > 0 && gone >= by:
		// The rows above them left through the top.
		d.shift(0, y1+by, by, true)
	case by > 0:
		d.shift(y0, y1+by, by, false)
	default:
		d.shift(y0+by, y1, by, false)
	}
}

// movedBlock finds the rows y0..y1 of want that the terminal has by rows
// further down (or up, where by is negative); of several blocks the one with
// the most cells.
func (d *differ) movedBlock(want []*row) (y0, y1, by int) {
	best := 2 * d.cols / 3 // cells; a scroll costs more than a short row
	best = min(best, 24)
	at := make(map[*row]int, len(d.have))
	for i, r := range d.have {
		if r != &emptyRow && r != want[i] {
			at[r] = i
		}
	}
	for y := 0; y < len(want); {
		if want[y] == d.have[y] || len(want[y].cells) == 0 {
			y++
			continue
		}
		i, ok := at[want[y]]
		if !ok {
			y++
			continue
		}
		end, cells := y, 0
		for end < len(want) && end+i-y < len(want) && want[end] == d.have[end+i-y] {
			cells += len(want[end].cells)
			end++
		}
		if cells > best {
			best, y0, y1, by = cells, y, end, i-y
		}
		y = end
	}
	return y0, y1, by
}

// shift scrolls rows top..bottom up by n, or down if n is negative. Feed says
// to use line feeds, so that what leaves the top enters the scrollback.
func (d *differ) shift(top, bottom, n int, feed bool) {
	d.setPen(style{})
	part := top != 0 || bottom != d.height
	if part {
		d.seq2(top+1, bottom, 'r')
		d.x, d.y, d.pending = 0, 0, false
	}
	if feed {
		d.move(0, bottom-1)
		for range n {
			d.b = append(d.b, asciiLF)
		}
		d.unwrap(bottom - 1)
	} else if n > 0 {
		d.unpend()
		d.seq(n, 'S')
	} else {
		d.unpend()
		d.seq(-n, 'T')
	}
	if part {
		d.b = append(d.b, "\x1b[r"...)
		d.x, d.y, d.pending = 0, 0, false
	}
	block := d.have[top:bottom]
	if n > 0 {
		k := copy(block, block[n:])
		for i := range block[k:] {
			block[k+i] = &emptyRow
		}
		return
	}
	copy(block[-n:], block)
	for i := range -n {
		block[i] = &emptyRow
	}
	if bottom == d.height {
		d.unwrap(bottom - 1)
	}
}

// unwrap notes that a row is no longer marked as wrapped.
func (d *differ) unwrap(y int) {
	if r := d.have[y]; r.wrapped {
		d.have[y] = &row{cells: r.cells}
	}
}

// unpend moves the cursor out of a pending wrap, which would unmark whatever
// row is scrolled under it.
func (d *differ) unpend() {
	if d.pending || d.x < 0 {
		d.x = -1
		d.move(0, 0)
	}
}

// clearBelow clears the rows at the bottom that are to be blank, where that is
// shorter than clearing each.
func (d *differ) clearBelow(want []*row) {
	y := len(want)
	dirty := 0
	for y > 0 && blankRow(want[y-1]) {
		y--
		if !blankRow(d.have[y]) {
			dirty++
		}
	}
	if dirty < 2 || y == 0 && d.inPlace {
		return
	}
	d.setPen(style{})
	d.move(0, y)
	d.b = append(d.b, "\x1b[J"...)
	for ; y < len(want); y++ {
		d.have[y] = &emptyRow
	}
}

func blankRow(r *row) bool {
	for _, c := range r.cells {
		if c != (Cell{}) {
			return false
		}
	}
	return !r.wrapped
}

// load takes a row as the terminal has it, in cells of the table of to. Cells
// that cannot be told to be equal are marked as unknown.
func (d *differ) load(y int, want *row) {
	have := d.have[y]
	d.line.wrapped = have.wrapped
	d.line.cells = append(d.line.cells[:0], have.cells...)
	d.line.extend(d.cols, d.cols)
	if d.from.table == d.to.table || have == d.drawn || have == want {
		return
	}
	for x := range have.cells {
		c := &d.line.cells[x]
		if c.char&charCluster == 0 && c.ext == 0 {
			continue
		}
		if b := want.at(x); d.from.sameCell(*c, d.to, b) {
			*c = b
		} else {
			*c = unknownCell(*c)
		}
	}
}

// unknownCell is equal to no cell of a screen, and as wide as c.
func unknownCell(c Cell) Cell {
	return Cell{char: c.char&(charWide|charTail) | charMask}
}

// forget marks the halves of wide characters that writing to x0..x1 cuts:
// terminals differ in what they leave there.
func (d *differ) forget(x0, x1 int) {
	cells := d.line.cells
	if x0 > 0 && x0 < len(cells) && cells[x0].char&charTail != 0 {
		cells[x0-1] = Cell{char: charMask}
		cells[x0] = Cell{char: charMask}
	}
	if x1 > 0 && x1 < len(cells) && cells[x1].char&charTail != 0 {
		cells[x1-1] = Cell{char: charMask}
		cells[x1] = Cell{char: charMask}
	}
}

// wrote notes that the cells x0..x1 are as wanted now.
func (d *differ) wrote(x0, x1 int, want *row) {
	d.forget(x0, x1)
	for x := x0; x < x1; x++ {
		d.line.cells[x] = want.at(x)
	}
	if x1 == d.cols {
		d.line.wrapped = false
	}
}

const (
	// Runs of this many cells are erased by ECH, or repeated by REP, rather
	// than written out.
	minErase  = 10
	minRepeat = 8
)

// paintRow makes row y what it is to be.
func (d *differ) paintRow(y int, rows []*row) {
	want := rows[y]
	d.load(y, want)
	x := 0
	if d.lead {
		x = d.leadCell(y, rows)
	}
	// From tail on the row is blank in one colour.
	tail := d.cols
	var last Cell
	if c := want.at(d.cols - 1); c.erased() {
		last = c
		if tail = d.cols; c == (Cell{}) {
			tail = len(want.cells)
		}
		for tail > 0 && want.at(tail-1) == last {
			tail--
		}
	}
	for x < tail {
		c := want.cells[x]
		if d.line.cells[x] == c {
			x++
			continue
		}
		if c.char&charTail != 0 {
			x--
			c = want.cells[x]
		}
		x += d.paintCells(x, y, tail, want, c)
	}
	for x = max(x, tail); x < d.cols; x++ {
		if d.line.cells[x] != last {
			d.move(x, y)
			d.setPen(style{bg: last.Bg})
			d.b = append(d.b, "\x1b[K"...)
			d.wrote(x, d.cols, want)
			break
		}
	}
	d.have[y] = want
	d.paintWrap(y, want)
}

// paintCells paints cell c at x, and as many after it as one sequence can; it
// returns their number.
func (d *differ) paintCells(x, y, tail int, want *row, c Cell) int {
	n := 1
	if c.char&(charWide|charCluster) == 0 {
		for x+n < tail && want.cells[x+n] == c && d.line.cells[x+n] != c {
			n++
		}
	}
	d.reach(x, y)
	switch {
	case c.erased() && n >= minErase:
		d.setPen(style{bg: c.Bg})
		d.seq(n, 'X')
	case n >= minRepeat && x+n < d.cols && c.char < 0x80:
		// tmux, for one, repeats nothing but ASCII.
		d.cell(c)
		d.seq(n-1, 'b')
		d.advance(n - 1)
	default:
		n = c.Width()
		d.cell(c)
	}
	d.wrote(x, x+n, want)
	return n
}

// reach moves the cursor to x in row y, over short gaps by printing again what
// is there.
func (d *differ) reach(x, y int) {
	if y == d.y && d.x >= 0 && x > d.x && d.skip(x, d.line.cells) {
		return
	}
	d.move(x, y)
}

// skip moves the cursor right to x by printing the cells on the way, if they
// are few and in the present rendition.
func (d *differ) skip(x int, cells []Cell) bool {
	const most = 4 // cells; a movement takes as many bytes
	if d.pending || x-d.x > most || d.modes.has(ModeInsert) || d.sets.active() != charsetASCII {
		return false
	}
	for i := d.x; i < x; i++ {
		var c Cell
		if i < len(cells) {
			c = cells[i]
		}
		if c.char >= 0x80 || c.ext != 0 || c.style() != d.pen {
			return false
		}
	}
	for i := d.x; i < x; i++ {
		var c Cell
		if i < len(cells) {
			c = cells[i]
		}
		d.cell(c)
	}
	return true
}

// move is the writer's, and line feeds to the next row unless that would take
// a wrap mark away.
func (d *differ) move(x, y int) {
	if x == 0 && d.x >= 0 && y == d.y+1 && !d.have[d.y].wrapped {
		if d.x > 0 || d.pending {
			d.b = append(d.b, asciiCR)
		}
		d.b = append(d.b, asciiLF)
		d.x, d.y, d.pending = 0, y, false
		return
	}
	d.writer.move(x, y)
}

// paintWrap makes the row's wrap mark what it is to be: the mark is set by
// wrapping, and taken away by writing the last column.
func (d *differ) paintWrap(y int, want *row) {
	if want.wrapped == d.line.wrapped {
		return
	}
	if d.x < 0 || d.y != y || !d.pending {
		d.lastCell(y, want)
	}
	d.lead = want.wrapped
}

// lastCell prints what is in the last column of a row, so that a wrap is pending.
func (d *differ) lastCell(y int, want *row) {
	x := d.cols - 1
	c := want.at(x)
	if c.char&charTail != 0 {
		x--
		c = want.at(x)
	}
	d.move(x, y)
	d.cell(c)
	d.x, d.pending = d.cols-1, true
}

// leadCell prints the first cell of row y out of the pending wrap of the row
// above, and returns its width.
func (d *differ) leadCell(y int, rows []*row) int {
	d.lead = false
	above := rows[y-1].at(d.cols - 1)
	risky := uncertain(above) || d.cols > 1 && above.char&charTail != 0 && uncertain(rows[y-1].at(d.cols-2))
	want := rows[y]
	c := want.at(0)
	d.x, d.y, d.pending = 0, y, false
	d.cell(c)
	if risky {
		// It may have gone elsewhere, on a terminal with other ideas about widths.
		d.x = -1
		d.move(0, y)
		d.cell(c)
	}
	d.wrote(0, c.Width(), want)
	return c.Width()
}
