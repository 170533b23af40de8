package screen

// execute performs a C0 control.
func (s *Screen) execute(b byte) {
	s.lastChar = 0
	switch b {
	case asciiBEL:
		s.bells++
	case asciiBS:
		s.cursorLeft(1)
	case asciiHT:
		s.tab(1)
	case asciiLF, asciiVT, asciiFF:
		s.lineFeed()
	case asciiCR:
		s.carriageReturn()
	case asciiSO:
		s.cur.sets.gl = 1
	case asciiSI:
		s.cur.sets.gl = 0
	case asciiENQ:
		s.answer("") // xterm's answerback string is empty, too
		return
	case asciiCAN, asciiSUB:
		s.single = 0
		return
	default:
		return
	}
	if s.pass.on {
		s.pass.control(b)
	}
}

// dispatchESC performs an ESC sequence.
func (s *Screen) dispatchESC(b byte) {
	s.lastChar = 0
	show := true
	if s.ninter == 0 {
		show = s.escPlain(b)
	} else {
		switch s.inter[0] {
		case '(', ')', '*', '+', '-', '.', '/':
			s.designate(b)
		case '#':
			// DECALN. The double-size lines of DECDHL and DECDWL are not shown by
			// the model, nor by either of its oracles.
			if show = b == '8' && s.ninter == 1; show {
				s.align()
			}
		case '%':
			// Leaving UTF-8 (ESC % @) would take the terminal where the
			// model cannot follow.
			show = b == 'G'
		default:
			show = false // S8C1T and the like
		}
	}
	if show && s.pass.on {
		s.pass.escape(s, b)
	}
}

// escPlain performs an ESC sequence without intermediates and reports whether
// another terminal should get it.
func (s *Screen) escPlain(b byte) bool {
	switch b {
	case '7':
		s.saveCursor()
	case '8':
		s.restoreCursor()
	case 'D':
		s.endLine()
		s.cur.pending = false
		s.index()
	case 'E':
		s.endLine()
		s.carriageReturn()
		s.index()
	case 'M':
		s.reverseIndex()
	case 'H':
		s.setTab(s.cur.x, true)
	case 'c':
		s.fullReset()
	case '6':
		s.backIndex()
	case '9':
		s.forwardIndex()
	case '=':
		s.modes.put(ModeKeypad, true)
	case '>':
		s.modes.put(ModeKeypad, false)
	case 'N':
		s.single = 2
		return false // it goes with the character
	case 'O':
		s.single = 3
		return false
	case 'n':
		s.cur.sets.gl = 2
	case 'o':
		s.cur.sets.gl = 3
	case '~', '}', '|':
		// LS1R, LS2R and LS3R: see charsets.
	case 'Z':
		s.deviceAttributes()
		return false
	case '\\':
		return false // ST; the string it ended was dealt with
	default:
		return false
	}
	return true
}

// designate is SCS.
func (s *Screen) designate(final byte) {
	set := charsetASCII
	switch s.inter[0] {
	case '-', '.', '/':
		// 96-character sets serve the upper half, which UTF-8 has taken.
	default:
		if s.ninter == 2 {
			set = charsetByFinal(s.inter[1], final)
		} else if s.ninter == 1 {
			set = charsetByFinal(0, final)
		}
	}
	var g int
	switch s.inter[0] {
	case ')', '-':
		g = 1
	case '*', '.':
		g = 2
	case '+', '/':
		g = 3
	}
	s.cur.sets.g[g] = set
}

// backIndex is DECBI, forwardIndex DECFI.
func (s *Screen) backIndex() {
	s.cur.pending = false
	left, _ := s.margins()
	if s.cur.x != left {
		s.cursorLeftPlain()
		return
	}
	s.shiftColumns(left, 1)
}

func (s *Screen) forwardIndex() {
	left, right := s.margins()
	if s.cur.x != right-1 {
		s.moveTo(s.cur.x+1, s.cur.y)
		return
	}
	s.shiftColumns(left, -1)
}

func (s *Screen) cursorLeftPlain() { s.moveTo(s.cur.x-1, s.cur.y) }

// fullReset is RIS, which forgets the scrollback, too, as in xterm.
func (s *Screen) fullReset() {
	s.leaveAlternate()
	s.state.reset()
	s.forget()
	for y := range s.height {
		s.clearRow(y)
	}
}

// softReset is DECSTR.
func (s *Screen) softReset() {
	s.resetMargins()
	s.cur.origin = false
	s.cur.pen = style{}
	s.cur.sets = charsets{}
	s.modes.put(ModeInsert, false)
	s.modes.put(ModeKeypad, false)
	s.modes.put(ModeCursorKeys, false)
	s.modes.put(ModeKeyboardLock, false)
	s.modes.put(ModeLeftRightMargin, false)
	s.modes.put(ModeReverseWrap, false)
	s.modes.put(ModeAutowrap, true)
	s.modes.put(ModeCursorVisible, true)
	// A wrap stays pending, but not at a margin that is gone.
	s.cur.pending = s.cur.pending && s.cur.x == s.cols-1
	s.saved[s.which()] = cursor{}
}
