package term

// backlog is the newest part of a log of bytes whose positions are counted
// from its beginning. It is not safe for concurrent use.
type backlog struct {
	buf   []byte
	head  uint64 // the position behind the newest byte
	floor uint64 // bytes before it cannot be told without a gap
}

func newBacklog(size int) backlog { return backlog{buf: make([]byte, size)} }

// append adds p, of which nothing older than the size of the backlog is kept.
func (l *backlog) append(p []byte) {
	if over := len(p) - len(l.buf); over > 0 {
		l.head += uint64(over)
		p = p[over:]
	}
	n := copy(l.buf[l.head%uint64(len(l.buf)):], p)
	copy(l.buf, p[n:])
	l.head += uint64(len(p))
}

// cut marks something that bytes do not express. It takes one position, so
// that the states before and after it have different ones.
func (l *backlog) cut() {
	l.head++
	l.floor = l.head
}

// oldest returns the first position whose byte is still there.
func (l *backlog) oldest() uint64 {
	if size := uint64(len(l.buf)); l.head-l.floor > size {
		return l.head - size
	}
	return l.floor
}

// since appends at most limit bytes from pos on, and reports whether it could.
func (l *backlog) since(dst []byte, pos uint64, limit int) ([]byte, bool) {
	if pos < l.oldest() || pos > l.head {
		return dst, false
	}
	a, b := l.span(pos, limit)
	return append(append(dst, a...), b...), true
}

// span returns at most limit bytes from pos on, in two pieces, where they lie.
// They are good until the backlog has grown by its size less their number.
func (l *backlog) span(pos uint64, limit int) (a, b []byte) {
	n := min(l.head-pos, uint64(max(limit, 0)))
	start := pos % uint64(len(l.buf))
	if room := uint64(len(l.buf)) - start; n > room {
		return l.buf[start:], l.buf[:n-room]
	}
	return l.buf[start : start+n], nil
}
