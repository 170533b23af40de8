package stream

import "slices"

// reorder holds chunks of a log that arrived before their turn. Memory is
// bounded by maxEarly and maxEarlyBytes; what does not fit is dropped, and will
// be repeated by the peer.
type reorder struct {
	chunks []early // by position
	bytes  int
}

type early struct {
	pos  uint64
	mark bool
	data []byte
}

func (e *early) end() uint64 { return e.pos + uint64(len(e.data)) }

const (
	maxEarly      = 1024
	maxEarlyBytes = 512 << 10
)

// put keeps a copy of a chunk.
func (r *reorder) put(pos uint64, mark bool, data []byte) {
	i, found := slices.BinarySearchFunc(r.chunks, pos, func(e early, pos uint64) int {
		switch {
		case e.pos < pos:
			return -1
		case e.pos > pos:
			return 1
		}
		return 0
	})
	if found {
		e := &r.chunks[i]
		e.mark = e.mark || mark
		if more := len(data) - len(e.data); more > 0 && r.bytes+more <= maxEarlyBytes {
			e.data = append(e.data[:0], data...)
			r.bytes += more
		}
		return
	}
	if len(r.chunks) == maxEarly || r.bytes+len(data) > maxEarlyBytes {
		return
	}
	r.bytes += len(data)
	r.chunks = slices.Insert(r.chunks, i, early{pos, mark, slices.Clone(data)})
}

// next returns the first chunk that begins at or before pos, when it goes
// beyond pos; older ones are dropped. The chunk is held until drop or next is
// called with a later position.
func (r *reorder) next(pos uint64) (early, bool) {
	n := 0
	for n < len(r.chunks) && r.chunks[n].end() <= pos {
		r.bytes -= len(r.chunks[n].data)
		n++
	}
	if n > 0 {
		r.chunks = slices.Delete(r.chunks, 0, n)
	}
	if len(r.chunks) == 0 {
		r.chunks = nil
		return early{}, false
	}
	if e := r.chunks[0]; e.pos <= pos {
		return e, true
	}
	return early{}, false
}
