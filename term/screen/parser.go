package screen

// The parser is the VT500 state machine of Paul Williams
// (https://vt100.net/emu/dec_ansi_parser) in its UTF-8 form: C1 controls exist
// as ESC sequences and as the code points U+0080..U+009F, never as single
// bytes. It stops and goes on at any byte.

type parseState uint8

const (
	stGround parseState = iota
	stUTF8              // inside a code point, in ground otherwise
	stEscape
	stEscapeInter
	stCSI
	stCSIIgnore // until the final byte
	stDCS       // up to the final byte, as in CSI
	stDCSIgnore
	stString // the body of OSC, DCS, APC; or of SOS, PM and ESC k, which nobody reads
)

// The introducers of strings, as the final byte of their ESC sequence.
const (
	kindOSC   = ']'
	kindDCS   = 'P'
	kindAPC   = '_'
	kindSOS   = 'X'
	kindPM    = '^'
	kindTitle = 'k' // GNU screen's and tmux's window name
)

const (
	asciiNUL = 0x00
	asciiENQ = 0x05
	asciiBEL = 0x07
	asciiBS  = 0x08
	asciiHT  = 0x09
	asciiLF  = 0x0a
	asciiVT  = 0x0b
	asciiFF  = 0x0c
	asciiCR  = 0x0d
	asciiSO  = 0x0e
	asciiSI  = 0x0f
	asciiCAN = 0x18
	asciiSUB = 0x1a
	asciiESC = 0x1b
	asciiDEL = 0x7f
)

// parser is the state of the state machine.
type parser struct {
	st parseState

	utf8 [4]byte // the bytes of an unfinished code point
	nbuf uint8

	prefix byte    // private marker, one of <=>?
	inter  [2]byte // intermediates
	ninter uint8   // how many there were; more than two are in no sequence we know
	np     int     // parameters so far; the last one is being collected
	full   bool    // there were more parameters than maxParams
	params [maxParams]int
	colon  uint32 // bit i: parameter i followed a colon

	kind   byte   // of the string
	final  byte   // of a DCS
	str    []byte // the body
	over   bool   // the body is longer than maxString; str is what came first
	strC2  bool   // 0xc2 was seen, which begins an encoded C1 control
	single uint8  // the set that a single shift invoked for the next character, or zero

	pass passer
}

// param returns parameter i, or def where it is absent or zero.
func (p *parser) param(i, def int) int {
	if i < p.np && p.params[i] != 0 {
		return p.params[i]
	}
	return def
}

// clear is for the beginning of a sequence. Any sequence takes a single shift
// back.
func (p *parser) clear() {
	p.prefix, p.ninter, p.np, p.colon, p.full = 0, 0, 0, 0, false
	p.single = 0
	p.inter = [2]byte{}
}

// Write feeds the model. It never fails.
func (s *Screen) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.gen++
	s.last = nil
	for i := 0; i < len(p); {
		switch s.st {
		case stGround:
			i = s.ground(p, i)
		case stUTF8:
			i = s.resumeRune(p, i)
		case stEscape, stEscapeInter:
			i = s.escape(p, i)
		case stCSI, stCSIIgnore, stDCS, stDCSIgnore:
			i = s.control(p, i)
		case stString:
			i = s.str1(p, i)
		}
	}
	return len(p), nil
}

// ground reads text and control characters up to a sequence.
func (s *Screen) ground(p []byte, i int) int {
	for i < len(p) {
		b := p[i]
		switch {
		case b >= 0x20 && b < asciiDEL:
			i = s.printASCII(p, i)
		case b == asciiESC:
			s.clear()
			s.st = stEscape
			i++
			// Nearly all sequences are CSI.
			if i < len(p) && p[i] == '[' {
				s.st = stCSI
				i = s.control(p, i+1)
				if s.st == stGround {
					continue
				}
			}
			return i
		case b < 0x20:
			s.execute(b)
			i++
		case b == asciiDEL:
			i++
		default:
			r, n := decodeRune(p[i:])
			if n == 0 {
				s.nbuf = uint8(copy(s.utf8[:], p[i:]))
				s.st = stUTF8
				return len(p)
			}
			i += n
			s.printRune(r)
			if s.st != stGround {
				return i
			}
		}
	}
	return i
}

// resumeRune goes on with a code point that an earlier write began.
func (s *Screen) resumeRune(p []byte, i int) int {
	var buf [8]byte
	have := copy(buf[:], s.utf8[:s.nbuf])
	have += copy(buf[have:4], p[i:])
	r, n := decodeRune(buf[:have])
	if n == 0 {
		s.nbuf = uint8(copy(s.utf8[:], buf[:have]))
		return len(p)
	}
	s.st = stGround
	used := n - int(s.nbuf)
	s.printRune(r)
	return i + used
}

// decodeRune decodes the code point at the start of p, whose first byte is not
// ASCII. Malformed input gives U+FFFD and the length of its maximal subpart
// (Unicode 3.9, table 3-8); n is 0 if p ends inside a code point. CAN and SUB
// abort a code point like any other sequence, so that a diff can do it too:
// then r is negative.
func decodeRune(p []byte) (r rune, n int) {
	b0 := p[0]
	lo, hi := byte(0x80), byte(0xbf)
	var need int
	switch {
	case b0 >= 0xc2 && b0 <= 0xdf:
		need, r = 1, rune(b0&0x1f)
	case b0 >= 0xe0 && b0 <= 0xef:
		need, r = 2, rune(b0&0x0f)
		if b0 == 0xe0 {
			lo = 0xa0
		} else if b0 == 0xed {
			hi = 0x9f
		}
	case b0 >= 0xf0 && b0 <= 0xf4:
		need, r = 3, rune(b0&0x07)
		if b0 == 0xf0 {
			lo = 0x90
		} else if b0 == 0xf4 {
			hi = 0x8f
		}
	default:
		return 0xfffd, 1
	}
	for n = 1; n <= need; n++ {
		if n == len(p) {
			return 0, 0
		}
		b := p[n]
		if b == asciiCAN || b == asciiSUB {
			return -1, n
		}
		if b < lo || b > hi {
			return 0xfffd, n
		}
		r = r<<6 | rune(b&0x3f)
		lo, hi = 0x80, 0xbf
	}
	return r, n
}

// c1 executes a C1 control that came as a code point, from any state.
func (s *Screen) c1(r rune) {
	s.clear()
	s.st = stEscape
	s.escapeFinal(byte(r) - 0x40)
}

// escape reads an ESC sequence after the ESC.
func (s *Screen) escape(p []byte, i int) int {
	for i < len(p) {
		b := p[i]
		i++
		switch {
		case b < 0x20:
			if s.inSequence(b) {
				return i
			}
		case b < 0x30:
			s.addInter(b)
			s.st = stEscapeInter
		case b < asciiDEL:
			s.escapeFinal(b)
			return i
		}
	}
	return i
}

// inSequence executes a control character inside a sequence and reports
// whether it ended the sequence.
func (s *Screen) inSequence(b byte) bool {
	switch b {
	case asciiESC:
		s.clear()
		s.st = stEscape
		return true
	case asciiCAN, asciiSUB:
		s.st = stGround
		return true
	}
	s.execute(b)
	return false
}

func (s *Screen) addInter(b byte) {
	if int(s.ninter) < len(s.inter) {
		s.inter[s.ninter] = b
	}
	s.ninter = min(s.ninter+1, uint8(len(s.inter)+1))
}

// escapeFinal ends an ESC sequence, or begins one of the longer kinds.
func (s *Screen) escapeFinal(b byte) {
	if s.ninter == 0 {
		switch b {
		case '[':
			s.clear()
			s.st = stCSI
			return
		case 'P':
			s.clear()
			s.st = stDCS
			return
		case ']', '_', 'X', '^', 'k':
			s.beginString(b)
			return
		}
	}
	s.st = stGround
	s.dispatchESC(b)
}

// control reads a CSI sequence or the head of a DCS, after its introducer.
func (s *Screen) control(p []byte, i int) int {
	for i < len(p) {
		b := p[i]
		i++
		switch {
		case b >= '0' && b <= '9':
			if s.ninter != 0 {
				s.ignore()
				continue
			}
			if s.np == 0 {
				s.np = 1
				s.params[0] = 0
			} else if s.full {
				continue
			}
			if v := s.params[s.np-1]*10 + int(b-'0'); v < maxParamValue {
				s.params[s.np-1] = v
			} else {
				s.params[s.np-1] = maxParamValue
			}
		case b >= 0x40 && b < asciiDEL:
			st := s.st
			s.st = stGround
			switch st {
			case stCSI:
				s.dispatchCSI(b)
			case stDCS:
				s.final = b
				s.beginString(kindDCS)
				return i
			case stDCSIgnore:
				s.beginString(kindSOS)
				return i
			}
			return i
		case b == ';' || b == ':':
			s.separator(b == ':')
		case b >= 0x3c && b <= 0x3f:
			if s.np != 0 || s.prefix != 0 || s.ninter != 0 {
				s.ignore()
			}
			s.prefix = b
		case b >= 0x20 && b < 0x30:
			s.addInter(b)
		case b < 0x20:
			if s.st == stDCS || s.st == stDCSIgnore {
				// Not executed there (Williams: ignore), but they may end it.
				if b != asciiESC && b != asciiCAN && b != asciiSUB {
					continue
				}
			}
			if s.inSequence(b) {
				return i
			}
		}
	}
	return i
}

// separator ends a parameter. Those that there is no room for are dropped, as
// in xterm.js.
func (s *Screen) separator(colon bool) {
	if s.ninter != 0 {
		s.ignore()
		return
	}
	if s.np == 0 {
		s.np = 1
		s.params[0] = 0
	}
	if s.np == maxParams {
		s.full = true
		return
	}
	if colon {
		s.colon |= 1 << s.np
	}
	s.params[s.np] = 0
	s.np++
}

func (s *Screen) ignore() {
	if s.st == stCSI {
		s.st = stCSIIgnore
	} else if s.st == stDCS {
		s.st = stDCSIgnore
	}
}

func (s *Screen) beginString(kind byte) {
	s.st = stString
	s.kind = kind
	s.str = s.str[:0]
	s.over, s.strC2 = false, false
	s.pass.begin(s)
}

// str1 reads the body of a string.
func (s *Screen) str1(p []byte, i int) int {
	from := i
	for ; i < len(p); i++ {
		b := p[i]
		if s.strC2 {
			s.strC2 = false
			if b >= 0x80 && b <= 0x9f {
				s.collect(p[from:i]) // with the 0xc2, which endString cuts
				s.endString(b == 0x9c, 1)
				s.c1(rune(b))
				return i + 1
			}
		}
		if b == 0xc2 {
			s.strC2 = true
			continue
		}
		if b >= 0x20 {
			continue
		}
		switch b {
		case asciiBEL:
			if s.kind != kindOSC {
				continue
			}
			s.collect(p[from:i])
			s.st = stGround
			s.endString(true, 0)
			return i + 1
		case asciiCAN, asciiSUB:
			s.collect(p[from:i])
			s.st = stGround
			s.endString(false, 0)
			return i + 1
		case asciiESC:
			s.collect(p[from:i])
			s.endString(true, 0)
			s.clear()
			s.st = stEscape
			return i + 1
		}
	}
	s.collect(p[from:])
	return i
}

// collect appends to the body of a string, as far as it is kept.
func (s *Screen) collect(b []byte) {
	s.pass.body(s, b)
	if s.kind == kindSOS || s.kind == kindPM || s.kind == kindTitle || s.over {
		return
	}
	if room := maxString - len(s.str); len(b) > room {
		s.over = true
		b = b[:room]
	}
	s.str = append(s.str, b...)
}

// endString ends a string after its body; cut is the number of bytes of its
// terminator that were collected with it.
func (s *Screen) endString(complete bool, cut int) {
	s.lastChar = 0
	if !s.over && len(s.str) >= cut {
		s.str = s.str[:len(s.str)-cut]
	}
	ok := complete && !s.over
	switch s.kind {
	case kindOSC:
		if ok {
			s.dispatchOSC()
		}
	case kindDCS:
		if ok {
			s.dispatchDCS()
		}
	}
	s.pass.end(s, complete)
	if cap(s.str) > 4096 {
		s.str = nil
	}
}
