package screen

import "fmt"

// Describe names the first part of the state in which two snapshots differ.
func Describe(a, b *Snapshot) string { return a.difference(b) }

// CheckInvariants returns what is wrong with the model's own rules, or "".
func (s *Screen) CheckInvariants() string {
	check := func(rows []*row) string {
		if len(rows) != s.height {
			return "number of rows"
		}
		for y, r := range rows {
			if len(r.cells) > s.cols {
				return fmt.Sprintf("row %d has %d cells", y, len(r.cells))
			}
			for x, c := range r.cells {
				wide := c.char&charWide != 0
				next := x+1 < len(r.cells) && r.cells[x+1].char&charTail != 0
				if wide != next {
					return fmt.Sprintf("half a wide character at %d,%d", x, y)
				}
				if c.char&charTail != 0 && (x == 0 || r.cells[x-1].char&charWide == 0) {
					return fmt.Sprintf("a tail without its lead at %d,%d", x, y)
				}
				if c.char&charCluster != 0 && int(c.char&charMask) >= len(s.clusters.texts) {
					return "cluster index"
				}
				if int(c.ext) >= len(s.exts.list) {
					return "extent index"
				}
				if k := c; c.char == ' ' {
					if k.normalize(); k != c {
						return fmt.Sprintf("a blank in another form at %d,%d", x, y)
					}
				}
			}
		}
		if rows[len(rows)-1].wrapped {
			return "the last row is marked as wrapped"
		}
		return ""
	}
	if why := check(s.rows); why != "" {
		return why
	}
	if s.alt != (s.back != nil) {
		return "rows of the main screen"
	}
	if s.alt {
		if why := check(s.back); why != "" {
			return why + " of the main screen"
		}
	}
	c := s.cur
	switch {
	case c.x < 0 || c.y < 0 || c.x >= s.cols || c.y >= s.height:
		return "cursor"
	case c.pending && c.x != s.rightEdge()-1:
		return "a wrap is pending in the middle"
	case c.pending && s.rows[c.y].wrapped && c.x == s.cols-1:
		return "a wrap is pending and done"
	case s.top < 0 || s.bottom > s.height || s.top >= s.bottom || s.left < 0 || s.right > s.cols || s.left >= s.right:
		return "margins"
	case s.hist.bytes > max(s.hist.limit, 0)+scrollChunk*(rowBytes+MaxCols*cellBytes):
		return "scrollback"
	}
	bytes := 0
	for _, k := range s.hist.chunks {
		bytes += k.bytes
	}
	if bytes != s.hist.bytes {
		return "size of the scrollback"
	}
	return ""
}

// AppendScrollbackRow appends the text of a row of the scrollback, and a line
// end if the text ends there.
func (n *Snapshot) AppendScrollbackRow(dst []byte, i int) []byte {
	r := n.scrollRow(i)
	for _, c := range r.cells {
		dst = c.appendChar(dst, n.clusters)
	}
	if !r.wrapped {
		dst = append(dst, '\n')
	}
	return dst
}

// Compactions returns how often the tables were made anew.
func (s *Screen) Compactions() uint64 { return s.compactions }
