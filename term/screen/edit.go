package screen

// scrollUp moves rows top..bottom (exclusive) up by n between the left and
// right margins. Rows that leave the top of the main screen are remembered.
func (s *Screen) scrollUp(top, bottom, n int) {
	s.removeRows(top, bottom, n, top == 0 && !s.alt)
}

// removeRows takes n rows at top out, with the rows below up to bottom moving
// up; keep says that those that are taken out are history.
func (s *Screen) removeRows(top, bottom, n int, keep bool) {
	n = min(n, bottom-top)
	if n <= 0 {
		return
	}
	left, right := s.margins()
	if left > 0 || right < s.cols {
		for y := top; y < bottom-n; y++ {
			s.copyCells(y, y+n, left, right)
		}
		for y := bottom - n; y < bottom; y++ {
			s.mut(y).erase(left, right, s.cols, s.cur.pen.bg)
		}
		return
	}
	for y := top; y < top+n; y++ {
		if keep {
			s.remember(s.rows[y])
		} else {
			s.recycle(s.rows[y])
		}
	}
	copy(s.rows[top:bottom-n], s.rows[top+n:bottom])
	for y := bottom - n; y < bottom; y++ {
		r := s.newRow()
		s.paint(r)
		s.rows[y] = r
	}
	s.settlePending()
}

// scrollDown moves rows top..bottom down by n.
func (s *Screen) scrollDown(top, bottom, n int) {
	n = min(n, bottom-top)
	if n <= 0 {
		return
	}
	left, right := s.margins()
	if left > 0 || right < s.cols {
		for y := bottom - 1; y >= top+n; y-- {
			s.copyCells(y, y-n, left, right)
		}
		for y := top; y < top+n; y++ {
			s.mut(y).erase(left, right, s.cols, s.cur.pen.bg)
		}
		return
	}
	for y := bottom - n; y < bottom; y++ {
		s.recycle(s.rows[y])
	}
	copy(s.rows[top+n:bottom], s.rows[top:bottom-n])
	for y := top; y < top+n; y++ {
		r := s.newRow()
		s.paint(r)
		s.rows[y] = r
	}
	// What the last row went on in is gone.
	if last := s.height - 1; bottom-1 == last && s.rows[last].wrapped {
		s.mut(last).wrapped = false
	}
	s.settlePending()
}

// copyCells copies columns left..right of row from to row to.
func (s *Screen) copyCells(to, from, left, right int) {
	src := s.rows[from]
	dst := s.mut(to)
	dst.split(left)
	dst.split(right)
	dst.extend(min(right, max(len(dst.cells), len(src.cells))), s.cols)
	for x := left; x < right; x++ {
		if x < len(dst.cells) {
			dst.cells[x] = src.at(x)
		}
	}
	// Halves of wide characters that stayed behind in the source row.
	if left < len(dst.cells) && dst.cells[left].char&charTail != 0 {
		dst.blank(left)
	}
	if right <= len(dst.cells) && dst.cells[right-1].char&charWide != 0 {
		dst.blank(right - 1)
	}
	if right == s.cols {
		dst.wrapped = false
	}
}

// insertLines and deleteLines are IL and DL: nothing outside the margins.
func (s *Screen) insertLines(n int) {
	left, right := s.margins()
	if s.cur.y < s.top || s.cur.y >= s.bottom || s.cur.x < left || s.cur.x >= right {
		return
	}
	s.cur.pending = false
	s.scrollDown(s.cur.y, s.bottom, n)
	s.cur.x = left
}

func (s *Screen) deleteLines(n int) {
	left, right := s.margins()
	if s.cur.y < s.top || s.cur.y >= s.bottom || s.cur.x < left || s.cur.x >= right {
		return
	}
	s.cur.pending = false
	s.removeRows(s.cur.y, s.bottom, n, false)
	s.cur.x = left
}

// insertCells moves the cells at x up to the right margin by n.
func (s *Screen) insertCells(r *row, x, right, n int) {
	n = min(n, right-x)
	if n <= 0 {
		return
	}
	r.split(x)
	r.split(right)
	if x < len(r.cells) {
		end := min(len(r.cells)+n, right)
		if len(r.cells) > right {
			end = right
		}
		r.extend(end, s.cols)
		copy(r.cells[x+n:end], r.cells[x:])
		if end <= len(r.cells) && r.cells[end-1].char&charWide != 0 {
			r.blank(end - 1)
		}
	}
	// The gap is erased; nothing straddles its ends any more.
	r.erase(x, x+n, s.cols, s.cur.pen.bg)
	if right == s.cols {
		r.wrapped = false
	}
}

// deleteCells moves the cells after x, up to the right margin, left by n.
func (s *Screen) deleteCells(n int) {
	left, right := s.margins()
	x := s.cur.x
	if x < left || x >= right {
		return
	}
	s.cur.pending = false
	n = min(n, right-x)
	r := s.mut(s.cur.y)
	r.split(x)
	r.split(x + n)
	r.split(right)
	if end := min(len(r.cells), right); x+n < end {
		copy(r.cells[x:], r.cells[x+n:end])
		clear(r.cells[end-n : end])
	} else if x < end {
		r.erase(x, end, s.cols, 0)
	}
	r.erase(right-n, right, s.cols, s.cur.pen.bg)
}

// insertBlanks is ICH.
func (s *Screen) insertBlanks(n int) {
	left, right := s.margins()
	if s.cur.x < left || s.cur.x >= right {
		return
	}
	s.cur.pending = false
	s.insertCells(s.mut(s.cur.y), s.cur.x, right, n)
}

// shiftColumns is DECIC, DECDC, SL and SR: in all rows between the margins, n
// columns are inserted at x (or deleted, if n is negative). Nothing happens with
// the cursor outside the margins.
func (s *Screen) shiftColumns(x, n int) {
	left, right := s.margins()
	if s.cur.y < s.top || s.cur.y >= s.bottom || s.cur.x < left || s.cur.x >= right {
		return
	}
	cur := s.cur
	for y := s.top; y < s.bottom; y++ {
		if n > 0 {
			s.insertCells(s.mut(y), x, right, n)
			continue
		}
		s.cur.x, s.cur.y = x, y
		s.deleteCells(-n)
	}
	s.cur = cur
	s.settlePending()
}

// eraseRow erases columns x0..x1 of a row; selective leaves what is protected
// (DECSCA).
func (s *Screen) eraseRow(y, x0, x1 int, selective bool) {
	if !selective {
		if x0 == 0 && x1 >= s.cols {
			s.clearRow(y)
			return
		}
		s.mut(y).erase(x0, x1, s.cols, s.cur.pen.bg)
		return
	}
	r := s.mut(y)
	for x := x0; x < x1; x++ {
		if r.at(x).Attr&AttrProtected == 0 {
			r.erase(x, x+1, s.cols, s.cur.pen.bg)
		}
	}
}

// eraseLine is EL and DECSEL. With a wrap pending the last column is erased
// too, as in xterm.
func (s *Screen) eraseLine(how int, selective bool) {
	pending := s.cur.pending
	s.cur.pending = false
	switch how {
	case 0:
		s.eraseRow(s.cur.y, s.cur.x, s.cols, selective)
	case 1:
		s.eraseRow(s.cur.y, 0, s.cur.x+1, selective)
		s.cur.pending = pending
	case 2:
		s.eraseRow(s.cur.y, 0, s.cols, selective)
		s.cur.pending = pending
	default:
		s.cur.pending = pending
	}
	s.settlePending()
}

// eraseDisplay is ED and DECSED.
func (s *Screen) eraseDisplay(how int, selective bool) {
	switch how {
	case 0:
		s.cur.pending = false
		s.eraseRow(s.cur.y, s.cur.x, s.cols, selective)
		for y := s.cur.y + 1; y < s.height; y++ {
			s.eraseRow(y, 0, s.cols, selective)
		}
	case 1:
		for y := range s.cur.y {
			s.eraseRow(y, 0, s.cols, selective)
		}
		s.eraseRow(s.cur.y, 0, s.cur.x+1, selective)
	case 2:
		for y := range s.height {
			s.eraseRow(y, 0, s.cols, selective)
		}
	case 3:
		if !selective {
			s.forget()
		}
	}
}

// eraseCells is ECH.
func (s *Screen) eraseCells(n int) {
	s.cur.pending = false
	s.eraseRow(s.cur.y, s.cur.x, min(s.cur.x+n, s.cols), false)
}

// rect is a rectangle as the DEC rectangle sequences give it: in cells, the
// ends exclusive.
type rect struct{ x0, y0, x1, y1 int }

// rectParams reads top, left, bottom, right from parameter i on. They count
// from the origin in origin mode; absent ends mean the last line and column.
func (s *Screen) rectParams(i int) (rect, bool) {
	left, right, top, bottom := 0, s.cols, 0, s.height
	if s.cur.origin {
		left, right = s.margins()
		top, bottom = s.top, s.bottom
	}
	r := rect{
		y0: top + s.param(i, 1) - 1,
		x0: left + s.param(i+1, 1) - 1,
		y1: min(top+s.param(i+2, bottom-top), bottom),
		x1: min(left+s.param(i+3, right-left), right),
	}
	return r, r.x0 < r.x1 && r.y0 < r.y1
}

// fillRect is DECFRA, and DECERA and DECSERA with a blank.
func (s *Screen) fillRect(r rect, c Cell, selective bool) {
	for y := r.y0; y < r.y1; y++ {
		if c.char == 0 {
			s.eraseRow(y, r.x0, r.x1, selective)
			continue
		}
		t := s.mut(y)
		t.erase(r.x0, r.x1, s.cols, 0)
		t.extend(r.x1, s.cols)
		fill(t.cells[r.x0:r.x1], c)
	}
}

// copyRect is DECCRA.
func (s *Screen) copyRect(from rect, x, y int) {
	w, h := min(from.x1-from.x0, s.cols-x), min(from.y1-from.y0, s.height-y)
	if w <= 0 || h <= 0 {
		return
	}
	// Through a copy, since the two may overlap.
	saved := make([][]Cell, h)
	for i := range saved {
		saved[i] = make([]Cell, w)
		for k := range saved[i] {
			saved[i][k] = s.rows[from.y0+i].at(from.x0 + k)
		}
		cutWide(saved[i])
	}
	for i, cells := range saved {
		t := s.mut(y + i)
		t.erase(x, x+w, s.cols, 0)
		t.extend(x+w, s.cols)
		copy(t.cells[x:], cells)
	}
}

// cutWide blanks the halves of wide characters at the ends of a run of cells.
func cutWide(cells []Cell) {
	r := row{cells: cells}
	if n := len(cells); n > 0 {
		if cells[0].char&charTail != 0 {
			r.blank(0)
		}
		if cells[n-1].char&charWide != 0 {
			r.blank(n - 1)
		}
	}
}

// align is DECALN: the screen full of E, no margins, the cursor home.
func (s *Screen) align() {
	s.resetMargins()
	for y := range s.height {
		s.clearRow(y)
		r := s.rows[y]
		r.cells = r.cells[:0]
		r.extend(s.cols, s.cols)
		fill(r.cells, Cell{char: 'E'})
	}
	s.address(0, 0)
}

func (s *Screen) resetMargins() {
	s.top, s.bottom = 0, s.height
	s.left, s.right = 0, s.cols
}
