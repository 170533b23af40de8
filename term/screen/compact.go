package screen

// tables counts compactions and is unique among screens, so that equal numbers
// mean that the indices in cells mean the same.
type tables struct {
	owner   *Screen
	version uint64
}

func (s *Screen) tableID() tables { return tables{s, s.compactions} }

// intern puts a cluster into the table, after compacting it where it is due.
func (s *Screen) intern(text []byte) (uint32, bool) {
	t := &s.clusters
	if _, ok := t.index[string(text)]; !ok && t.due(len(t.texts)) {
		s.compact()
	}
	return t.intern(text)
}

// internExtent puts an extent into the table; where there is no room for it,
// the cells go without.
func (s *Screen) internExtent(x extent) uint16 {
	t := &s.exts
	if i, ok := t.find(x); ok {
		return i
	}
	if t.due(len(t.list)) {
		s.compact()
	}
	return t.intern(x)
}

// compact makes both tables anew from what the screen, the scrollback, the
// saved cursors and the pens refer to. Snapshots keep the old ones.
func (s *Screen) compact() {
	oldClusters, oldExts := s.clusters.texts, s.exts.list
	s.clusters = clusterTable{}
	s.exts = newExtTable()
	s.compactions++

	cells := 0
	remap := func(p **row) {
		r := *p
		cells += len(r.cells)
		needed := false
		for i := range r.cells {
			if r.cells[i].char&charCluster != 0 || r.cells[i].ext != 0 {
				needed = true
				break
			}
		}
		if !needed {
			return
		}
		if r.epoch != s.epoch {
			n := &row{cells: make([]Cell, len(r.cells), cap(r.cells)), wrapped: r.wrapped, epoch: s.epoch}
			copy(n.cells, r.cells)
			r = n
			*p = n
		}
		for i := range r.cells {
			c := &r.cells[i]
			if c.char&charCluster != 0 {
				n, _ := s.clusters.intern([]byte(oldClusters[c.char&charMask]))
				c.char = c.char&charWide | charCluster | n
			}
			if c.ext != 0 {
				c.ext = s.exts.intern(oldExts[c.ext])
			}
		}
	}
	for y := range s.rows {
		remap(&s.rows[y])
	}
	for y := range s.back {
		remap(&s.back[y])
	}
	for i, c := range s.hist.chunks {
		if c.epoch != s.epoch {
			n := *c
			n.epoch = s.epoch
			c = &n
			s.hist.chunks[i] = c
		}
		for y := range c.rows[:c.n] {
			remap(&c.rows[y])
		}
	}
	pen := func(p *style) {
		if p.ext != 0 {
			p.ext = s.exts.intern(oldExts[p.ext])
		}
	}
	pen(&s.cur.pen)
	for i := range s.saved {
		pen(&s.saved[i].pen)
	}
	pens := append([]style(nil), s.pens...)
	for i := range pens {
		pen(&pens[i])
	}
	s.pens = pens

	s.clusters.compacted(len(s.clusters.texts), maxClusters, cells)
	s.exts.compacted(len(s.exts.list), maxExtents, cells)
}
