package term

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// Mouse reports of the old kind carry coordinates as characters, 32 more than
// the column or row, which are counted from 1.
const (
	mouseOffset   = 32
	mouseLast     = 255 - mouseOffset  // in one byte
	mouseLastUTF8 = 2047 - mouseOffset // in two bytes of UTF-8
)

// mouse passes on a report with numbers, for the cell of the shared screen, or
// not at all where the mouse is on none.
func (k *Keyboard) mouse(t token) {
	if k.opts.Mouse == nil {
		k.out = append(k.out, t.bytes...)
		return
	}
	fields := bytes.Split(t.csi.params, []byte{';'})
	col, row, ok := k.opts.Mouse.MapMouse(firstParameter(fields[1]), firstParameter(fields[2]))
	if !ok {
		return
	}
	k.out = append(k.out, "\x1b["...)
	if t.csi.prefix != 0 {
		k.out = append(k.out, t.csi.prefix)
	}
	k.out = append(k.out, fields[0]...)
	k.out = strconv.AppendInt(append(k.out, ';'), int64(col), 10)
	k.out = strconv.AppendInt(append(k.out, ';'), int64(row), 10)
	k.out = append(k.out, t.csi.final)
}

// mouseBytes does so with a report of the old kind.
func (k *Keyboard) mouseBytes(p []byte) {
	if k.opts.Mouse == nil {
		k.out = append(k.out, p...)
		return
	}
	wide := k.opts.Mouse.MouseUTF8()
	values := make([]rune, 0, 3)
	for rest := p[3:]; len(rest) > 0; {
		r, n := rune(rest[0]), 1
		if wide {
			r, n = utf8.DecodeRune(rest)
		}
		values = append(values, r)
		rest = rest[n:]
	}
	if len(values) != 3 {
		return
	}
	col, row, ok := k.opts.Mouse.MapMouse(int(values[1])-mouseOffset, int(values[2])-mouseOffset)
	last := mouseLast
	if wide {
		last = mouseLastUTF8
	}
	if !ok || col > last || row > last {
		return
	}
	k.out = append(k.out, p[:3]...)
	for _, v := range []rune{values[0], rune(col + mouseOffset), rune(row + mouseOffset)} {
		if wide {
			k.out = utf8.AppendRune(k.out, v)
		} else {
			k.out = append(k.out, byte(v))
		}
	}
}
