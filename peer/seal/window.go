package seal

const (
	wordBits   = 64
	windowBits = 2048 // a power of two; one word of it is always being cleared
	words      = windowBits / wordBits
)

// window remembers which of the latest sequence numbers were seen. It is the
// ring of RFC 6479: a bitmap that is never shifted, whose words are cleared as the
// window moves over them. The zero value has seen nothing.
type window struct {
	seen bool   // whether any number has been marked
	top  uint64 // the highest number marked
	bits [words]uint64
}

// fresh reports whether seq is neither marked nor too old to tell.
func (w *window) fresh(seq uint64) bool {
	switch {
	case !w.seen || seq > w.top:
		return true
	case w.top-seq >= Window:
		return false
	}
	return w.bits[seq/wordBits%words]&(1<<(seq%wordBits)) == 0
}

// mark records a fresh seq as seen.
func (w *window) mark(seq uint64) {
	if !w.seen || seq > w.top {
		from, to := w.top/wordBits, seq/wordBits
		clear := min(to-from, words)
		for i := uint64(1); i <= clear; i++ {
			w.bits[(from+i)%words] = 0
		}
		w.seen, w.top = true, seq
	}
	w.bits[seq/wordBits%words] |= 1 << (seq % wordBits)
}
