package term

import "bytes"

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
		t.kittySet[t.screen()] = firstParameter(params) != 0
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
			t.kitty[1], t.kittySet[1] = 0, false
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

// screen is the index of the screen that is shown into what each has of its own.
func (t *modeTracker) screen() int {
	if t.alt != 0 {
		return 1
	}
	return 0
}

// pushKitty follows pushes and pops on the keyboard stack of the screen that
// is shown.
func (t *modeTracker) pushKitty(n int) {
	stack := &t.kitty[t.screen()]
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
