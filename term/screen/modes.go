package screen

// A Mode is a mode of the terminal that a program can set and reset.
type Mode uint8

// The modes that the model knows. Those that are on after a reset are marked.
const (
	ModeInsert              Mode = iota // IRM
	ModeNewline                         // LNM
	ModeKeyboardLock                    // KAM
	ModeLocalEcho                       // SRM, reset; the name tells the effect
	ModeCursorKeys                      // ?1 DECCKM
	ModeColumns132                      // ?3 DECCOLM
	ModeSmoothScroll                    // ?4 DECSCLM
	ModeReverseVideo                    // ?5 DECSCNM
	ModeAutowrap                        // ?7 DECAWM, on
	ModeAutorepeat                      // ?8 DECARM, on
	ModeCursorBlink                     // ?12
	ModeCursorVisible                   // ?25 DECTCEM, on
	ModeAllowColumns                    // ?40
	ModeReverseWrap                     // ?45
	ModeKeypad                          // ?66 DECNKM, DECKPAM
	ModeBackarrow                       // ?67 DECBKM
	ModeLeftRightMargin                 // ?69 DECLRMM
	ModeKeepColumns                     // ?95 DECNCSM
	ModeMouseX10                        // ?9
	ModeMouseNormal                     // ?1000
	ModeMouseButton                     // ?1002
	ModeMouseAny                        // ?1003
	ModeFocus                           // ?1004
	ModeMouseUTF8                       // ?1005
	ModeMouseSGR                        // ?1006
	ModeAlternateScroll                 // ?1007
	ModeMouseURXVT                      // ?1015
	ModeMousePixels                     // ?1016
	ModeEightBitMeta                    // ?1034
	ModeNumLock                         // ?1035, on
	ModeMetaEscape                      // ?1036
	ModeAltEscape                       // ?1039
	ModeBellUrgent                      // ?1042
	ModeBellRaise                       // ?1043
	ModeReverseWrapExtended             // ?1045
	ModeBracketedPaste                  // ?2004
	ModeSynchronized                    // ?2026
	ModeOrigin                          // ?6 DECOM; part of the cursor, see Snapshot.Mode
	ModeCount                           // how many there are
)

// modeSet has a bit for each Mode.
type modeSet uint64

func (m modeSet) has(x Mode) bool { return m&(1<<x) != 0 }

func (m *modeSet) put(x Mode, on bool) {
	if on {
		*m |= 1 << x
	} else {
		*m &^= 1 << x
	}
}

const defaultModes modeSet = 1<<ModeAutowrap | 1<<ModeAutorepeat | 1<<ModeCursorVisible | 1<<ModeNumLock

// ansiMode and decMode find the Mode of a number of SM and of DECSET.
func ansiMode(n int) (Mode, bool) {
	for m, a := range ansiNumbers {
		if int(a) == n && n != 0 {
			return Mode(m), true
		}
	}
	return 0, false
}

func decMode(n int) (Mode, bool) {
	for m, d := range decNumbers {
		if int(d) == n && n != 0 {
			return Mode(m), true
		}
	}
	return 0, false
}

// ansiNumbers are the numbers of SM; zero for what is no ANSI mode.
var ansiNumbers = [ModeLocalEcho + 1]uint8{
	ModeInsert:       4,
	ModeNewline:      20,
	ModeKeyboardLock: 2,
	ModeLocalEcho:    12,
}

// decNumbers are the numbers of DECSET; zero for what is no DEC mode.
var decNumbers = [ModeCount]uint16{
	ModeCursorKeys:          1,
	ModeColumns132:          3,
	ModeSmoothScroll:        4,
	ModeReverseVideo:        5,
	ModeAutowrap:            7,
	ModeAutorepeat:          8,
	ModeMouseX10:            9,
	ModeCursorBlink:         12,
	ModeCursorVisible:       25,
	ModeAllowColumns:        40,
	ModeReverseWrap:         45,
	ModeKeypad:              66,
	ModeBackarrow:           67,
	ModeLeftRightMargin:     69,
	ModeKeepColumns:         95,
	ModeMouseNormal:         1000,
	ModeMouseButton:         1002,
	ModeMouseAny:            1003,
	ModeFocus:               1004,
	ModeMouseUTF8:           1005,
	ModeMouseSGR:            1006,
	ModeAlternateScroll:     1007,
	ModeMouseURXVT:          1015,
	ModeMousePixels:         1016,
	ModeEightBitMeta:        1034,
	ModeNumLock:             1035,
	ModeMetaEscape:          1036,
	ModeAltEscape:           1039,
	ModeBellUrgent:          1042,
	ModeBellRaise:           1043,
	ModeReverseWrapExtended: 1045,
	ModeBracketedPaste:      2004,
	ModeSynchronized:        2026,
}

// Modes that are not here are neither tracked nor passed on. Among them are
// some that terminals know but that would make a guest's terminal send reports
// of its own (1001, 2031, 2048) or count columns in another way (2027).

// Only one mouse protocol and one encoding is in force at a time; resetting
// any of them turns it off, as in xterm.
const (
	mouseProtocols modeSet = 1<<ModeMouseX10 | 1<<ModeMouseNormal |
		1<<ModeMouseButton | 1<<ModeMouseAny
	mouseEncodings modeSet = 1<<ModeMouseUTF8 | 1<<ModeMouseSGR | 1<<ModeMouseURXVT | 1<<ModeMousePixels
)

// passedModes are further DECSET numbers that matter only to what a terminal
// does with sixels and with its scrollbar.
var passedModes = [...]int{80, 1010, 1011, 1070, 8452}

// DECSET numbers that are no modes of their own.
const (
	decOrigin      = 6
	decAlternate   = 47
	decAltClear    = 1047
	decSaveCursor  = 1048
	decAltSave     = 1049
	decColumns     = 3
	decAllowColumn = 40
)

// setModes is DECSET and DECRST.
func (s *Screen) setModes(on bool) {
	if s.pass.on {
		s.pass.setModes(s, on)
	}
	for _, p := range s.params[:s.np] {
		switch p {
		case decOrigin:
			s.cur.origin = on
			s.address(0, 0)
		case decAlternate, decAltClear:
			if on {
				s.enterAlternate()
			} else {
				s.leaveAlternate()
				s.settlePending()
			}
		case decSaveCursor:
			if on {
				s.saveCursor()
			} else {
				s.restoreCursor()
			}
		case decAltSave:
			if on {
				s.saveCursor()
				s.enterAlternate()
			} else {
				s.leaveAlternate()
				s.restoreCursor()
			}
		default:
			s.setMode(p, on)
		}
	}
}

func (s *Screen) setMode(n int, on bool) {
	m, ok := decMode(n)
	if !ok {
		return
	}
	bit := modeSet(1) << m
	switch {
	case bit&mouseProtocols != 0:
		s.modes &^= mouseProtocols
	case bit&mouseEncodings != 0:
		s.modes &^= mouseEncodings
	}
	switch m {
	case ModeColumns132:
		// The size is the window's business; what else DECCOLM does is ours, if it
		// is allowed to.
		if !s.modes.has(ModeAllowColumns) {
			return
		}
		s.resetMargins()
		s.modes.put(ModeLeftRightMargin, false)
		if !s.modes.has(ModeKeepColumns) {
			s.eraseDisplay(2, false)
		}
		s.moveTo(0, 0)
		return
	case ModeLeftRightMargin:
		s.left, s.right = 0, s.cols
		s.cur.pending = s.cur.pending && s.cur.x == s.cols-1
	}
	s.modes.put(m, on)
}

// saveModes is XTSAVE and XTRESTORE. The modes that move the cursor or switch
// screens are not among those that are saved.
func (s *Screen) saveModes(restore bool) {
	for _, p := range s.params[:s.np] {
		m, ok := decMode(p)
		if !ok || !savable(m) {
			continue
		}
		if restore {
			s.setMode(p, s.savedModes.has(m))
		} else {
			s.savedModes.put(m, s.modes.has(m))
		}
	}
}

func savable(m Mode) bool {
	return m != ModeColumns132 && m != ModeLeftRightMargin && m != ModeAllowColumns && m != ModeSynchronized
}

// enterAlternate shows the alternate screen, which is always empty at first.
// (xterm keeps what ?47 left there; xterm.js, tmux and others do not, and no
// program counts on it.)
func (s *Screen) enterAlternate() {
	if s.alt {
		return
	}
	s.alt = true
	s.back = s.rows
	s.rows = s.spare
	if len(s.rows) != s.height {
		s.rows = make([]*row, s.height)
	}
	for y := range s.rows {
		s.rows[y] = s.newRow()
		s.paint(s.rows[y])
	}
}

func (s *Screen) leaveAlternate() {
	if !s.alt {
		return
	}
	for _, r := range s.rows {
		s.recycle(r)
	}
	s.alt = false
	clear(s.rows)
	s.spare = s.rows
	s.rows, s.back = s.back, nil
}

// setModifyKeys is XTMODKEYS (final m), its disabling form (n) and XTFMTKEYS (f).
func (s *Screen) setModifyKeys(final byte) bool {
	keys := &s.modKeys
	if final == 'f' {
		keys = &s.fmtKeys
	}
	if s.np == 0 && final != 'n' {
		*keys = [len(s.modKeys)]int8{}
		return true
	}
	i := s.param(0, 2*boolInt(final == 'n'))
	if i >= len(keys) {
		return false
	}
	switch {
	case final == 'n':
		keys[i] = -1
	case s.np < 2:
		keys[i] = 0
	default:
		keys[i] = int8(min(s.params[1], 8)) + 1
	}
	return true
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
