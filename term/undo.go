package term

import (
	"bytes"
	"strconv"
)

// A privateMode is a DEC private mode that programs switch on and that has to
// be switched off again before the terminal is given back (xterm ctlseqs,
// "DEC Private Mode Set"). Autowrap (7), the cursor (25) and synchronized
// output (2026) are not here, because they are put right in any case.
var privateModes = [...]uint16{
	1,    // application cursor keys
	5,    // reverse screen
	6,    // origin
	9,    // mouse: X10
	12,   // blinking cursor
	45,   // reverse wraparound
	66,   // application keypad
	69,   // left and right margins
	1000, // mouse: buttons
	1001, // mouse: highlighting
	1002, // mouse: buttons and drags
	1003, // mouse: all motion
	1004, // focus
	1005, // mouse: UTF-8 coordinates
	1006, // mouse: SGR coordinates
	1015, // mouse: urxvt coordinates
	1016, // mouse: SGR coordinates in pixels
	2004, // bracketed paste
	1045, // reverse wraparound, extended
	2027, // grapheme clusters
	2031, // reports of the colour scheme
	2048, // reports of the size
}

// Indices into privateModes.
const (
	modeOrigin  = 2
	modeMargins = 7
)

// modes is what programs have changed in a terminal and what has to be undone
// before it is given back. It is comparable.
type modes struct {
	private   uint32 // bit i: privateModes[i] is set
	alt       uint16 // the private mode that chose the alternate screen, or 0
	kitty     [2]uint8
	colours   uint8 // bits of colourSet
	titles    int8  // titles on the terminal's stack
	insert    bool  // IRM
	newline   bool  // LNM
	keypad    bool  // DECKPAM
	margins   bool  // DECSTBM
	style     bool  // DECSCUSR
	otherKeys bool  // xterm's modifyOtherKeys
	kittySet  bool  // kitty keyboard flags set without a push
	link      bool  // a hyperlink may be open
}

// colourSet are the OSC numbers that change colours, and how each is undone.
var colourSet = [...]struct{ set, reset string }{
	{"4", "104"}, {"10", "110"}, {"11", "111"}, {"12", "112"},
	{"13", "113"}, {"14", "114"}, {"17", "117"}, {"19", "119"},
}

// Limits of what a stack may be popped: what a hostile program pushed beyond
// them is not worth popping.
const (
	maxKittyUndo = 16
	maxTitleUndo = 16
)

// appendUndo appends the bytes that give a terminal back in the state in which
// a shell expects it: main screen, no modes, plain text, visible cursor. They
// begin by ending whatever sequence the terminal may be in the middle of.
func (m *modes) appendUndo(dst []byte) []byte {
	// ST ends a string, and its ESC any other sequence.
	dst = append(dst, "\x1b\\\x1b[?2026l"...)
	if m.alt != 0 {
		dst = appendKittyPop(dst, m.kitty[1])
		dst = append(dst, "\x1b[?"...)
		dst = strconv.AppendUint(dst, uint64(m.alt), 10)
		dst = append(dst, 'l')
	}
	dst = appendKittyPop(dst, m.kitty[0])
	if m.kittySet {
		dst = append(dst, "\x1b[=0u"...)
	}
	if m.margins || m.private&(1<<modeMargins|1<<modeOrigin) != 0 {
		// These send the cursor home when they are reset. In origin mode a
		// saved cursor would bring the mode back, so the bottom has to do.
		origin := m.private&(1<<modeOrigin) != 0
		if !origin {
			dst = append(dst, "\x1b7"...)
		}
		dst = append(dst, "\x1b[?6;69l\x1b[r"...)
		if !origin {
			dst = append(dst, "\x1b8"...)
		} else {
			dst = append(dst, "\x1b[999;1H\n"...)
		}
	}
	first := true
	for i, number := range privateModes {
		if m.private&(1<<i) == 0 || i == modeOrigin || i == modeMargins {
			continue
		}
		if first {
			dst = append(dst, "\x1b[?"...)
			first = false
		} else {
			dst = append(dst, ';')
		}
		dst = strconv.AppendUint(dst, uint64(number), 10)
	}
	if !first {
		dst = append(dst, 'l')
	}
	if m.insert {
		dst = append(dst, "\x1b[4l"...)
	}
	if m.newline {
		dst = append(dst, "\x1b[20l"...)
	}
	if m.keypad {
		dst = append(dst, "\x1b>"...)
	}
	if m.otherKeys {
		dst = append(dst, "\x1b[>4m"...)
	}
	if m.style {
		dst = append(dst, "\x1b[0 q"...)
	}
	if m.link {
		dst = append(dst, "\x1b]8;;\x1b\\"...)
	}
	for i, c := range colourSet {
		if m.colours&(1<<i) != 0 {
			dst = append(append(append(dst, "\x1b]"...), c.reset...), "\x1b\\"...)
		}
	}
	for range min(m.titles, maxTitleUndo) {
		dst = append(dst, popTitle...)
	}
	// Charset, rendition, autowrap and the cursor are put right whether or
	// not they were touched: it does no harm.
	return append(dst, "\x0f\x1b(B\x1b[m\x1b[?7h\x1b[?25h"...)
}

func appendKittyPop(dst []byte, n uint8) []byte {
	if n == 0 {
		return dst
	}
	dst = append(dst, "\x1b[<"...)
	dst = strconv.AppendUint(dst, uint64(n), 10)
	return append(dst, 'u')
}

// XTWINOPS 22 and 23: the window's title onto a stack and back.
const (
	pushTitle = "\x1b[22;0t"
	popTitle  = "\x1b[23;0t"
)

// A modeTracker follows the bytes that a terminal is sent and knows what they
// changed in it. It looks at nothing but sequences that begin with ESC, which
// no string (OSC, DCS, APC) can contain, so it needs to know nothing else of
// the stream, and costs little more than a search for ESC.
//
// The screen model knows all of this as well, but it runs behind; the tracker
// is exact at each byte that was written, which is what a crash asks for.
type modeTracker struct {
	modes
	state  trackerState
	params []byte // of the CSI or OSC under way, at most maxTracked
}

type trackerState uint8

const (
	trackGround trackerState = iota
	trackEscape
	trackCSI
	trackOSC
)

// maxTracked bounds the parameter bytes of one sequence. Longer ones, which no
// terminal would take either, are ignored.
const maxTracked = 128

// track follows p.
func (t *modeTracker) track(p []byte) {
	for len(p) > 0 {
		if t.state == trackGround {
			i := bytes.IndexByte(p, 0x1b)
			if i < 0 {
				return
			}
			t.state = trackEscape
			p = p[i+1:]
			continue
		}
		c := p[0]
		p = p[1:]
		switch {
		case c == 0x1b:
			if t.state == trackOSC {
				t.osc()
			}
			t.state = trackEscape
		case c == 0x18 || c == 0x1a: // CAN, SUB
			t.state = trackGround
		case t.state == trackEscape:
			t.escape(c)
		case t.state == trackOSC:
			switch {
			case c >= '0' && c <= '9' && len(t.params) < 8:
				t.params = append(t.params, c)
			default:
				if c == ';' || c == 0x07 {
					t.osc()
				}
				t.state = trackGround
			}
		case c >= 0x40 && c <= 0x7e:
			t.csi(c)
			t.state = trackGround
		case c >= 0x20 && c < 0x40:
			if len(t.params) < maxTracked {
				t.params = append(t.params, c)
			}
		}
	}
}

func (t *modeTracker) escape(c byte) {
	t.state = trackGround
	t.params = t.params[:0]
	switch c {
	case '[':
		t.state = trackCSI
	case ']':
		t.state = trackOSC
	case '=':
		t.keypad = true
	case '>':
		t.keypad = false
	case 'c': // RIS; it does not touch the stack of titles
		t.modes = modes{titles: t.titles}
	}
}

func (t *modeTracker) osc() {
	number := string(t.params)
	if number == "8" {
		t.link = true
	}
	for i, c := range colourSet {
		switch number {
		case c.set:
			t.colours |= 1 << i
		case c.reset:
			if c.set != "4" { // 104 may name single entries
				t.colours &^= 1 << i
			}
		}
	}
}

// csi follows a whole control sequence: its parameter and intermediate bytes
// are in t.params.
func (t *modeTracker) csi(final byte) {
	params := t.params
	if len(params) >= maxTracked {
		return
	}
	var prefix byte
	if len(params) > 0 && params[0] >= '<' && params[0] <= '?' {
		prefix = params[0]
		params = params[1:]
	}
	var intermediate byte
	if n := len(params); n > 0 && params[n-1] < '0' {
		intermediate = params[n-1]
		params = params[:n-1]
	}
	switch {
	case prefix == '?' && intermediate == 0 && (final == 'h' || final == 'l' || final == 'r'):
		for number := range parameters(params) {
			// XTRESTORE may bring back a mode that was on: better undone.
			t.setPrivate(number, final != 'l')
		}
	case prefix == '>' && intermediate == 0 && final == 'u':
		t.pushKitty(1)
	case prefix == '<' && intermediate == 0 && final == 'u':
		t.pushKitty(-max(1, firstParameter(params)))
	case prefix == '=' && intermediate == 0 && final == 'u':
		t.kittySet = firstParameter(params) != 0
	case prefix == '>' && intermediate == 0 && final == 'm':
		t.otherKeys = t.otherKeys || firstParameter(params) == 4
		if string(params) == "4" || string(params) == "4;0" || len(params) == 0 {
			t.otherKeys = false
		}
	case prefix != 0:
	case intermediate == ' ' && final == 'q':
		t.style = firstParameter(params) != 0
	case intermediate == '!' && final == 'p': // DECSTR
		t.insert, t.keypad, t.margins = false, false, false
		t.private &^= 1<<0 | 1<<modeOrigin | 1<<modeMargins
	case intermediate != 0:
	case final == 'h' || final == 'l':
		for number := range parameters(params) {
			switch number {
			case 4:
				t.insert = final == 'h'
			case 20:
				t.newline = final == 'h'
			}
		}
	case final == 'r':
		t.margins = len(params) > 0
	case final == 't':
		switch firstParameter(params) {
		case 22:
			t.titles = min(t.titles+1, 100)
		case 23:
			t.titles = max(t.titles-1, 0)
		}
	}
}

func (t *modeTracker) setPrivate(number int, on bool) {
	switch number {
	case 47, 1047, 1049:
		if !on {
			t.alt = 0
			t.kitty[1] = 0
		} else {
			t.alt = uint16(number)
		}
		return
	}
	for i, n := range privateModes {
		if int(n) == number {
			if on {
				t.private |= 1 << i
			} else {
				t.private &^= 1 << i
			}
			return
		}
	}
}

// pushKitty follows pushes and pops on the keyboard stack of the screen that
// is shown: each screen has its own.
func (t *modeTracker) pushKitty(n int) {
	stack := &t.kitty[0]
	if t.alt != 0 {
		stack = &t.kitty[1]
	}
	*stack = uint8(min(max(int(*stack)+n, 0), maxKittyUndo))
}

// parameters yields the numbers of a parameter string.
func parameters(params []byte) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for rest := params; ; {
			field, more, found := bytes.Cut(rest, []byte{';'})
			if !yield(firstParameter(field)) || !found {
				return
			}
			rest = more
		}
	}
}

// firstParameter returns the number at the start of a parameter string, 0
// when there is none, and a number that means nothing when it is very large.
func firstParameter(params []byte) int {
	n := 0
	for _, c := range params {
		if c < '0' || c > '9' || n > 99999 {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}
