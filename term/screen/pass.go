package screen

import (
	"slices"
	"unicode/utf8"
)

// passer collects what Pass lets through to another terminal. It is off in
// Write.
type passer struct {
	on     bool
	out    []byte
	string passState // of the present string
}

// Pass is Write, and appends to dst what another terminal of the same size
// should get of p: everything but queries, whose answers are none of that
// terminal's business, and the few sequences that would take it where the
// model does not follow (VT52, double-size lines, other encodings, resizing
// the window) or that would outlast the session (programmed keys, fonts).
//
// Sequences come out whole and in a canonical form: they are held back until
// they are known not to be a query, so the end of p may come out with a later
// call; only the bodies of images and other long strings are streamed.
// Malformed UTF-8 comes out as U+FFFD.
func (s *Screen) Pass(dst, p []byte) []byte {
	s.pass.on, s.pass.out = true, dst
	s.Write(p)
	dst = s.pass.out
	s.pass.on, s.pass.out = false, nil
	return dst
}

func (t *passer) text(run []byte) { t.out = append(t.out, run...) }
func (t *passer) rune(r rune)     { t.out = utf8.AppendRune(t.out, r) }

// shifted passes the character after a single shift, and with it the shift
// itself, where it is needed to show that character.
func (t *passer) shifted(s *Screen, b byte) {
	r := s.cur.sets.g[s.single].rune(b)
	if r < 0x80 && s.cur.sets.active().rune(byte(r)) != r {
		t.out = append(t.out, asciiESC, 'N'+s.single-2, b)
		return
	}
	t.rune(r)
}

func (t *passer) control(b byte) { t.out = append(t.out, b) }

// escape passes an ESC sequence.
func (t *passer) escape(s *Screen, b byte) {
	t.out = append(t.out, asciiESC)
	t.out = s.appendInter(t.out)
	t.out = append(t.out, b)
}

// csi passes a CSI sequence.
func (t *passer) csi(s *Screen, b byte) {
	t.out = append(s.appendHead(append(t.out, "\x1b["...)), b)
}

// settle takes a terminal out of a pending wrap: with one, some terminals take
// the cursor to be beyond the last column, so that erasing spares that column.
func (t *passer) settle(s *Screen) {
	t.out = append(t.out, "\x1b["...)
	t.out = append(appendInt(t.out, s.line()+1), ';')
	t.out = append(appendInt(t.out, s.column()+1), 'H')
}

// setModes passes DECSET or DECRST of the modes that are known, and instead of
// the one that would resize the window what else it does.
func (t *passer) setModes(s *Screen, on bool) {
	final := byte('l')
	if on {
		final = 'h'
	}
	for _, p := range s.params[:s.np] {
		_, known := decMode(p)
		switch p {
		case decOrigin, decAlternate, decAltClear, decSaveCursor, decAltSave:
			known = true
		case decAllowColumn:
			known = false
		case decColumns:
			known = false
			if s.modes.has(ModeAllowColumns) {
				t.out = append(t.out, "\x1b[?69l\x1b[r"...)
				if !s.modes.has(ModeKeepColumns) {
					t.out = append(t.out, "\x1b[2J"...)
				}
				t.out = append(t.out, "\x1b[H"...)
			}
		}
		if known || slices.Contains(passedModes[:], p) {
			t.out = appendMode(t.out, p, final)
		}
	}
}
