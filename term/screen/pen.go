package screen

import "strconv"

// appendPen appends, to an SGR sequence whose last parameter was appended,
// the parameters that turn the rendition of one style into that of another;
// each refers to its own table of extents.
func appendPen(b []byte, from, to style, fromExts, toExts []extent) []byte {
	fu, tu := fromExts[from.ext].underline, toExts[to.ext].underline
	// 22 resets both bold and dim.
	const intensity = AttrBold | AttrDim
	if gone := from.attr &^ to.attr & intensity; gone != 0 {
		b = append(b, ";22"...)
		from.attr &^= intensity
	}
	for _, x := range sgrBits {
		switch have, want := from.attr&x.attr != 0, to.attr&x.attr != 0; {
		case want && !have:
			b = append(append(b, ';'), x.on...)
		case have && !want:
			b = append(append(b, ';'), x.off...)
		}
	}
	if u := to.attr.Underline(); u != from.attr.Underline() {
		switch u {
		case UnderlineNone:
			b = append(b, ";24"...)
		case UnderlineSingle:
			b = append(b, ";4"...)
		default:
			b = strconv.AppendInt(append(b, ";4:"...), int64(u), 10)
		}
	}
	if to.fg != from.fg {
		b = appendColor(b, to.fg, 30)
	}
	if to.bg != from.bg {
		b = appendColor(b, to.bg, 40)
	}
	if tu != fu {
		b = appendColor(b, tu, 50)
	}
	return b
}

var sgrBits = []struct {
	attr    Attr
	on, off string
}{
	{AttrBold, "1", ""},
	{AttrDim, "2", ""},
	{AttrItalic, "3", "23"},
	{AttrBlink, "5", "25"},
	{AttrReverse, "7", "27"},
	{AttrHidden, "8", "28"},
	{AttrStrike, "9", "29"},
	{AttrOverline, "53", "55"},
}

// appendColor appends the SGR parameters of a colour; base is 30, 40 or 50 for
// foreground, background and underline.
func appendColor(b []byte, c Color, base int) []byte {
	b = append(b, ';')
	if c == 0 {
		return strconv.AppendInt(b, int64(base+9), 10)
	}
	if r, g, bl, ok := c.RGB(); ok {
		b = strconv.AppendInt(b, int64(base+8), 10)
		sep := byte(';')
		if base == 50 {
			sep = ':' // semicolons there would be read as attributes by terminals without it
		}
		b = append(b, sep, '2', sep)
		if base == 50 {
			b = append(b, sep)
		}
		b = strconv.AppendInt(b, int64(r), 10)
		b = strconv.AppendInt(append(b, sep), int64(g), 10)
		return strconv.AppendInt(append(b, sep), int64(bl), 10)
	}
	i, _ := c.Index()
	switch {
	case base != 50 && i < 8:
		return strconv.AppendInt(b, int64(base)+int64(i), 10)
	case base != 50 && i < 16:
		return strconv.AppendInt(b, int64(base)+60+int64(i)-8, 10)
	case base == 50:
		return strconv.AppendInt(append(b, "58:5:"...), int64(i), 10)
	}
	b = strconv.AppendInt(b, int64(base+8), 10)
	return strconv.AppendInt(append(b, ";5;"...), int64(i), 10)
}
