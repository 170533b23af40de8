package stream

import "slices"

const (
	// maxHeldBases bounds the states that a guest keeps for its host. An honest
	// host needs less than half of them.
	maxHeldBases = 32
	// maxAssembly bounds the bytes of frames that are not complete.
	maxAssembly = 2 * maxFrame
	// maxSinkErrors ends a stream whose frames cannot be applied.
	maxSinkErrors = 3
)

// view is what the guest makes of the host's output. It is owned by the loop.
type view[S any] struct {
	e    *endpoint
	sink Sink[S]

	refresh bool // Refresh was called; guarded by e.mu

	has      bool   // there is a state
	pos      uint64 // its position
	needFull bool   // only a frame from nothing can help
	errors   int    // of the sink, in a row

	bases []base[S] // by position; the state at pos may be among them
	early reorder
	parts []*assembly // frames that are not complete, by number

	viaLog                       bool // the last change came by the log
	logBytes, frames, fullFrames uint64
	scratch                      []byte
}

// assembly is a frame that is being put together.
type assembly struct {
	chunk        // of the first fragment, without data
	data  []byte // all of it
	got   []bool
	n     int
}

// state returns what the host is told: the position of the state, and of the
// newest base.
func (v *view[S]) state() (pos, base uint64, ok bool) {
	if !v.has || len(v.bases) == 0 {
		return 0, 0, false
	}
	return v.pos, v.bases[len(v.bases)-1].pos, true
}

// forget drops the bases before pos, which the host does not need any more.
func (v *view[S]) forget(pos uint64) {
	n := 0
	for n+1 < len(v.bases) && v.bases[n].pos < pos {
		n++
	}
	v.bases = slices.Delete(v.bases, 0, n)
}

func (v *view[S]) remember(state S) {
	if len(v.bases) == maxHeldBases {
		v.bases = slices.Delete(v.bases, 0, 1)
	}
	v.bases = append(v.bases, base[S]{ok: true, pos: v.pos, state: state})
}

// ask makes the host send everything.
func (v *view[S]) ask() {
	v.bases = nil
	if !v.needFull {
		v.needFull = true
		v.e.change()
	}
}

// chunk handles a part of the log.
func (v *view[S]) chunk(c *chunk) {
	if !v.has || c.pos > v.pos {
		v.early.put(c.pos, c.mark, c.data)
		return
	}
	v.apply(c.pos, c.mark, c.data)
	v.advance()
}

// apply applies the part of a chunk that is new; its begin is not.
func (v *view[S]) apply(pos uint64, mark bool, data []byte) {
	skip := v.pos - pos
	if skip >= uint64(len(data)) {
		return
	}
	if n := len(v.bases); mark && skip == 0 && n > 0 && v.bases[n-1].pos != pos {
		v.remember(v.sink.Mark())
	}
	data = data[skip:]
	v.sink.Log(v.pos, data)
	v.pos += uint64(len(data))
	v.logBytes += uint64(len(data))
	v.viaLog = true
}

// advance applies what has waited for its turn.
func (v *view[S]) advance() {
	for {
		e, ok := v.early.next(v.pos)
		if !ok {
			return
		}
		v.apply(e.pos, e.mark, e.data)
	}
}

// fragment handles a fragment of a frame, and reports whether a frame is
// complete.
func (v *view[S]) fragment(c *chunk) (done bool, err error) {
	if v.stale(c) {
		return false, nil
	}
	a := v.assembly(c)
	if a == nil || a.got[c.index] {
		return false, nil
	}
	a.got[c.index] = true
	a.n++
	copy(a.data[c.index*fragmentSize:], c.data)
	if a.n < len(a.got) {
		return false, nil
	}
	v.parts = slices.DeleteFunc(v.parts, func(b *assembly) bool { return b == a })
	return true, v.frame(a)
}

// stale reports whether a frame is of no use.
func (v *view[S]) stale(c *chunk) bool {
	if !v.has || c.pos > v.pos {
		return false
	}
	if c.pos < v.pos || c.flags&frameBased != 0 {
		return true
	}
	// It makes the state that is here already, but that may not be a base.
	_, base, ok := v.state()
	return ok && base == v.pos
}

// assembly finds or begins the assembly of the frame that c is of. It returns
// nil for a fragment that does not fit to the others, and for a frame for which
// newer ones left no room.
func (v *view[S]) assembly(c *chunk) *assembly {
	size := 0
	for _, a := range v.parts {
		size += a.total
		if a.frame != c.frame {
			continue
		}
		if a.pos != c.pos || a.flags != c.flags || a.base != c.base || a.total != c.total {
			v.e.tally.Malformed++
			return nil
		}
		return a
	}
	for len(v.parts) > 0 && (len(v.parts) == maxFrames || size+c.total > maxAssembly) {
		if v.parts[0].frame > c.frame {
			return nil
		}
		size -= v.parts[0].total
		v.parts = slices.Delete(v.parts, 0, 1)
	}
	a := &assembly{chunk: *c, data: make([]byte, c.total), got: make([]bool, fragments(c.total))}
	a.chunk.data = nil
	i := len(v.parts)
	for i > 0 && v.parts[i-1].frame > c.frame {
		i--
	}
	v.parts = slices.Insert(v.parts, i, a)
	return a
}

// frame applies a complete frame.
func (v *view[S]) frame(a *assembly) error {
	var from S
	if a.flags&frameBased != 0 {
		i := slices.IndexFunc(v.bases, func(b base[S]) bool { return b.pos == a.base })
		if i < 0 {
			v.ask()
			return nil
		}
		from = v.bases[i].state
	}
	diff := a.data
	if a.flags&frameDeflated != 0 {
		var err error
		if v.scratch, err = inflate(v.scratch[:0], diff, maxState); err != nil {
			return ErrProtocol
		}
		diff = v.scratch
		if cap(v.scratch) > maxScratch {
			v.scratch = nil
		}
	}
	state, err := v.sink.Frame(from, a.base, a.pos, diff)
	if err != nil {
		if v.errors++; v.errors == maxSinkErrors {
			return ErrSink
		}
		v.ask()
		return nil
	}
	v.errors = 0
	v.has, v.pos = true, a.pos
	v.frames++
	if a.flags&frameBased == 0 {
		v.fullFrames++
		if v.needFull {
			v.needFull = false
			v.e.change()
		}
	}
	if n := len(v.bases); n > 0 && v.bases[n-1].pos == v.pos {
		v.bases = v.bases[:n-1]
	}
	v.remember(state)
	v.viaLog = false
	v.parts = slices.DeleteFunc(v.parts, func(b *assembly) bool { return v.stale(&b.chunk) })
	v.advance()
	return nil
}
