package screen

// A row is one line of a screen. Cells at and after len(cells) are zero, so
// that clearing, copying and comparing touch only what was used.
//
// Rows are shared with snapshots by pointer: a row whose epoch is not the
// screen's may be part of a snapshot and is cloned before it is written to.
// Two equal pointers are therefore the same content for ever.
type row struct {
	cells   []Cell
	wrapped bool // the last column was passed by autowrap: the next row continues this one
	epoch   uint64
}

// at returns the cell at column x.
func (r *row) at(x int) Cell {
	if x < len(r.cells) {
		return r.cells[x]
	}
	return Cell{}
}

// extend makes cells[:n] addressable.
func (r *row) extend(n, cols int) {
	have := len(r.cells)
	if n <= have {
		return
	}
	if n > cap(r.cells) {
		cells := make([]Cell, n, max(cols, n))
		copy(cells, r.cells)
		r.cells = cells
		return
	}
	r.cells = r.cells[:n]
	clear(r.cells[have:])
}

// erase makes cells[x0:x1] blanks with the given background. A wide
// character that begins there goes with all of it; of one that ends there the
// other half stays as a blank in its colours.
func (r *row) erase(x0, x1, cols int, bg Color) {
	if x1 > cols {
		x1 = cols
	}
	if x0 >= x1 {
		return
	}
	r.split(x0)
	if x1 < len(r.cells) && r.cells[x1].char&charTail != 0 {
		r.cells[x1] = Cell{Bg: bg}
	}
	if x1 == cols {
		r.wrapped = false
	}
	if bg == 0 && x1 >= len(r.cells) {
		if x0 < len(r.cells) {
			r.cells = r.cells[:x0]
		}
		return
	}
	if bg == 0 {
		clear(r.cells[x0:x1])
		return
	}
	r.extend(x1, cols)
	fill(r.cells[x0:x1], Cell{Bg: bg})
}

// split replaces a wide character that straddles the boundary before column x
// by two blanks in its colours.
func (r *row) split(x int) {
	if x <= 0 || x >= len(r.cells) || r.cells[x].char&charTail == 0 {
		return
	}
	r.blank(x - 1)
	r.blank(x)
}

// blank takes the character out of a cell and leaves its rendition.
func (r *row) blank(x int) {
	c := &r.cells[x]
	c.char = ' '
	c.normalize()
}

// normalize turns a space that looks like an erased cell into one.
func (c *Cell) normalize() {
	if c.char == ' ' && c.Fg == 0 && c.Attr == 0 && c.ext == 0 {
		c.char = 0
	}
}

func fill(cells []Cell, c Cell) {
	for i := range cells {
		cells[i] = c
	}
}
