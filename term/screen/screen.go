package screen

// Options of a Screen. The zero value is a model that remembers some
// scrollback and answers no queries.
type Options struct {
	// ScrollbackBytes bounds the memory of the rows that scrolled off the top
	// of the main screen. Zero means DefaultScrollbackBytes, a negative number
	// none.
	ScrollbackBytes int

	// Reply, where not nil, is called from Write with the answer to each query
	// in the input, as a terminal would send it to the program. The slice is
	// valid during the call only, and the function must not use the Screen. It
	// is for a host without a terminal of its own; everywhere else queries are
	// answered by the host's terminal.
	Reply func(answer []byte)
}

// A Screen is the model of one terminal. It is not safe for concurrent use.
type Screen struct {
	state
	parser

	opts  Options
	rows  []*row // the screen that is shown
	back  []*row // the main screen's rows while the alternate one is shown, else nil
	spare []*row // for the next alternate screen
	hist  scrollback

	clusters    clusterTable
	exts        extTable
	compactions uint64

	paletteEpoch, titlesEpoch uint64 // as in row
	epoch                     uint64 // rows and chunks of an older epoch are shared with a snapshot
	gen                       uint64 // counts writes and resizes
	resizes                   uint64
	last                      *Snapshot // of generation gen, else nil
	free                      []*row    // cleared rows of this epoch
	bells                     uint64
}

// New returns a screen of the given size, which is clamped to 1..MaxCols and
// 1..MaxRows, in the state of a terminal after a full reset.
func New(cols, rows int, opts Options) *Screen {
	s := &Screen{opts: opts, epoch: 1, exts: newExtTable()}
	s.cols, s.height = clampSize(cols, rows)
	switch {
	case opts.ScrollbackBytes == 0:
		s.hist.limit = DefaultScrollbackBytes
	case opts.ScrollbackBytes > 0:
		s.hist.limit = opts.ScrollbackBytes
	}
	s.rows = make([]*row, s.height)
	for y := range s.rows {
		s.rows[y] = s.newRow()
	}
	s.state.reset()
	return s
}

func clampSize(cols, rows int) (int, int) {
	return min(max(cols, 1), MaxCols), min(max(rows, 1), MaxRows)
}

// Size returns the screen's size in cells.
func (s *Screen) Size() (cols, rows int) { return s.cols, s.height }

// Generation returns a number that changes whenever anything was written or
// the screen was resized.
func (s *Screen) Generation() uint64 { return s.gen }

// Synchronized reports whether the program is inside a synchronized update
// (mode 2026), when what is on the screen is not meant to be seen yet.
func (s *Screen) Synchronized() bool { return s.modes.has(ModeSynchronized) }

// InGround reports whether the input so far ends between two sequences, so
// that other bytes could be put there without harm.
func (s *Screen) InGround() bool { return s.st == stGround && s.single == 0 }

// newRow returns an empty row that no snapshot shares.
func (s *Screen) newRow() *row {
	if n := len(s.free); n > 0 {
		r := s.free[n-1]
		s.free = s.free[:n-1]
		return r
	}
	return &row{epoch: s.epoch}
}

// recycle takes a row that is no longer part of the screen.
func (s *Screen) recycle(r *row) {
	if len(s.free) < 2*scrollChunk {
		s.reuse(r)
	}
}

// reuse is recycle for as many rows as there are.
func (s *Screen) reuse(r *row) {
	if r.epoch != s.epoch {
		return
	}
	r.cells, r.wrapped = r.cells[:0], false
	s.free = append(s.free, r)
}

// mut returns row y, cloned first if a snapshot shares it.
func (s *Screen) mut(y int) *row {
	r := s.rows[y]
	if r.epoch != s.epoch {
		r = s.clone(r)
		s.rows[y] = r
	}
	return r
}

func (s *Screen) clone(r *row) *row {
	n := s.newRow()
	n.extend(len(r.cells), s.cols)
	copy(n.cells, r.cells)
	n.wrapped = r.wrapped
	return n
}

// clearRow puts an empty row with the pen's background at y.
func (s *Screen) clearRow(y int) {
	r := s.rows[y]
	if r.epoch != s.epoch {
		r = s.newRow()
		s.rows[y] = r
	}
	r.cells, r.wrapped = r.cells[:0], false
	s.paint(r)
}

// paint gives an empty row the pen's background (background colour erase).
func (s *Screen) paint(r *row) {
	if s.cur.pen.bg != 0 {
		r.extend(s.cols, s.cols)
		fill(r.cells, Cell{Bg: s.cur.pen.bg})
	}
}
