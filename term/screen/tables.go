package screen

// Cells are 16 bytes and comparable; what does not fit is interned in two
// tables that only grow, so that a snapshot shares them by their slice header.
// compact.go makes them anew when they hold mostly what no cell shows any more.

// budget says when a table is to be compacted, and bounds it.
type budget struct {
	bytes int // of the entries
	limit int // entries at which to compact
	wait  int // entries to refuse before, since compacting did not help
}

// due reports whether a table of n entries is to be compacted before the next
// one is added.
func (b *budget) due(n int) bool {
	if n < max(b.limit, firstLimit) && b.bytes < maxTableBytes {
		return false
	}
	if b.wait > 0 {
		b.wait--
		return false
	}
	return true
}

// compacted sets the budget after a walk over so many cells left n entries. The
// next walk is not due before there were about as many entries as make up for
// it, so that a hostile stream does not make the model walk all the time.
func (b *budget) compacted(n, most, cells int) {
	b.limit = min(n+max(n, cells/16), most)
	if n > most-most/8 || b.bytes > maxTableBytes-maxTableBytes/8 {
		b.wait = firstLimit + cells/16
	}
}

// clusterTable holds the texts of cells that show more than one rune.
type clusterTable struct {
	budget
	texts []string
	index map[string]uint32
}

// intern returns the index of a text, and whether it has one: there may be no
// room for it.
func (t *clusterTable) intern(text []byte) (uint32, bool) {
	if i, ok := t.index[string(text)]; ok {
		return i, true
	}
	if len(t.texts) >= maxClusters || t.bytes >= maxTableBytes {
		return 0, false
	}
	if t.index == nil {
		t.index = make(map[string]uint32)
	}
	s := string(text)
	i := uint32(len(t.texts))
	t.texts = append(t.texts, s)
	t.index[s] = i
	t.bytes += len(s) + tableEntryBytes
	return i, true
}

// extent is what few cells have: a hyperlink and an underline colour.
type extent struct {
	id, uri   string
	underline Color
}

// extTable holds extents; index 0 is the zero extent.
type extTable struct {
	budget
	list  []extent
	index map[extent]uint16
}

var noExtents = []extent{{}}

func newExtTable() extTable {
	return extTable{list: noExtents[:1:1]}
}

func (t *extTable) find(x extent) (uint16, bool) {
	if x == (extent{}) {
		return 0, true
	}
	i, ok := t.index[x]
	return i, ok
}

// intern returns the index of an extent, which is 0 if there is no room for it.
func (t *extTable) intern(x extent) uint16 {
	if i, ok := t.find(x); ok {
		return i
	}
	if len(t.list) >= maxExtents || t.bytes >= maxTableBytes {
		return 0
	}
	if t.index == nil {
		t.index = make(map[extent]uint16)
	}
	i := uint16(len(t.list))
	t.list = append(t.list, x)
	t.index[x] = i
	t.bytes += len(x.id) + len(x.uri) + tableEntryBytes
	return i
}
