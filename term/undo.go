package term

import "strconv"

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
	private   uint32   // bit i: privateModes[i] is set
	alt       uint16   // the private mode that chose the alternate screen, or 0
	kitty     [2]uint8 // kitty keyboard flags pushed, on the main and the alternate screen
	kittySet  [2]bool  // and set without a push
	colours   uint8    // bits of colourSet
	titles    int8     // titles on the terminal's stack
	insert    bool     // IRM
	newline   bool     // LNM
	keypad    bool     // DECKPAM
	margins   bool     // DECSTBM
	style     bool     // DECSCUSR
	otherKeys bool     // xterm's modifyOtherKeys
	link      bool     // a hyperlink may be open
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
		dst = m.appendKittyUndo(dst, 1)
		dst = append(dst, "\x1b[?"...)
		dst = strconv.AppendUint(dst, uint64(m.alt), 10)
		dst = append(dst, 'l')
	}
	dst = m.appendKittyUndo(dst, 0)
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

// appendKittyUndo puts the keyboard of one screen right, which is the one that is
// shown: each has flags of its own.
func (m *modes) appendKittyUndo(dst []byte, screen int) []byte {
	if n := m.kitty[screen]; n > 0 {
		dst = append(dst, "\x1b[<"...)
		dst = strconv.AppendUint(dst, uint64(n), 10)
		dst = append(dst, 'u')
	}
	if m.kittySet[screen] {
		dst = append(dst, "\x1b[=0u"...)
	}
	return dst
}

// XTWINOPS 22 and 23: the window's title onto a stack and back.
const (
	pushTitle = "\x1b[22;0t"
	popTitle  = "\x1b[23;0t"
)
