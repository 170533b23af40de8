package screen

import "unicode/utf8"

// printASCII prints the run of printable ASCII at p[i] and returns its end.
func (s *Screen) printASCII(p []byte, i int) int {
	j := i + 1
	for j < len(p) && p[j]-0x20 < asciiDEL-0x20 {
		j++
	}
	run := p[i:j]
	if s.pass.on {
		if s.single != 0 {
			s.pass.shifted(s, run[0])
			s.pass.text(run[1:])
		} else {
			s.pass.text(run)
		}
	}
	if s.single != 0 || s.modes.has(ModeInsert) || s.cur.sets.active() != charsetASCII {
		for _, b := range run {
			s.printMapped(b)
		}
		return j
	}
	pen := s.cur.pen
	for len(run) > 0 {
		if s.cur.pending {
			s.wrap()
		}
		x, right := s.cur.x, s.rightEdge()
		n := min(len(run), right-x)
		r := s.mut(s.cur.y)
		r.open(x, x+n, s.cols)
		store(r.cells[x:x+n], run[:n], pen)
		if s.lastChar = uint32(run[n-1]); x+n < right {
			s.cur.x = x + n
			return j
		}
		run = run[n:]
		s.cur.x, s.cur.pending = right-1, true
		if right == s.cols {
			r.wrapped = false
		}
		if len(run) > 0 && !s.modes.has(ModeAutowrap) {
			// All that follow overwrite the last column, and only the last
			// one of them stays.
			run = run[len(run)-1:]
		}
	}
	return j
}

// store writes a run of ASCII into cells, field by field: assembling a Cell and
// copying it takes four times as long.
func store(dst []Cell, run []byte, pen style) {
	dst = dst[:len(run)]
	if pen == (style{bg: pen.bg}) {
		for k, b := range run {
			c := uint32(b)
			if c == ' ' {
				c = 0
			}
			d := &dst[k]
			d.char, d.Fg, d.Bg, d.Attr, d.ext = c, 0, pen.bg, 0, 0
		}
		return
	}
	for k, b := range run {
		d := &dst[k]
		d.char, d.Fg, d.Bg, d.Attr, d.ext = uint32(b), pen.fg, pen.bg, pen.attr, pen.ext
	}
}

// open makes cells[x0:x1] ready to be overwritten: the row reaches there, and
// no wide character straddles either end.
func (r *row) open(x0, x1, cols int) {
	n := len(r.cells)
	if x0 < n {
		r.split(x0)
		r.split(x1)
	} else if x0 > n {
		r.extend(x0, cols)
	}
	if x1 <= n {
		return
	}
	if x1 > cap(r.cells) {
		r.extend(x1, cols)
	} else {
		r.cells = r.cells[:x1] // what is new in it will be overwritten
	}
}

// rightEdge is the column at which text wraps, exclusive.
func (s *Screen) rightEdge() int {
	if s.modes.has(ModeLeftRightMargin) && s.cur.x < s.right {
		return s.right
	}
	return s.cols
}

// wrap performs a wrap that was pending, if autowrap is (still) set.
func (s *Screen) wrap() {
	s.cur.pending = false
	if !s.modes.has(ModeAutowrap) {
		return
	}
	y := s.cur.y
	left, right := s.margins()
	full := left == 0 && right == s.cols
	s.carriageReturn()
	if y == s.height-1 && y != s.bottom-1 {
		return // below the scrolling region: the line is overwritten
	}
	if full {
		s.mut(y).wrapped = true
	}
	s.index()
}

// printMapped prints an ASCII byte through the invoked character set.
func (s *Screen) printMapped(b byte) {
	if s.single == 0 {
		s.put(s.cur.sets.active().rune(b), 1)
		return
	}
	s.put(s.cur.sets.g[s.single].rune(b), 1)
	// A diff could not print it again without shifting.
	s.single, s.lastChar = 0, 0
}

// printRune prints a code point that came as UTF-8.
func (s *Screen) printRune(r rune) {
	if r < 0xa0 {
		if r >= 0x80 {
			s.c1(r)
		}
		return
	}
	if s.pass.on {
		s.pass.rune(r)
	}
	s.single = 0
	w := runeWidth(r)
	if w == 0 {
		s.combine(r)
		return
	}
	s.put(r, w)
}

// put stores a character of width 1 or 2 at the cursor.
func (s *Screen) put(r rune, w int) {
	if s.cur.pending {
		s.wrap()
	}
	s.lastChar = 0
	right := s.rightEdge()
	if w == 2 && s.cur.x+2 > right {
		if !s.modes.has(ModeAutowrap) || s.cols < 2 {
			return
		}
		// It does not fit: the rest of the line stays blank.
		s.mut(s.cur.y).erase(s.cur.x, right, s.cols, s.cur.pen.bg)
		s.cur.x = right - 1
		s.wrap()
		if right = s.rightEdge(); s.cur.x+2 > right {
			return // between margins one column apart
		}
	}
	x := s.cur.x
	t := s.mut(s.cur.y)
	if left, end := s.margins(); s.modes.has(ModeInsert) && x >= left && x < end {
		s.insertCells(t, x, right, w)
	}
	t.open(x, x+w, s.cols)
	pen := &s.cur.pen
	char := uint32(r)
	if w == 2 {
		char |= charWide
		d := &t.cells[x+1]
		d.char, d.Fg, d.Bg, d.Attr, d.ext = charTail, pen.fg, pen.bg, pen.attr, pen.ext
	} else if char == ' ' && pen.plain() {
		char = 0
	}
	d := &t.cells[x]
	d.char, d.Fg, d.Bg, d.Attr, d.ext = char, pen.fg, pen.bg, pen.attr, pen.ext
	if r <= 0xffff {
		s.lastChar = uint32(r) // see uncertain: what diffs must not print last
	}
	if x+w < right {
		s.cur.x = x + w
		return
	}
	s.cur.x, s.cur.pending = right-1, true
	if right == s.cols {
		t.wrapped = false
	}
}

// combine joins a zero-width code point to the character before the cursor.
func (s *Screen) combine(r rune) {
	x := s.cur.x
	if !s.cur.pending {
		x--
	}
	if x < 0 {
		return
	}
	t := s.mut(s.cur.y)
	t.extend(x+1, s.cols)
	if t.cells[x].char&charTail != 0 {
		x--
	}
	c := &t.cells[x]
	var buf [maxCluster + 4]byte
	text := c.appendChar(buf[:0], s.clusters.texts)
	text = utf8.AppendRune(text, r)
	if len(text) > maxCluster {
		return
	}
	i, ok := s.intern(text)
	if !ok {
		return
	}
	// Interning may have compacted the tables and moved the row.
	t = s.mut(s.cur.y)
	c = &t.cells[x]
	c.char = c.char&charWide | charCluster | i
	s.lastChar = 0
}

// repeat is REP: the last character once more, n times.
func (s *Screen) repeat(n int, char uint32) {
	if char == 0 {
		return
	}
	w := max(runeWidth(rune(char)), 1)
	// Once the screen is full of it, every further row is like the one before.
	left, right := s.margins()
	row := max((right-left)/w, 1)
	if most := row * (s.height + 2); n > most {
		n = most + (n-most)%row
	}
	for range n {
		s.put(rune(char), w)
		if s.pass.on {
			// Written out: not every terminal knows REP, and some repeat only
			// ASCII, or not beyond the line.
			s.pass.rune(rune(char))
		}
	}
	s.lastChar = 0
}
