package screen

import "strconv"

// writer appends sequences for a terminal whose state it tracks, and leaves
// out those that would change nothing.
type writer struct {
	b []byte

	cols, height int
	alt          bool
	x, y         int // of the cursor; x is negative if it is not known
	printed      int // the length of b after the last character
	pending      bool
	pen          style
	origin       bool
	sets         charsets

	top, bottom, left, right int
	modes                    modeSet
	cursorStyle              uint8

	penExts  []extent // the table that pen refers to
	exts     []extent // the table of what is written
	clusters []string
}

// track starts from a state and will write cells of another one.
func (w *writer) track(from, to *Snapshot) {
	w.cols, w.height = from.cols, from.height
	w.alt = from.alt
	w.x, w.y, w.pending = from.cur.x, from.cur.y, from.cur.pending
	w.pen, w.origin, w.sets = from.cur.pen, from.cur.origin, from.cur.sets
	w.top, w.bottom, w.left, w.right = from.top, from.bottom, from.left, from.right
	w.modes, w.cursorStyle = from.modes, from.cursorStyle
	w.penExts, w.exts, w.clusters = from.exts, to.exts, to.clusters
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }

// seq appends CSI, one parameter where it is not 1, and the final byte.
func (w *writer) seq(n int, final byte) {
	w.b = append(w.b, "\x1b["...)
	if n != 1 {
		w.b = appendInt(w.b, n)
	}
	w.b = append(w.b, final)
}

// seq2 appends CSI, two parameters and the final byte.
func (w *writer) seq2(n, m int, final byte) {
	w.b = append(w.b, "\x1b["...)
	w.b = appendInt(w.b, n)
	w.b = append(w.b, ';')
	w.b = appendInt(w.b, m)
	w.b = append(w.b, final)
}

// neutral makes positions absolute and text plain ASCII that wraps.
func (w *writer) neutral() {
	if w.origin {
		w.setOrigin(false)
	}
	if w.modes.has(ModeLeftRightMargin) {
		w.putMode(ModeLeftRightMargin, false)
		w.left, w.right = 0, w.cols
		w.x, w.pending = -1, false
	}
	if w.top != 0 || w.bottom != w.height {
		w.b = append(w.b, "\x1b[r"...)
		w.top, w.bottom = 0, w.height
		w.x, w.y, w.pending = 0, 0, false
	}
	if w.modes.has(ModeInsert) {
		w.putMode(ModeInsert, false)
	}
	if !w.modes.has(ModeAutowrap) {
		w.putMode(ModeAutowrap, true)
	}
	w.asciiSet()
}

// asciiSet makes ASCII the invoked character set.
func (w *writer) asciiSet() {
	if w.sets.active() == charsetASCII {
		return
	}
	if w.sets.g[0] != charsetASCII {
		w.b = append(w.b, "\x1b(B"...)
		w.sets.g[0] = charsetASCII
	}
	if w.sets.gl != 0 {
		w.b = append(w.b, asciiSI)
		w.sets.gl = 0
	}
}

// setCharsets designates and invokes character sets.
func (w *writer) setCharsets(c charsets) {
	for g, set := range c.g {
		if w.sets.g[g] != set {
			w.b = append(w.b, asciiESC, "()*+"[g])
			des := designators[set]
			if des[0] == '%' {
				w.b = append(w.b, des...)
			} else {
				w.b = append(w.b, des[0])
			}
		}
	}
	if w.sets.gl != c.gl {
		switch c.gl {
		case 0:
			w.b = append(w.b, asciiSI)
		case 1:
			w.b = append(w.b, asciiSO)
		case 2:
			w.b = append(w.b, "\x1bn"...)
		case 3:
			w.b = append(w.b, "\x1bo"...)
		}
	}
	w.sets = c
}

// mode appends DECSET or DECRST of one mode.
func (w *writer) mode(n int, on bool) {
	final := byte('l')
	if on {
		final = 'h'
	}
	w.b = appendMode(w.b, n, final)
}

// putMode sets or resets one mode.
func (w *writer) putMode(m Mode, on bool) {
	if m == ModeKeypad {
		// DECKPAM and DECKPNM: more terminals know these than DECNKM.
		if on {
			w.b = append(w.b, "\x1b="...)
		} else {
			w.b = append(w.b, "\x1b>"...)
		}
	} else if int(m) < len(ansiNumbers) {
		n := ansiNumbers[m]
		final := byte('l')
		if on {
			final = 'h'
		}
		w.seq(int(n), final)
	} else {
		w.mode(int(decNumbers[m]), on)
	}
	w.modes.put(m, on)
}

// move puts the cursor at a position, in neutral state.
func (w *writer) move(x, y int) {
	known := w.x >= 0 && w.y == y && !w.pending
	switch {
	case known && w.x == x:
		return
	case known && x > w.x:
		w.seq(x-w.x, 'C')
	case known && w.x-x <= 3:
		for range w.x - x {
			w.b = append(w.b, asciiBS)
		}
	case w.x >= 0 && w.y == y && x == 0:
		w.b = append(w.b, asciiCR)
	case known:
		w.seq(x+1, 'G')
	case x == 0:
		w.seq(y+1, 'H')
	default:
		w.seq2(y+1, x+1, 'H')
	}
	w.x, w.y, w.pending = x, y, false
}

// setPen sets the rendition to one of the table that is written from.
func (w *writer) setPen(p style) {
	if w.pen == p && (p.ext == 0 || &w.penExts[0] == &w.exts[0]) {
		return
	}
	from, to := w.penExts[w.pen.ext], w.exts[p.ext]
	if from.id != to.id || from.uri != to.uri {
		w.b = appendLink(w.b, to)
	}
	if (w.pen.attr^p.attr)&AttrProtected != 0 {
		w.b = append(w.b, "\x1b["...)
		if p.attr&AttrProtected != 0 {
			w.b = append(w.b, '1')
		}
		w.b = append(w.b, "\"q"...)
	}
	w.rendition(p)
	w.pen, w.penExts = p, w.exts
}

// resetPen resets the rendition, whatever it is.
func (w *writer) resetPen() {
	w.b = append(w.b, "\x1b[m"...)
	link := w.penExts[w.pen.ext]
	w.pen = style{attr: w.pen.attr & AttrProtected}
	if link.uri == "" {
		w.penExts = noExtents
		return
	}
	w.pen.ext = 1
	w.penExts = []extent{{}, {id: link.id, uri: link.uri}}
}

// rendition appends the shorter of the SGR that changes what differs and the
// one that starts from a reset.
func (w *writer) rendition(p style) {
	var buf [128]byte
	change := appendPen(buf[:0], w.pen, p, w.penExts, w.exts)
	if len(change) == 0 {
		return
	}
	mark := len(w.b)
	w.b = append(w.b, "\x1b["...)
	if p.fg == 0 || p.bg == 0 || len(change) > 16 {
		w.b = appendPen(w.b, style{}, p, noExtents, w.exts)
		if len(w.b)-mark-2 < len(change)-1 {
			w.b = append(w.b, 'm')
			return
		}
		w.b = w.b[:mark+2]
	}
	w.b = append(append(w.b, change[1:]...), 'm')
}

// cell prints one cell at the cursor, and its tail.
func (w *writer) cell(c Cell) {
	w.setPen(c.style())
	ch := c.char
	switch {
	case ch == 0:
		w.b = append(w.b, ' ')
	case ch < 0x80:
		w.b = append(w.b, byte(ch))
	default:
		w.b = c.appendChar(w.b, w.clusters)
	}
	w.printed = len(w.b)
	w.advance(c.Width())
	if uncertain(c) && !w.pending {
		w.x = -1
	}
}

// advance moves the tracked cursor over what was printed.
func (w *writer) advance(n int) {
	if w.x < 0 {
		return
	}
	if w.x += n; w.x >= w.cols {
		w.x, w.pending = w.cols-1, true
	}
}

// uncertain tells the cells after which terminals disagree about the column.
func uncertain(c Cell) bool {
	return c.char&charCluster != 0 || c.char&charWide != 0 && c.char&charMask > 0xffff
}
