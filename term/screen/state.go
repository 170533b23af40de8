package screen

// state is what a terminal remembers besides its cells. It is copied by value
// into snapshots; what it refers to is not changed any more after that.
type state struct {
	cols, height int

	alt   bool   // the alternate screen is shown
	cur   cursor // shared by both screens, as in xterm
	saved [2]cursor
	kitty [2]kittyStack

	// Margins, as inclusive first and exclusive last row and column. The
	// columns count only while ModeLeftRightMargin is set.
	top, bottom int
	left, right int

	modes      modeSet
	savedModes modeSet // XTSAVE
	tabs       []uint64

	cursorStyle uint8   // DECSCUSR
	modKeys     [8]int8 // XTMODKEYS: value+1, zero is the default
	fmtKeys     [8]int8 // XTFMTKEYS

	title, icon string
	titles      []titlePair // the stack of XTWINOPS 22 and 23
	pens        []style     // the stack of XTPUSHSGR
	palette     *palette    // nil while nothing is overridden

	lastChar uint32 // for REP: the character that was just printed, zero if none
}

// The indices of what both screens have.
const (
	onMain = 0
	onAlt  = 1
)

func (st *state) which() int {
	if st.alt {
		return onAlt
	}
	return onMain
}

// A cursor is the position together with all that DECSC saves.
type cursor struct {
	x, y    int
	pending bool // the last column was written: the next character wraps first
	origin  bool // DECOM
	pen     style
	sets    charsets
}

type titlePair struct{ title, icon string }

// reset is the state after RIS, for the present size.
func (st *state) reset() {
	*st = state{
		cols: st.cols, height: st.height,
		bottom: st.height, right: st.cols,
		modes: defaultModes, savedModes: defaultModes,
		tabs: defaultTabs(st.cols),
	}
}

// kittyStack is the keyboard enhancement flags of one screen: the current ones
// and those that were pushed.
type kittyStack struct {
	flags  uint8
	n      uint8
	pushed [maxKittyStack]uint8
}

func (k *kittyStack) push(flags uint8) {
	if k.n == maxKittyStack {
		copy(k.pushed[:], k.pushed[1:])
		k.n--
	}
	k.pushed[k.n] = k.flags
	k.n++
	k.flags = flags
}

func (k *kittyStack) pop(n int) {
	for ; n > 0; n-- {
		if k.n == 0 {
			k.flags = 0
			return
		}
		k.n--
		k.flags = k.pushed[k.n]
		k.pushed[k.n] = 0
	}
}

func (k *kittyStack) set(flags uint8, how int) {
	switch how {
	case 2:
		k.flags |= flags
	case 3:
		k.flags &^= flags
	default:
		k.flags = flags
	}
}

const tabWidth = 8

func defaultTabs(cols int) []uint64 {
	tabs := make([]uint64, (cols+63)/64)
	for x := tabWidth; x < cols; x += tabWidth {
		tabs[x/64] |= 1 << (x % 64)
	}
	return tabs
}
