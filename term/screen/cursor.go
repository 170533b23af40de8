package screen

// margins returns the left and right margins in effect, the right one
// exclusive.
func (s *Screen) margins() (left, right int) {
	if s.modes.has(ModeLeftRightMargin) {
		return s.left, s.right
	}
	return 0, s.cols
}

// moveTo puts the cursor at an absolute position, clamped to the screen.
func (s *Screen) moveTo(x, y int) {
	s.cur.x = min(max(x, 0), s.cols-1)
	s.cur.y = min(max(y, 0), s.height-1)
	s.cur.pending = false
}

// address puts the cursor at a position counted from the origin, which is the
// upper left corner of the margins in origin mode (DECOM).
func (s *Screen) address(x, y int) {
	if !s.cur.origin {
		s.moveTo(x, y)
		return
	}
	left, right := s.margins()
	s.moveTo(min(left+max(x, 0), right-1), min(s.top+max(y, 0), s.bottom-1))
}

// column and line are the cursor's position counted from the origin.
func (s *Screen) column() int {
	if s.cur.origin {
		left, _ := s.margins()
		return s.cur.x - left
	}
	return s.cur.x
}

func (s *Screen) line() int {
	if s.cur.origin {
		return s.cur.y - s.top
	}
	return s.cur.y
}

// up, down, left and right stop at a margin if they start inside it.
func (s *Screen) cursorUp(n int) {
	limit := 0
	if s.cur.y >= s.top {
		limit = s.top
	}
	s.moveTo(s.cur.x, max(s.cur.y-n, limit))
}

func (s *Screen) cursorDown(n int) {
	limit := s.height - 1
	if s.cur.y < s.bottom {
		limit = s.bottom - 1
	}
	s.moveTo(s.cur.x, min(s.cur.y+n, limit))
}

func (s *Screen) cursorRight(n int) {
	_, right := s.margins()
	limit := s.cols - 1
	if s.cur.x < right {
		limit = right - 1
	}
	s.moveTo(min(s.cur.x+n, limit), s.cur.y)
}

// cursorLeft is CUB and BS. With reverse wraparound (mode 45) it goes on at
// the end of the line above; between margins only, and not above their top.
func (s *Screen) cursorLeft(n int) {
	left, right := s.margins()
	if !s.modes.has(ModeReverseWrap) || !s.modes.has(ModeAutowrap) {
		limit := 0
		if s.cur.x >= left {
			limit = left
		}
		s.moveTo(max(s.cur.x-n, limit), s.cur.y)
		return
	}
	// A pending wrap counts as the column after the last one.
	if s.cur.pending {
		n--
	}
	x, y := s.cur.x, s.cur.y
	if x < left {
		left = 0
	}
	for n > 0 {
		if step := min(n, x-left); step > 0 {
			x -= step
			n -= step
			continue
		}
		if y == s.top || y == 0 || !s.rows[y-1].wrapped {
			break // only lines that wrapped are wrapped back into
		}
		y--
		x = right - 1
		n--
	}
	s.moveTo(x, y)
}

func (s *Screen) carriageReturn() {
	left, _ := s.margins()
	if s.cur.x < left {
		left = 0
	}
	s.cur.x, s.cur.pending = left, false
}

// lineFeed is LF, VT and FF.
func (s *Screen) lineFeed() {
	s.endLine()
	s.cur.pending = false
	s.index()
	if s.modes.has(ModeNewline) {
		s.carriageReturn()
	}
}

// endLine notes that the text of the cursor's row does not go on in the next.
func (s *Screen) endLine() {
	if s.rows[s.cur.y].wrapped {
		s.mut(s.cur.y).wrapped = false
	}
}

// index moves down a line and scrolls at the bottom margin (IND).
func (s *Screen) index() {
	if s.cur.y != s.bottom-1 {
		if s.cur.y < s.height-1 {
			s.cur.y++
		}
		return
	}
	if left, right := s.margins(); s.cur.x < left || s.cur.x >= right {
		return
	}
	s.scrollUp(s.top, s.bottom, 1)
}

// reverseIndex moves up a line and scrolls at the top margin (RI).
func (s *Screen) reverseIndex() {
	s.cur.pending = false
	if s.cur.y != s.top {
		if s.cur.y > 0 {
			s.cur.y--
		}
		return
	}
	if left, right := s.margins(); s.cur.x < left || s.cur.x >= right {
		return
	}
	s.scrollDown(s.top, s.bottom, 1)
}

// saveCursor is DECSC.
func (s *Screen) saveCursor() { s.saved[s.which()] = s.cur }

// restoreCursor is DECRC; without DECSC before it, home and the defaults.
func (s *Screen) restoreCursor() {
	c := s.saved[s.which()]
	s.cur = c
	if c.origin {
		left, right := s.margins()
		s.moveTo(min(max(c.x, left), right-1), min(max(c.y, s.top), s.bottom-1))
	} else {
		s.moveTo(c.x, c.y)
	}
	// A wrap is pending only where one can be: with other margins since, the
	// column may be any.
	s.cur.pending = c.pending && s.cur.x == c.x && s.cur.x == s.rightEdge()-1
	s.settlePending()
}

// settlePending keeps the rules that bytes can bring a terminal into: a row
// whose last column waits for a wrap is not itself marked as wrapped, and no
// wide character begins there.
func (s *Screen) settlePending() {
	if !s.cur.pending {
		return
	}
	s.endLine()
	if s.rows[s.cur.y].at(s.cur.x).char&charWide != 0 {
		s.cur.pending = false
	}
}

// Tab stops.

func (s *Screen) setTab(x int, on bool) {
	// Snapshots share the slice.
	tabs := append([]uint64(nil), s.tabs...)
	if on {
		tabs[x/64] |= 1 << (x % 64)
	} else {
		tabs[x/64] &^= 1 << (x % 64)
	}
	s.tabs = tabs
}

func (st *state) tabAt(x int) bool { return st.tabs[x/64]&(1<<(x%64)) != 0 }

// tab moves forward n stops, and not beyond the right margin. A pending wrap
// stays, as in xterm.
func (s *Screen) tab(n int) {
	_, right := s.margins()
	limit := s.cols - 1
	if s.cur.x < right {
		limit = right - 1
	}
	for ; n > 0 && s.cur.x < limit; n-- {
		s.cur.x++
		for s.cur.x < limit && !s.tabAt(s.cur.x) {
			s.cur.x++
		}
	}
}

// backTab moves back n stops (CBT).
func (s *Screen) backTab(n int) {
	left, _ := s.margins()
	if s.cur.x < left || !s.cur.origin {
		left = 0
	}
	x := s.cur.x
	for ; n > 0 && x > left; n-- {
		x--
		for x > left && !s.tabAt(x) {
			x--
		}
	}
	s.moveTo(x, s.cur.y)
}
