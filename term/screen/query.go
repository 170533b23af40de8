package screen

import (
	"fmt"
	"strconv"
)

// modelName is what XTVERSION tells.
const modelName = "pairterm"

// answer replies to a query, if replying is the model's business.
func (s *Screen) answer(text string) {
	if s.opts.Reply != nil && text != "" {
		s.opts.Reply([]byte(text))
	}
}

func (s *Screen) answerf(format string, args ...any) {
	if s.opts.Reply != nil {
		s.opts.Reply(fmt.Appendf(nil, format, args...))
	}
}

// deviceAttributes is DA1: a VT220 with selective erase and colour.
func (s *Screen) deviceAttributes() { s.answer("\x1b[?62;6;22c") }

// statusReport is DSR, with CPR.
func (s *Screen) statusReport(n int) {
	switch n {
	case 5:
		s.answer("\x1b[0n")
	case 6:
		s.answerf("\x1b[%d;%dR", s.line()+1, s.column()+1)
	}
}

// privateReport is DSR in its DEC form.
func (s *Screen) privateReport(n int) {
	switch n {
	case 6:
		s.answerf("\x1b[?%d;%d;1R", s.line()+1, s.column()+1)
	case 15:
		s.answer("\x1b[?13n") // no printer
	case 25:
		s.answer("\x1b[?21n") // user-defined keys are locked
	case 26:
		s.answer("\x1b[?27;1;0;0n") // a North American keyboard
	case 53, 55:
		s.answer("\x1b[?50n") // no locator
	case 56:
		s.answer("\x1b[?57;0n")
	case 62:
		s.answer("\x1b[0*{") // no space for macros
	case 63:
		s.answerf("\x1bP%d!~0000\x1b\\", s.param(1, 0))
	case 75:
		s.answer("\x1b[?70n")
	case 85:
		s.answer("\x1b[?83n")
	case 996:
		s.answer("\x1b[?997;1n") // colour scheme: dark, as terminals mostly are
	}
}

// terminalParameters is DECREQTPARM.
func (s *Screen) terminalParameters(n int) {
	if n <= 1 {
		s.answerf("\x1b[%d;1;1;128;128;1;0x", n+2)
	}
}

// reportMode is DECRQM.
func (s *Screen) reportMode(private bool) {
	n := s.param(0, 0)
	const (
		unknown = 0
		set     = 1
		reset   = 2
	)
	state, known := unknown, false
	var on bool
	if private {
		switch n {
		case decOrigin:
			on, known = s.cur.origin, true
		case decAlternate, decAltClear, decAltSave:
			on, known = s.alt, true
		default:
			var m Mode
			if m, known = decMode(n); known {
				on = s.modes.has(m)
			}
		}
	} else {
		var m Mode
		if m, known = ansiMode(n); known {
			on = s.modes.has(m)
		}
	}
	if known {
		state = reset
		if on {
			state = set
		}
	}
	mark := ""
	if private {
		mark = "?"
	}
	s.answerf("\x1b[%s%d;%d$y", mark, n, state)
}

// reportModifyKeys is XTQMODKEYS.
func (s *Screen) reportModifyKeys() {
	if i := s.param(0, 0); i < len(s.modKeys) {
		s.answerf("\x1b[>%d;%dm", i, max(int(s.modKeys[i])-1, 0))
	}
}

// requestSetting is DECRQSS.
func (s *Screen) requestSetting(what string) {
	if s.opts.Reply == nil {
		return
	}
	b := []byte("\x1bP1$r")
	switch what {
	case "m":
		b = append(b, '0')
		b = appendPen(b, style{}, s.cur.pen, noExtents, s.exts.list)
		b = append(b, 'm')
	case "r":
		b = fmt.Appendf(b, "%d;%dr", s.top+1, s.bottom)
	case "s":
		left, right := s.margins()
		b = fmt.Appendf(b, "%d;%ds", left+1, right)
	case " q":
		b = strconv.AppendInt(b, int64(s.cursorStyle), 10)
		b = append(b, " q"...)
	case "\"q":
		b = strconv.AppendInt(b, int64(boolInt(s.cur.pen.attr&AttrProtected != 0)), 10)
		b = append(b, "\"q"...)
	case "\"p":
		b = append(b, "62;1\"p"...)
	case "t":
		b = fmt.Appendf(b, "%dt", s.height)
	case "$|":
		b = fmt.Appendf(b, "%d$|", s.cols)
	case "*|":
		b = fmt.Appendf(b, "%d*|", s.height)
	default:
		s.answer("\x1bP0$r\x1b\\")
		return
	}
	s.opts.Reply(append(b, "\x1b\\"...))
}
