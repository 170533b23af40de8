package screen

import (
	"math/bits"
	"strconv"
)

// keyboard sets XTMODKEYS and XTFMTKEYS.
func (d *differ) keyboard() {
	for i, v := range d.to.modKeys {
		d.keyOption(i, d.from.modKeys[i], v, 'm')
	}
	for i, v := range d.to.fmtKeys {
		d.keyOption(i, d.from.fmtKeys[i], v, 'f')
	}
}

func (d *differ) keyOption(i int, have, want int8, final byte) {
	if have == want {
		return
	}
	d.b = append(d.b, "\x1b[>"...)
	d.b = appendInt(d.b, i)
	switch {
	case want < 0:
		final = 'n'
	case want > 0:
		d.b = appendInt(append(d.b, ';'), int(want)-1)
	}
	d.b = append(d.b, final)
}

// setKitty sets the keyboard flags of the screen that is shown, and their stack.
func (d *differ) setKitty(which int) {
	have, want := &d.kitty[which], &d.to.kitty[which]
	if *have == *want {
		return
	}
	// The common cases are a push, a pop, and a set.
	after := *have
	switch {
	case want.n == have.n:
		after.flags = want.flags
		if after == *want {
			d.kittySet(want.flags)
			*have = *want
			return
		}
	case want.n == have.n+1:
		after.push(want.flags)
	case want.n < have.n:
		after.pop(int(have.n - want.n))
	}
	switch {
	case after == *want && want.n > have.n:
		d.kittyPush(want.flags)
	case after == *want:
		d.b = append(d.b, "\x1b[<"...)
		d.b = append(appendInt(d.b, int(have.n-want.n)), 'u')
	default:
		d.b = append(d.b, "\x1b[<99u"...)
		first := true
		for _, f := range append(append([]uint8(nil), want.pushed[:want.n]...), want.flags) {
			if first {
				d.kittySet(f)
			} else {
				d.kittyPush(f)
			}
			first = false
		}
	}
	*have = *want
}

func (d *differ) kittySet(flags uint8) {
	d.b = append(d.b, "\x1b[="...)
	d.b = append(appendInt(d.b, int(flags)), 'u')
}

func (d *differ) kittyPush(flags uint8) {
	d.b = append(d.b, "\x1b[>"...)
	d.b = append(appendInt(d.b, int(flags)), 'u')
}

// strings sets the titles, the palette and the rendition stack.
func (d *differ) strings() {
	d.setTitles()
	d.setPalette()
	d.setPens()
}

// setTitles sets the title, the icon name and their stack.
func (d *differ) setTitles() {
	have := titlePair{d.from.title, d.from.icon}
	want := titlePair{d.to.title, d.to.icon}
	stack, goal := d.from.titles, d.to.titles
	keep := 0
	for keep < len(stack) && keep < len(goal) && stack[keep] == goal[keep] {
		keep++
	}
	for n := len(stack); n > keep; n-- {
		d.b = append(d.b, "\x1b[23;0t"...)
		have = stack[n-1]
	}
	for _, p := range goal[keep:] {
		d.title(have, p)
		d.b = append(d.b, "\x1b[22;0t"...)
		have = p
	}
	d.title(have, want)
}

func (d *differ) title(have, want titlePair) {
	switch {
	case have == want:
	case want.title == want.icon:
		d.b = appendOSC(d.b, 0, want.title)
	default:
		if have.icon != want.icon {
			d.b = appendOSC(d.b, 1, want.icon)
		}
		if have.title != want.title {
			d.b = appendOSC(d.b, 2, want.title)
		}
	}
}

func (d *differ) setPalette() {
	if d.from.palette == d.to.palette {
		return
	}
	var none palette
	have, want := d.from.palette, d.to.palette
	if have == nil {
		have = &none
	}
	if want == nil {
		want = &none
	}
	d.colors(4, have.entries[:], want.entries[:])
	d.colors(5, have.special[:], want.special[:])
	for i, c := range want.dynamic {
		switch {
		case c == have.dynamic[i]:
		case c == "":
			d.b = append(strconv.AppendInt(append(d.b, "\x1b]"...), int64(110+i), 10), "\x1b\\"...)
		default:
			d.b = appendOSC(d.b, 10+i, c)
		}
	}
}

// colors sets and resets the entries of OSC 4 or 5.
func (d *differ) colors(n int, have, want []string) {
	for i, c := range want {
		switch {
		case c == have[i]:
		case c == "":
			d.b = appendOSC(d.b, 100+n, strconv.Itoa(i))
		default:
			d.b = appendOSC(d.b, n, strconv.Itoa(i)+";"+c)
		}
	}
}

// setPens makes the stack of XTPUSHSGR what it is to be.
func (d *differ) setPens() {
	have, want := d.from.pens, d.to.pens
	keep := 0
	for keep < len(have) && keep < len(want) && d.from.sameStyle(have[keep], d.to, want[keep]) {
		keep++
	}
	if keep == len(have) && keep == len(want) {
		return
	}
	if len(have) > keep {
		for range have[keep:] {
			d.b = append(d.b, "\x1b[#}"...)
		}
		// Terminals that do not know it have another rendition now.
		d.resetPen()
	}
	for _, p := range want[keep:] {
		p.attr |= d.pen.attr & AttrProtected
		d.setPen(p)
		d.b = append(d.b, "\x1b[#{"...)
	}
}

// savedModes sets what XTSAVE saved, by saving it again.
func (d *differ) savedModes() {
	have, want := d.from.savedModes, d.to.savedModes
	for m := range ModeCount {
		if have.has(m) == want.has(m) {
			continue
		}
		if d.modes.has(m) != want.has(m) {
			d.setMode(m, want.has(m))
		}
		d.b = appendMode(d.b, int(decNumbers[m]), 's')
	}
}

// setMode sets a mode and tracks the side effects on others.
func (d *differ) setMode(m Mode, on bool) {
	bit := modeSet(1) << m
	switch {
	case bit&mouseProtocols != 0:
		d.modes &^= mouseProtocols
	case bit&mouseEncodings != 0:
		d.modes &^= mouseEncodings
	}
	d.putMode(m, on)
}

// setModes sets the modes, those last of all that the writing of the diff
// needed otherwise.
func (d *differ) setModes() {
	const apart = 1<<ModeSynchronized | 1<<ModeColumns132 | 1<<ModeLeftRightMargin
	want := d.to.modes &^ apart
	// Of the mouse modes those that are reset come first, since that resets
	// the others as well.
	for _, on := range []bool{false, true} {
		for m := range ModeCount {
			if apart>>m&1 == 0 && want.has(m) == on && d.modes.has(m) != on {
				d.setMode(m, on)
			}
		}
	}
}

// tabStops sets the tab stops.
func (d *differ) tabStops() {
	changed := 0
	for i, stops := range d.from.tabs {
		changed += bits.OnesCount64(stops ^ d.to.tabs[i])
	}
	if changed == 0 {
		return
	}
	d.neutral()
	from := &d.from.state
	if changed > 8 {
		d.b = append(d.b, "\x1b[3g"...)
		from = &state{tabs: make([]uint64, len(d.to.tabs))}
	}
	for x := range d.cols {
		have, want := from.tabAt(x), d.to.tabAt(x)
		if have == want {
			continue
		}
		d.move(x, 0)
		if want {
			d.b = append(d.b, "\x1bH"...)
		} else {
			d.b = append(d.b, "\x1b[g"...)
		}
	}
}

// sameSaved reports whether the saved cursor of a screen is as wanted.
func (d *differ) sameSaved(which int) bool {
	s := &d.saved[which]
	return s.done || s.old && d.from.sameCursor(&d.from.saved[which], d.to, &d.to.saved[which])
}

// savedNow is the state that saving the cursor now would save.
func (d *differ) savedNow() savedState {
	return savedState{pen: d.pen, penExts: d.penExts, origin: d.origin, sets: d.sets, pending: d.pending || d.x < 0, y: d.y}
}

// save makes the saved cursor of the shown screen what it is to be. What that
// spoils of the rows is painted again; they are nil where they do not matter.
func (d *differ) save(which int, rows []*row) {
	if d.sameSaved(which) {
		return
	}
	y := d.saveable(which)
	d.saved[which] = d.savedNow()
	d.saved[which].done = true
	d.b = append(d.b, "\x1b7"...)
	if y < 0 || rows == nil {
		return
	}
	d.neutral()
	d.paintRow(y, rows)
	for d.lead {
		y++
		d.paintRow(y, rows)
	}
}

// saveable brings the terminal into the state that is to be saved as the
// cursor of a screen. Where that is with a wrap pending, it writes to the
// cursor's row, whose number it returns, else -1.
func (d *differ) saveable(which int) int {
	d.neutral()
	c := &d.to.saved[which]
	spoiled := -1
	if c.pending && c.x != d.cols-1 {
		// The margin in whose column the wrap was pending.
		d.putMode(ModeLeftRightMargin, true)
		d.left, d.right = 0, c.x+1
		d.seq2(1, d.right, 's')
		d.x, d.y, d.pending = 0, 0, false
	}
	if c.origin {
		d.setOrigin(true)
	}
	if c.pending {
		d.x = -1
		d.moveFromOrigin(c.x, c.y)
		d.setPen(style{})
		d.b = append(d.b, ' ')
		d.pending = true
		d.spoil(c.x, c.y)
		d.drawn = d.have[c.y]
		if c.x == d.cols-1 {
			d.have[c.y].wrapped = false
		}
		spoiled = c.y
	} else {
		d.moveFromOrigin(c.x, c.y)
	}
	d.setPen(c.pen)
	d.setCharsets(c.sets)
	return spoiled
}

func (w *writer) setOrigin(on bool) {
	w.mode(decOrigin, on)
	w.origin = on
	w.x, w.y, w.pending = 0, 0, false
	if on {
		w.y = w.top
		if w.modes.has(ModeLeftRightMargin) {
			w.x = w.left
		}
	}
}

// moveFromOrigin moves to an absolute position, also in origin mode.
func (w *writer) moveFromOrigin(x, y int) {
	if w.x == x && w.y == y && !w.pending {
		return
	}
	if !w.origin && !w.modes.has(ModeLeftRightMargin) {
		w.move(x, y)
		return
	}
	left, top := 0, 0
	if w.origin {
		top = w.top
		if w.modes.has(ModeLeftRightMargin) {
			left = w.left
		}
	}
	w.seq2(y-top+1, x-left+1, 'H')
	w.x, w.y, w.pending = x, y, false
}

// setMargins sets the margins, which puts the cursor home.
func (d *differ) setMargins() {
	to := d.to
	if want := to.modes.has(ModeLeftRightMargin); want != d.modes.has(ModeLeftRightMargin) {
		d.putMode(ModeLeftRightMargin, want)
		d.left, d.right = 0, d.cols
		d.x = -1
	}
	if d.top != to.top || d.bottom != to.bottom {
		d.seq2(to.top+1, to.bottom, 'r')
		d.top, d.bottom = to.top, to.bottom
		d.x = -1
	}
	if d.modes.has(ModeLeftRightMargin) && (d.left != to.left || d.right != to.right) {
		d.seq2(to.left+1, to.right, 's')
		d.left, d.right = to.left, to.right
		d.x = -1
	}
}

// setCursor puts the cursor in its place and gives it its pen.
func (d *differ) setCursor() {
	c := &d.to.cur
	if d.origin != c.origin {
		d.setOrigin(c.origin)
	}
	switch {
	case !c.pending:
		if d.x < 0 || d.y != c.y || c.x <= d.x || !d.skip(c.x, d.to.rows[c.y].cells) {
			d.moveFromOrigin(c.x, c.y)
		}
	case d.pending && d.x == c.x && d.y == c.y:
	default:
		if d.modes.has(ModeInsert) {
			d.putMode(ModeInsert, false)
		}
		d.asciiSet()
		d.printAgain(c.x, c.y)
		d.x, d.y, d.pending = c.x, c.y, true
	}
	d.setPen(c.pen)
	d.setCharsets(c.sets)
}

// lastCharacter sees to it that a REP that may follow repeats what it should:
// the character before the cursor, if nothing came after it.
func (d *differ) lastCharacter() {
	to := d.to
	wrote := len(d.b) > d.start
	printed := d.printed == len(d.b)
	switch c := &to.cur; {
	case !wrote && to.lastChar == d.from.lastChar, to.lastChar != 0 && wrote && printed:
	case to.lastChar == 0:
		if !wrote || printed || len(d.b) == d.body {
			d.b = append(d.b, asciiNUL)
		}
	case c.pending:
		d.printAgain(c.x, c.y)
	case c.x > 0:
		d.printAgain(c.x-1, c.y)
	}
}

// printAgain prints once more the character that covers x, y. Where characters
// are inserted, it is deleted first.
func (d *differ) printAgain(x, y int) {
	c := d.to.rows[y].at(x)
	if c.char&charTail != 0 {
		x--
		c = d.to.rows[y].at(x)
	}
	d.moveFromOrigin(x, y)
	if d.modes.has(ModeInsert) {
		d.seq(c.Width(), 'P')
	}
	d.cell(c)
}
