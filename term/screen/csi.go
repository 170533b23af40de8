package screen

// dispatchCSI performs a CSI sequence.
func (s *Screen) dispatchCSI(b byte) {
	char := s.lastChar
	s.lastChar = 0
	show := true
	switch {
	case s.prefix == 0 && s.ninter == 0:
		switch b {
		case 'm':
			s.sgr()
		case 'b':
			show = false
			s.repeat(s.param(0, 1), char)
		default:
			show = s.csiPlain(b)
		}
	case s.ninter == 0:
		show = s.csiPrivate(b)
	case s.ninter == 1:
		show = s.csiIntermediate(b)
	default:
		show = false
	}
	if show && s.pass.on {
		s.pass.csi(s, b)
	}
}

// csiPlain performs a CSI sequence without prefix and intermediates and
// reports whether another terminal should get it.
func (s *Screen) csiPlain(b byte) bool {
	n := s.param(0, 1)
	if s.cur.pending && s.pass.on && (b == 'X' || (b == 'J' || b == 'K') && s.param(0, 0) == 0) {
		s.pass.settle(s)
	}
	switch b {
	case '@':
		s.insertBlanks(n)
	case 'A':
		s.cursorUp(n)
	case 'B', 'e':
		s.cursorDown(n)
	case 'C', 'a':
		s.cursorRight(n)
	case 'D':
		s.cursorLeft(n)
	case 'E':
		s.cursorDown(n)
		s.carriageReturn()
	case 'F':
		s.cursorUp(n)
		s.carriageReturn()
	case 'G', '`':
		s.address(n-1, s.line())
	case 'H', 'f':
		s.address(s.param(1, 1)-1, n-1)
	case 'I':
		s.tab(n)
	case 'J':
		s.eraseDisplay(s.param(0, 0), false)
	case 'K':
		s.eraseLine(s.param(0, 0), false)
	case 'L':
		s.insertLines(n)
	case 'M':
		s.deleteLines(n)
	case 'P':
		s.deleteCells(n)
	case 'S':
		s.scrollUp(s.top, s.bottom, n)
	case 'T':
		if s.np > 1 {
			return false // highlight mouse tracking
		}
		s.scrollDown(s.top, s.bottom, n)
	case '^':
		s.scrollDown(s.top, s.bottom, n)
	case 'X':
		s.eraseCells(n)
	case 'Z':
		s.backTab(n)
	case 'd':
		s.address(s.column(), n-1)
	case 'g':
		switch s.param(0, 0) {
		case 0:
			s.setTab(s.cur.x, false)
		case 3:
			s.tabs = make([]uint64, len(s.tabs))
		}
	case 'h', 'l':
		for _, p := range s.params[:s.np] {
			if m, ok := ansiMode(p); ok {
				s.modes.put(m, b == 'h')
			}
		}
	case 'r':
		s.setTopBottom(s.param(0, 1)-1, s.param(1, s.height))
	case 's':
		if s.modes.has(ModeLeftRightMargin) {
			s.setLeftRight(s.param(0, 1)-1, s.param(1, s.cols))
		} else {
			s.saveCursor()
		}
	case 'u':
		s.restoreCursor()
	case 't':
		return s.windowOp()
	case 'c':
		s.deviceAttributes()
		return false
	case 'n':
		s.statusReport(s.param(0, 0))
		return false
	case 'x':
		s.terminalParameters(s.param(0, 0))
		return false
	default:
		return false
	}
	return true
}

// csiPrivate performs a CSI sequence with a private prefix.
func (s *Screen) csiPrivate(b byte) bool {
	switch s.prefix {
	case '?':
		switch b {
		case 'h', 'l':
			s.setModes(b == 'h')
			return false
		case 's', 'r':
			s.saveModes(b == 'r')
			return true
		case 'J':
			s.eraseDisplay(s.param(0, 0), true)
			return true
		case 'K':
			s.eraseLine(s.param(0, 0), true)
			return true
		case 'n':
			s.privateReport(s.param(0, 0))
		case 'u':
			s.answerf("\x1b[?%du", s.kitty[s.which()].flags)
		case 'm':
			s.reportModifyKeys()
		case 'W':
			if s.param(0, 0) == 5 {
				s.tabs = defaultTabs(s.cols)
				return true
			}
		}
	case '>':
		switch b {
		case 'm', 'n', 'f':
			return s.setModifyKeys(b)
		case 'u':
			s.kitty[s.which()].push(uint8(s.param(0, 0) & 31))
			return true
		case 'c':
			s.answer("\x1b[>41;390;0c")
		case 'q':
			s.answer("\x1bP>|" + modelName + "\x1b\\")
		}
	case '<':
		if b == 'u' {
			s.kitty[s.which()].pop(s.param(0, 1))
			return true
		}
	case '=':
		switch b {
		case 'u':
			s.kitty[s.which()].set(uint8(s.param(0, 0)&31), s.param(1, 1))
			return true
		case 'c':
			s.answer("\x1bP!|00000000\x1b\\")
		}
	}
	return false
}

// csiIntermediate performs a CSI sequence with one intermediate.
func (s *Screen) csiIntermediate(b byte) bool {
	if s.prefix != 0 {
		if s.prefix == '?' && s.inter[0] == '$' && b == 'p' {
			s.reportMode(true)
		}
		return false
	}
	switch s.inter[0] {
	case ' ':
		switch b {
		case 'q':
			if n := s.param(0, 0); n <= 6 {
				s.cursorStyle = uint8(n)
				return true
			}
			return false
		case '@':
			left, _ := s.margins()
			s.shiftColumns(left, -s.param(0, 1))
		case 'A':
			left, _ := s.margins()
			s.shiftColumns(left, s.param(0, 1))
		default:
			return false
		}
		return true
	case '!':
		if b == 'p' {
			s.softReset()
			return true
		}
	case '"':
		if b == 'q' {
			s.protect(s.param(0, 0))
			return true
		}
	case '\'':
		switch b {
		case '}':
			s.shiftColumns(s.cur.x, s.param(0, 1))
			return true
		case '~':
			s.shiftColumns(s.cur.x, -s.param(0, 1))
			return true
		}
	case '$':
		return s.csiRectangle(b)
	case '#':
		switch b {
		case '{', 'p':
			s.pushPen()
			return true
		case '}', 'q':
			s.popPen()
			return true
		}
	}
	return false
}

// csiRectangle performs the sequences that end in $ and a letter.
func (s *Screen) csiRectangle(b byte) bool {
	switch b {
	case 'p':
		s.reportMode(false)
		return false
	case 'x':
		c := s.param(0, ' ')
		if c < 0x20 || c > 0x7e {
			return false
		}
		if r, ok := s.rectParams(1); ok {
			cell := s.cur.pen.cell(uint32(c))
			cell.normalize()
			if cell.char == 0 {
				cell = Cell{Bg: cell.Bg}
			}
			s.fillRect(r, cell, false)
		}
	case 'z', '{':
		if r, ok := s.rectParams(0); ok {
			s.fillRect(r, Cell{}, b == '{')
		}
	case 'v':
		if r, ok := s.rectParams(0); ok {
			left, top := 0, 0
			if s.cur.origin {
				left, _ = s.margins()
				top = s.top
			}
			s.copyRect(r, left+s.param(6, 1)-1, top+s.param(5, 1)-1)
			s.settlePending()
		}
	default:
		return false
	}
	return true
}

// protect is DECSCA.
func (s *Screen) protect(n int) {
	switch n {
	case 1:
		s.cur.pen.attr |= AttrProtected
	case 0, 2:
		s.cur.pen.attr &^= AttrProtected
	}
}

// setTopBottom is DECSTBM; the rows from 0, the bottom exclusive.
func (s *Screen) setTopBottom(top, bottom int) {
	bottom = min(bottom, s.height)
	if bottom-top < 2 && !(s.height == 1 && top == 0) {
		return
	}
	s.top, s.bottom = top, bottom
	s.address(0, 0)
}

// setLeftRight is DECSLRM.
func (s *Screen) setLeftRight(left, right int) {
	right = min(right, s.cols)
	if right-left < 2 {
		return
	}
	s.left, s.right = left, right
	s.address(0, 0)
}
