package screen

// AppendDiff appends the bytes that bring a terminal in state from to exactly
// the state to: both screens, cursors, modes and the sequence that to ends
// in the middle of, so that the bytes that follow to may follow these.
//
// A terminal that was resized since from, or whose state is not known (from is
// nil), is redrawn in full. Then what shows or what programs commonly set is
// reset piece by piece, without RIS, which would wipe the terminal's
// scrollback; what they hardly ever touch (title, palette, tab stops, stacks,
// and the modes that are a user's preference) is taken to be as in a fresh
// terminal.
func AppendDiff(dst []byte, from, to *Snapshot) []byte {
	return appendDiff(dst, from, to, false)
}

// AppendDiffInPlace is AppendDiff, and lets nothing enter the scrollback: it
// paints over the main screen instead of scrolling it.
func AppendDiffInPlace(dst []byte, from, to *Snapshot) []byte {
	return appendDiff(dst, from, to, true)
}

func appendDiff(dst []byte, from, to *Snapshot, inPlace bool) []byte {
	if from == to {
		return dst
	}
	if from != nil && (from.cols != to.cols || from.height != to.height) {
		from = nil
	}
	d := differ{to: to, inPlace: inPlace, start: len(dst)}
	d.b = dst
	if from == nil {
		from = fresh(to.cols, to.height)
		d.begin(from)
		d.prelude()
	} else {
		d.begin(from)
	}
	d.keyboard()
	d.strings()
	d.savedModes()
	d.tabStops()
	d.screens()
	d.finish()
	return d.b
}

// fresh is the state of a terminal after a reset.
func fresh(cols, rows int) *Snapshot {
	n := &Snapshot{exts: noExtents, rows: make([]*row, rows)}
	n.cols, n.height = cols, rows
	n.state.reset()
	for y := range n.rows {
		n.rows[y] = &emptyRow
	}
	return n
}

// emptyRow stands for a blank row; its epoch is no screen's.
var emptyRow row

// A differ writes a diff. It tracks the state of the terminal that reads it.
type differ struct {
	from, to *Snapshot
	inPlace  bool
	start    int // of the diff in b
	body     int // of what follows the opening of the synchronized update

	writer
	have  []*row // the rows that are shown
	line  row    // the row being painted, as the terminal has it
	lead  bool   // the row above waits for its wrap: print the first cell at once
	drawn *row   // the one row of have that is in cells of the table of to

	kitty [2]kittyStack
	saved [2]savedState
}

// savedState is what the terminal saved as the cursor of a screen: as the
// snapshot that the diff starts from has it, as the one that it leads to wants
// it, or neither.
type savedState struct {
	old, done bool
	pen       style
	penExts   []extent
	origin    bool
	sets      charsets
	pending   bool
	y         int
}

const (
	beginSync = "\x1b[?2026h"
	endSync   = "\x1b[?2026l"

	// A diff that is shorter than this is not wrapped in a synchronized update:
	// such an echo of a key shows at once anyway.
	syncFrom = 64
)

// begin sets the tracked state, ends the sequence that the terminal may be in
// the middle of, and leaves room for the opening of a synchronized update.
func (d *differ) begin(from *Snapshot) {
	d.from = from
	d.writer.track(from, d.to)
	d.kitty = from.kitty
	for i, c := range from.saved {
		d.saved[i] = savedState{true, false, c.pen, from.exts, c.origin, c.sets, c.pending, c.y}
	}
	d.have = append(make([]*row, 0, len(from.rows)), from.rows...)
	if len(from.pending) > 0 {
		d.b = append(d.b, asciiCAN)
	}
	d.body = len(d.b)
	if !d.modes.has(ModeSynchronized) {
		d.b = append(d.b, beginSync...)
		d.modes.put(ModeSynchronized, true)
	}
}

// knownState resets what decides where and how text is drawn.
const knownState = "\x1b[m\x1b]8;;\x1b\\\x1b[\"q\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[?6l\x1b[?69l\x1b[r\x1b[?7h\x1b[4;20l"

// wipe clears the screen, and leaves the cursor in its upper left corner. Where
// everything is cleared at once, some terminals move it to their scrollback.
const wipe = "\x1b[2;1H\x1b[J\x1b[H\x1b[2K"

// prelude brings a terminal in an unknown state into that of fresh.
func (d *differ) prelude() {
	d.b = append(d.b[:d.body], asciiCAN)
	d.body++
	d.b = append(d.b, beginSync...)
	// The alternate screen's own state, then the main screen's.
	for _, s := range []string{
		"\x1b[?1049h", knownState, "\x1b[H\x1b7\x1b[<99u",
		"\x1b[?1049l", knownState, "\x1b[H\x1b7\x1b[<99u",
		"\x1b[2l\x1b[12l\x1b>\x1b[?1;5;9;1000;1002;1003;1004l\x1b[?1005;1006;1015;1016;2004l\x1b[?25h\x1b[0 q", wipe,
	} {
		d.b = append(d.b, s...)
	}
	d.x, d.y = 0, 0
}

// screens draws what differs of the two screens and ends on the one that is to
// be shown. The alternate screen is blank whenever it is switched to.
func (d *differ) screens() {
	to := d.to
	main := to.rows
	if to.alt {
		main = to.back
	}
	switch {
	case d.alt && to.alt && d.sameSaved(onMain) && d.kitty[onMain] == to.kitty[onMain] && d.sameRows(d.from.back, main):
		d.rows(to.rows, false)
		d.alternateState()
		return
	case d.alt:
		if !to.alt {
			d.alternateState()
		}
		d.leaveAlternate(d.from.back)
	case !to.alt && (!d.sameSaved(onAlt) || d.kitty[onAlt] != to.kitty[onAlt]):
		// Only to set what the alternate screen has besides its rows.
		d.enterAlternate(false)
		d.alternateState()
		d.leaveAlternate(d.from.rows)
	}
	d.rows(main, true)
	d.setKitty(onMain)
	if !to.alt {
		d.save(onMain, main)
		return
	}
	// The switch saves the cursor, so it is made what is to be saved; with a
	// pending wrap that needs a repair that only the shown screen can have.
	if pending := to.saved[onMain].pending; pending {
		d.save(onMain, main)
		d.enterAlternate(true)
	} else {
		d.saveable(onMain)
		d.enterAlternate(false)
		d.saved[onMain].done = true
	}
	d.rows(to.rows, false)
	d.alternateState()
}

// alternateState sets what the alternate screen has besides its rows.
func (d *differ) alternateState() {
	d.setKitty(onAlt)
	if d.to.alt {
		d.save(onAlt, d.to.rows)
	} else {
		d.save(onAlt, nil)
	}
}

// enterAlternate switches with mode 1049, the only one that all terminals
// know and which saves the cursor; or with 1047 if that must not be.
func (d *differ) enterAlternate(saved bool) {
	if saved {
		d.mode(decAltClear, true)
	} else {
		d.saved[onMain] = d.savedNow()
		d.mode(decAltSave, true)
	}
	d.alt = true
	d.have = d.have[:0]
	for range d.height {
		d.have = append(d.have, &emptyRow)
	}
	if d.pen.bg != 0 {
		d.neutral()
		d.setPen(style{})
		d.b = append(d.b, "\x1b[2J"...)
	}
}

// leaveAlternate switches back to the main screen, whose rows are given.
func (d *differ) leaveAlternate(rows []*row) {
	d.mode(decAltSave, false)
	d.alt = false
	d.have = append(d.have[:0], rows...)
	s := &d.saved[onMain]
	origin := d.origin || s.origin
	d.pen, d.penExts, d.origin, d.sets = s.pen, s.penExts, s.origin, s.sets
	d.x = -1
	// Terminals differ in what they restore besides the position.
	d.resetPen()
	d.b = append(d.b, "\x1b(B\x0f"...)
	d.sets.g[0], d.sets.gl = charsetASCII, 0
	if origin {
		d.setOrigin(false)
	}
	if s.pending {
		d.spoil(d.cols-1, s.y)
	}
}

func (d *differ) sameRows(a, b []*row) bool {
	for y := range a {
		if !d.from.sameRow(a[y], d.to, b[y]) {
			return false
		}
	}
	return true
}

// finish brings about what must come last: margins, modes, the cursor and its
// pen, and the unfinished sequence.
func (d *differ) finish() {
	to := d.to
	d.setMargins()
	d.setCursor()
	d.setModes()
	if to.cursorStyle != d.cursorStyle {
		d.b = append(d.b, "\x1b["...)
		d.b = appendInt(d.b, int(to.cursorStyle))
		d.b = append(d.b, " q"...)
	}
	d.synchronize()
	d.lastCharacter()
	d.b = append(d.b, to.pending...)
}

// synchronize ends the synchronized update, or takes its beginning out again
// if it was not worth it.
func (d *differ) synchronize() {
	opened := !d.from.modes.has(ModeSynchronized)
	switch {
	case d.to.modes.has(ModeSynchronized):
	case opened && len(d.b)-d.body-len(beginSync) < syncFrom:
		n := copy(d.b[d.body:], d.b[d.body+len(beginSync):])
		d.b = d.b[:d.body+n]
		d.printed -= len(beginSync)
	default:
		d.b = append(d.b, endSync...)
	}
}
