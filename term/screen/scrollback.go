package screen

// scrollChunk is the number of rows that enter and leave the scrollback as one.
const scrollChunk = 64

// scrollback is what has scrolled off the top of the main screen, oldest
// first, in chunks. A chunk is filled once and never changed, so a snapshot
// shares chunks and remembers how far the last one was filled.
type scrollback struct {
	chunks []*chunk
	limit  int    // bytes
	bytes  int    // of all rows in chunks
	total  uint64 // rows that ever entered
}

type chunk struct {
	rows  [scrollChunk]*row
	n     int
	bytes int
	epoch uint64
}

const rowBytes, cellBytes = 64, 16 // for the accounting

// history is a scrollback as a snapshot keeps it.
type history struct {
	chunks []*chunk
	last   int // rows in the last chunk
	total  uint64
}

func (h *scrollback) freeze() history {
	f := history{total: h.total}
	if n := len(h.chunks); n > 0 {
		f.chunks = append(make([]*chunk, 0, n), h.chunks...)
		f.last = h.chunks[n-1].n
	}
	return f
}

// remember moves a row into the scrollback and lets go of the oldest ones.
func (s *Screen) remember(r *row) {
	h := &s.hist
	h.total++
	if h.limit <= 0 {
		s.recycle(r)
		return
	}
	var c *chunk
	if n := len(h.chunks); n > 0 {
		c = h.chunks[n-1]
	}
	if c == nil || c.n == scrollChunk {
		c = s.nextChunk()
		h.chunks = append(h.chunks, c)
	}
	size := rowBytes + cap(r.cells)*cellBytes
	c.rows[c.n] = r
	c.n++
	c.bytes += size
	h.bytes += size
}

// nextChunk returns an empty chunk: the oldest one, its rows recycled, while
// the bound is exceeded.
func (s *Screen) nextChunk() *chunk {
	h := &s.hist
	for h.bytes > h.limit && len(h.chunks) > 0 {
		old := h.chunks[0]
		copy(h.chunks, h.chunks[1:])
		h.chunks[len(h.chunks)-1] = nil
		h.chunks = h.chunks[:len(h.chunks)-1]
		h.bytes -= old.bytes
		for _, r := range old.rows[:old.n] {
			s.recycle(r)
		}
		if old.epoch == s.epoch && h.bytes <= h.limit {
			clear(old.rows[:])
			old.n, old.bytes = 0, 0
			return old
		}
	}
	return &chunk{epoch: s.epoch}
}

// forget empties the scrollback.
func (s *Screen) forget() {
	for _, c := range s.hist.chunks {
		for _, r := range c.rows[:c.n] {
			s.reuse(r) // the scrollback's bound is theirs as well
		}
	}
	s.hist.chunks, s.hist.bytes = nil, 0
}

// ScrollbackLen returns the number of rows of scrollback in the snapshot.
func (n *Snapshot) ScrollbackLen() int {
	if len(n.hist.chunks) == 0 {
		return 0
	}
	return (len(n.hist.chunks)-1)*scrollChunk + n.hist.last
}

// ScrollbackTotal returns how many rows have scrolled off the top of the main
// screen since the Screen was made, kept or not.
func (n *Snapshot) ScrollbackTotal() uint64 { return n.hist.total }

// scrollRow returns row i of the scrollback, from 0, the oldest.
func (n *Snapshot) scrollRow(i int) *row {
	return n.hist.chunks[i/scrollChunk].rows[i%scrollChunk]
}

// AppendScrollback appends the bytes that put the last rows of the snapshot's
// scrollback, at most so many, into the scrollback of a terminal of the same
// size, behind what is there. The terminal may be in any state; what its main
// screen showed is lost, and AppendDiff without a known state draws it anew.
func (n *Snapshot) AppendScrollback(dst []byte, rows int) []byte {
	have := n.ScrollbackLen()
	rows = min(rows, have)
	if rows <= 0 {
		return dst
	}
	w := writer{b: dst, cols: n.cols, height: n.height, exts: n.exts, clusters: n.clusters, penExts: noExtents}
	w.b = append(append(append(append(w.b, asciiCAN), "\x1b[?1049l"...), knownState...), wipe...)
	wrapped := false
	for i := have - rows; i < have; i++ {
		r := n.scrollRow(i)
		w.x = 0
		end := len(r.cells)
		for end > 0 && r.cells[end-1] == (Cell{}) && !r.wrapped {
			end--
		}
		for _, c := range r.cells[:end] {
			if c.char&charTail == 0 {
				w.cell(c)
			}
		}
		if r.wrapped && i < have-1 {
			// It was written to its end, and the terminal wraps it in its own width.
			wrapped = true
			continue
		}
		w.setPen(style{})
		if wrapped && end < n.cols {
			// The wrap may have filled the row with a background.
			w.b = append(w.b, "\x1b[K"...)
		}
		wrapped = false
		w.b = append(w.b, "\r\n"...)
	}
	w.setPen(style{})
	// Those that are still on the screen.
	w.seq(n.height, 'H')
	for range min(rows, n.height-1) {
		w.b = append(w.b, asciiLF)
	}
	return w.b
}

// ScrollbackTotal returns how many rows have scrolled off the top of the main
// screen since the Screen was made, kept or not.
func (s *Screen) ScrollbackTotal() uint64 { return s.hist.total }
