package screen

// sgr is Select Graphic Rendition, with the colon forms of ISO 8613-6.
func (s *Screen) sgr() {
	pen := &s.cur.pen
	if s.np == 0 {
		s.resetPen()
		return
	}
	for i := 0; i < s.np; {
		end := i + 1 // of the sub-parameters
		for end < s.np && s.colon&(1<<end) != 0 {
			end++
		}
		n := s.params[i]
		switch {
		case n == 0:
			s.resetPen()
		case n == 4:
			u := UnderlineSingle
			if end > i+1 {
				u = Underline(min(s.params[i+1], int(UnderlineDashed)+1))
				if u > UnderlineDashed {
					break
				}
			}
			pen.attr = pen.attr.WithUnderline(u)
		case n == 38 || n == 48 || n == 58:
			var c Color
			var ok bool
			if end > i+1 {
				c, ok = s.colonColor(i+1, end)
			} else {
				c, end, ok = s.semicolonColor(i + 1)
			}
			if ok {
				switch n {
				case 38:
					pen.fg = c
				case 48:
					pen.bg = c
				default:
					s.setUnderlineColor(c)
				}
			}
		case n >= 30 && n <= 37:
			pen.fg = Indexed(uint8(n - 30))
		case n >= 40 && n <= 47:
			pen.bg = Indexed(uint8(n - 40))
		case n >= 90 && n <= 97:
			pen.fg = Indexed(uint8(n - 90 + 8))
		case n >= 100 && n <= 107:
			pen.bg = Indexed(uint8(n - 100 + 8))
		default:
			s.sgrAttr(n)
		}
		i = end
	}
}

func (s *Screen) sgrAttr(n int) {
	pen := &s.cur.pen
	switch n {
	case 1:
		pen.attr |= AttrBold
	case 2:
		pen.attr |= AttrDim
	case 3:
		pen.attr |= AttrItalic
	case 5, 6:
		pen.attr |= AttrBlink
	case 7:
		pen.attr |= AttrReverse
	case 8:
		pen.attr |= AttrHidden
	case 9:
		pen.attr |= AttrStrike
	case 21:
		pen.attr = pen.attr.WithUnderline(UnderlineDouble)
	case 22:
		pen.attr &^= AttrBold | AttrDim
	case 23:
		pen.attr &^= AttrItalic
	case 24:
		pen.attr = pen.attr.WithUnderline(UnderlineNone)
	case 25:
		pen.attr &^= AttrBlink
	case 27:
		pen.attr &^= AttrReverse
	case 28:
		pen.attr &^= AttrHidden
	case 29:
		pen.attr &^= AttrStrike
	case 39:
		pen.fg = 0
	case 49:
		pen.bg = 0
	case 53:
		pen.attr |= AttrOverline
	case 55:
		pen.attr &^= AttrOverline
	case 59:
		s.setUnderlineColor(0)
	}
}

// resetPen is SGR 0, which leaves protection and the hyperlink alone.
func (s *Screen) resetPen() {
	pen := &s.cur.pen
	pen.fg, pen.bg = 0, 0
	pen.attr &= AttrProtected
	if pen.ext != 0 {
		s.setUnderlineColor(0)
	}
}

// colonColor reads 5:n, 2:r:g:b or 2:space:r:g:b in parameters i..end.
func (s *Screen) colonColor(i, end int) (Color, bool) {
	switch n := end - i; {
	case n >= 2 && s.params[i] == 5:
		return paletteColor(s.params[i+1])
	case n >= 5 && s.params[i] == 2:
		return directColor(s.params[i+2 : i+5])
	case n == 4 && s.params[i] == 2:
		return directColor(s.params[i+1 : i+4])
	}
	return 0, false
}

// semicolonColor reads 5;n or 2;r;g;b from parameter i on, and returns where
// it ends. A colour that is cut off takes the rest of the sequence.
func (s *Screen) semicolonColor(i int) (Color, int, bool) {
	if i >= s.np {
		return 0, s.np, false
	}
	switch s.params[i] {
	case 5:
		if i+1 < s.np {
			c, ok := paletteColor(s.params[i+1])
			return c, i + 2, ok
		}
		return 0, s.np, false
	case 2:
		if i+3 < s.np {
			c, ok := directColor(s.params[i+1 : i+4])
			return c, i + 4, ok
		}
		return 0, s.np, false
	}
	return 0, i + 1, false
}

func paletteColor(n int) (Color, bool) {
	if n > 255 {
		return 0, false
	}
	return Indexed(uint8(n)), true
}

func directColor(v []int) (Color, bool) {
	if v[0] > 255 || v[1] > 255 || v[2] > 255 {
		return 0, false
	}
	return RGB(uint8(v[0]), uint8(v[1]), uint8(v[2])), true
}

func (s *Screen) setUnderlineColor(c Color) {
	x := s.exts.list[s.cur.pen.ext]
	if x.underline == c {
		return
	}
	x.underline = c
	s.setExtent(x)
}

// setExtent gives the pen an extent; where the table is full of ones that are
// shown, none.
func (s *Screen) setExtent(x extent) {
	s.cur.pen.ext = s.internExtent(x)
}

// pushPen and popPen are XTPUSHSGR and XTPOPSGR, for all attributes at once.
// Neither protection nor the hyperlink is one of them.
func (s *Screen) pushPen() {
	if len(s.pens) == maxPenStack {
		return
	}
	p := s.cur.pen
	p.attr &^= AttrProtected
	p.ext = s.internExtent(extent{underline: s.exts.list[p.ext].underline})
	s.pens = append(s.pens[:len(s.pens):len(s.pens)], p)
}

func (s *Screen) popPen() {
	n := len(s.pens)
	if n == 0 {
		return
	}
	p := s.pens[n-1]
	s.pens = s.pens[:n-1]
	u := s.exts.list[p.ext].underline
	p.ext = s.cur.pen.ext
	p.attr |= s.cur.pen.attr & AttrProtected
	s.cur.pen = p
	s.setUnderlineColor(u)
}
