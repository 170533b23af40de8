package screen

// Resize changes the size, as the window's user did. As in xterm.js the rows
// of the main screen are wrapped anew, the cursor stays with its text, rows
// that no longer fit go into the scrollback, and come back from there when
// the cursor was on the last row. The alternate screen is cut or extended.
// The margins are reset.
func (s *Screen) Resize(cols, rows int) {
	cols, rows = clampSize(cols, rows)
	if cols == s.cols && rows == s.height {
		return
	}
	s.gen++
	s.last = nil
	s.resizes++
	s.lastChar = 0
	old := s.cols
	if s.alt {
		s.rows, s.back = s.back, s.rows
		s.reflow(cols, rows, &s.saved[onMain], nil)
		s.rows, s.back = s.back, s.rows
		s.cut(cols, rows)
	} else {
		s.reflow(cols, rows, &s.cur, &s.saved[onMain])
	}
	s.cols, s.height = cols, rows
	s.tabs = resizeTabs(s.tabs, old, cols)
	s.resetMargins()
	for _, c := range []*cursor{&s.cur, &s.saved[onMain], &s.saved[onAlt]} {
		if c.x >= cols || c.y >= rows {
			c.pending = false
		}
		c.x, c.y = min(c.x, cols-1), min(c.y, rows-1)
		c.pending = c.pending && c.x == cols-1
	}
	s.settlePending()
}

// resizeTabs keeps the tab stops and sets the default ones in new columns.
func resizeTabs(tabs []uint64, old, cols int) []uint64 {
	n := defaultTabs(cols)
	for x := range min(old, cols) {
		n[x/64] &^= 1 << (x % 64)
		n[x/64] |= tabs[x/64] & (1 << (x % 64))
	}
	return n
}

// cut cuts or extends the alternate screen.
func (s *Screen) cut(cols, height int) {
	rows := make([]*row, height)
	// The cursor's row stays.
	from := max(s.cur.y-height+1, 0)
	for y := range rows {
		if from+y >= len(s.rows) {
			rows[y] = s.newRow()
			continue
		}
		r := s.rows[from+y]
		if len(r.cells) > cols || r.wrapped {
			n := &row{epoch: s.epoch, cells: make([]Cell, min(len(r.cells), cols), cols)}
			copy(n.cells, r.cells)
			if len(r.cells) > cols && r.cells[cols].char&charTail != 0 {
				n.blank(cols - 1)
			}
			r = n
		}
		rows[y] = r
	}
	s.cur.y -= from
	s.rows = rows
	s.free = s.free[:0] // of the old width
}

// A textLine is one line of text, which may take several rows.
type textLine struct {
	cells []Cell
	row   *row // the only row of the line, if it has one
}

// A place is a position in the text.
type place struct{ line, offset int }

// reflow wraps the main screen's rows anew. Cur is the cursor that stays in
// view; also is another one that moves with its text, or nil.
func (s *Screen) reflow(cols, height int, cur, also *cursor) {
	bottom := cur.y == s.height-1
	rows := s.rows
	if bottom || cols != s.cols {
		// What may come back, and the beginning of the topmost line.
		want := 0
		if bottom {
			want = height * max(1, (cols+s.cols-1)/s.cols)
		}
		rows = append(s.recall(want), rows...)
	}
	recalled := len(rows) - s.height
	lines, starts := s.textLines(rows)
	find := func(x, y int) place {
		p := starts[recalled+min(y, s.height-1)]
		p.offset += x
		return p
	}

	var out []*row
	first := make([]int, len(lines)+1)
	for i, l := range lines {
		first[i] = len(out)
		out = s.wrapLine(out, l, cols)
	}
	first[len(lines)] = len(out)
	locate := func(p place) (x, y int) {
		x, y = p.offset, first[p.line]
		for y < first[p.line+1]-1 && x >= len(out[y].cells) {
			x -= len(out[y].cells)
			y++
		}
		return x, y
	}

	_, top := locate(find(0, 0))
	x, y := locate(find(cursorOffset(cur), cur.y))
	if bottom {
		top = 0
	}
	top = min(max(top, y-height+1), y)
	for _, r := range out[:top] {
		s.remember(r)
	}
	if also != nil {
		x, y := locate(find(cursorOffset(also), also.y))
		settle(also, x, y-top, cols, height)
	}
	settle(cur, x, y-top, cols, height)
	s.rows = make([]*row, height)
	for y := range s.rows {
		if top+y < len(out) {
			s.rows[y] = out[top+y]
		} else {
			s.rows[y] = &row{epoch: s.epoch}
		}
	}
	if r := s.rows[height-1]; r.wrapped {
		s.rows[height-1] = &row{epoch: s.epoch, cells: append(make([]Cell, 0, cols), r.cells...)}
	}
	s.free = s.free[:0] // of the old width
}

// cursorOffset is where in its row the next character would go.
func cursorOffset(c *cursor) int {
	if c.pending {
		return c.x + 1
	}
	return c.x
}

// settle puts a cursor where its text is now.
func settle(c *cursor, x, y, cols, height int) {
	c.pending = x == cols
	c.x = min(x, cols-1)
	c.y = min(max(y, 0), height-1)
}

// recall takes rows back out of the scrollback: at least n, if there are as
// many, and then to the beginning of a line.
func (s *Screen) recall(n int) []*row {
	const most = 4 * MaxRows
	h := &s.hist
	var taken []*row
	for len(h.chunks) > 0 && len(taken) < most {
		i := len(h.chunks) - 1
		c := h.chunks[i]
		if c.n == 0 {
			h.chunks = h.chunks[:i]
			continue
		}
		r := c.rows[c.n-1]
		if len(taken) >= n && !r.wrapped {
			break
		}
		if c.epoch != s.epoch {
			// A snapshot may look at it.
			k := *c
			k.epoch = s.epoch
			c = &k
			h.chunks[i] = c
		}
		c.n--
		c.rows[c.n] = nil
		size := rowBytes + cap(r.cells)*cellBytes
		c.bytes -= size
		h.bytes -= size
		taken = append(taken, r)
	}
	for i, j := 0, len(taken)-1; i < j; i, j = i+1, j-1 {
		taken[i], taken[j] = taken[j], taken[i]
	}
	return taken
}

// textLines joins rows to lines, and tells where in them each row starts.
func (s *Screen) textLines(rows []*row) (lines []textLine, starts []place) {
	starts = make([]place, len(rows))
	for i := 0; i < len(rows); i++ {
		starts[i] = place{len(lines), 0}
		l := textLine{cells: rows[i].cells, row: rows[i]}
		if rows[i].wrapped && i+1 < len(rows) {
			l = textLine{cells: append([]Cell(nil), rows[i].cells...)}
		}
		for ; rows[i].wrapped && i+1 < len(rows); i++ {
			// A row that wrapped was written to its end, in whatever width it had.
			next := rows[i+1]
			if n := len(l.cells) - 1; n > 0 && next.at(0).char&charWide != 0 && l.cells[n].erased() {
				l.cells = l.cells[:n] // it did not fit there
			}
			starts[i+1] = place{len(lines), len(l.cells)}
			l.cells = append(l.cells, next.cells...)
		}
		lines = append(lines, l)
	}
	return lines, starts
}

// wrapLine appends the rows of a line in the new width.
func (s *Screen) wrapLine(out []*row, l textLine, cols int) []*row {
	if l.row != nil && len(l.cells) <= cols {
		return append(out, l.row)
	}
	// Blanks at the end, of whatever colour, fill the row and are not text.
	cells := l.cells
	text := len(cells)
	for text > 0 && cells[text-1].erased() {
		text--
	}
	for {
		n := min(len(cells), cols)
		if n < len(cells) && cells[n].char&charTail != 0 {
			n--
		}
		if n == 0 && text > 0 {
			// A wide character on a screen of one column.
			cells, text = cells[2:], text-2
			continue
		}
		r := &row{epoch: s.epoch, cells: append(make([]Cell, 0, cols), cells[:n]...)}
		out = append(out, r)
		if text <= n {
			return out
		}
		cells, text = cells[n:], text-n
		r.wrapped = true
	}
}
