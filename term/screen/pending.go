package screen

import "strconv"

// appendPending appends the bytes that take a parser in ground state to where
// this one is. Control characters inside the sequence were executed already and
// are not repeated.
func (s *Screen) appendPending(b []byte) []byte {
	if s.single != 0 {
		b = append(b, asciiESC, 'N'+s.single-2)
	}
	switch s.st {
	case stUTF8:
		b = append(b, s.utf8[:s.nbuf]...)
	case stEscape:
		b = append(b, asciiESC)
	case stEscapeInter:
		b = append(b, asciiESC)
		b = s.appendInter(b)
	case stCSI:
		b = s.appendHead(append(b, "\x1b["...))
	case stCSIIgnore:
		b = append(b, "\x1b[0<"...)
	case stDCS:
		b = s.appendHead(append(b, "\x1bP"...))
	case stDCSIgnore:
		b = append(b, "\x1bP0<"...)
	case stString:
		b = s.appendString(b)
	}
	return b
}

// appendHead appends what was read of a CSI or DCS after its introducer.
func (p *parser) appendHead(b []byte) []byte {
	if p.prefix != 0 {
		b = append(b, p.prefix)
	}
	for i, v := range p.params[:p.np] {
		if i > 0 {
			if p.colon&(1<<i) != 0 {
				b = append(b, ':')
			} else {
				b = append(b, ';')
			}
		}
		if v != 0 || p.colon&(1<<i) == 0 {
			b = strconv.AppendInt(b, int64(v), 10)
		}
	}
	if p.full {
		b = append(b, ';')
	}
	return p.appendInter(b)
}

func (p *parser) appendInter(b []byte) []byte {
	for i := range p.ninter {
		b = append(b, p.inter[min(int(i), len(p.inter)-1)])
	}
	return b
}

// appendString appends a string that has not ended. One that nobody will read,
// because of its kind or its length, is as good as an empty SOS.
func (s *Screen) appendString(b []byte) []byte {
	if s.over || s.kind == kindSOS || s.kind == kindPM || s.kind == kindTitle {
		b = append(b, asciiESC, kindSOS)
		if s.strC2 {
			b = append(b, 0xc2)
		}
		return b
	}
	b = append(b, asciiESC, s.kind)
	if s.kind == kindDCS {
		b = append(s.appendHead(b), s.final)
	}
	return append(b, s.str...)
}
