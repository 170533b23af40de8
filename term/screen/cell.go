package screen

import "unicode/utf8"

// A Color is the default colour (zero), an entry of the palette, or RGB.
type Color uint32

const (
	colorIndexed Color = 1 << 24
	colorRGB     Color = 2 << 24
)

// Indexed is the colour at index i of the 256-colour palette.
func Indexed(i uint8) Color { return colorIndexed | Color(i) }

// RGB is a direct colour.
func RGB(r, g, b uint8) Color {
	return colorRGB | Color(r)<<16 | Color(g)<<8 | Color(b)
}

// Index returns the palette index, and whether c is a palette colour.
func (c Color) Index() (uint8, bool) { return uint8(c), c&colorIndexed != 0 }

// RGB returns the components, and whether c is a direct colour.
func (c Color) RGB() (r, g, b uint8, ok bool) {
	return uint8(c >> 16), uint8(c >> 8), uint8(c), c&colorRGB != 0
}

// Attr is a set of rendition attributes. The underline style is a 3-bit field
// in it, see [Attr.Underline].
type Attr uint16

// The attributes of SGR, and Protected of DECSCA.
const (
	AttrBold Attr = 1 << iota
	AttrDim
	AttrItalic
	AttrBlink
	AttrReverse
	AttrHidden
	AttrStrike
	AttrOverline
	AttrProtected // not erased by DECSED and DECSEL
	underlineBit
	_
	_
	// attrCluster etc. would go here; 4 bits are free.

	attrUnderlineMask Attr = 7 * underlineBit
)

// Underline is the style of an underline, numbered as in SGR 4:n.
type Underline uint8

// The underline styles.
const (
	UnderlineNone Underline = iota
	UnderlineSingle
	UnderlineDouble
	UnderlineCurly
	UnderlineDotted
	UnderlineDashed
)

// Underline returns the underline style.
func (a Attr) Underline() Underline { return Underline(a & attrUnderlineMask / underlineBit) }

// WithUnderline returns a with the given underline style.
func (a Attr) WithUnderline(u Underline) Attr {
	return a&^attrUnderlineMask | Attr(u&7)*underlineBit
}

// A Cell is one column of a row. The zero Cell is a blank that nothing was
// written to; a space written with the default foreground and no attributes
// is the same cell, so two equal cells look the same and two cells of one
// snapshot that look the same are equal.
//
// A wide character takes a lead cell, which holds the character, and a tail
// cell after it.
type Cell struct {
	char uint32 // rune, or index into the cluster table; flags above
	Fg   Color
	Bg   Color
	Attr Attr
	ext  uint16 // index into the ext table: hyperlink and underline colour
}

const (
	charMask    = 1<<24 - 1
	charCluster = 1 << 24 // charMask bits are an index
	charWide    = 1 << 25 // lead cell of two
	charTail    = 1 << 26 // tail cell; nothing else in char
)

// Width is the number of columns that the cell's character takes: 1, 2, or 0
// for the tail of a wide character.
func (c Cell) Width() int {
	switch {
	case c.char&charWide != 0:
		return 2
	case c.char&charTail != 0:
		return 0
	}
	return 1
}

// Blank reports whether the cell shows nothing but its background.
func (c Cell) Blank() bool { return c.char == 0 && c.Attr&^AttrProtected == 0 && c.ext == 0 }

// erased reports whether erasing (EL, ECH) could have made the cell.
func (c Cell) erased() bool { return c.char == 0 && c.Fg == 0 && c.Attr == 0 && c.ext == 0 }

// style is everything of a cell but its character: what the pen holds.
type style struct {
	fg, bg Color
	attr   Attr
	ext    uint16
}

func (c *Cell) style() style { return style{c.Fg, c.Bg, c.Attr, c.ext} }

func (p style) cell(char uint32) Cell { return Cell{char, p.fg, p.bg, p.attr, p.ext} }

// plain reports whether a space in this style is an erased cell.
func (p style) plain() bool { return p.fg == 0 && p.attr == 0 && p.ext == 0 }

// appendChar appends the cell's text; clusters is the table that it refers to.
func (c Cell) appendChar(dst []byte, clusters []string) []byte {
	switch {
	case c.char&charTail != 0:
		return dst
	case c.char&charCluster != 0:
		return append(dst, clusters[c.char&charMask]...)
	case c.char&charMask == 0:
		return append(dst, ' ')
	}
	return utf8.AppendRune(dst, rune(c.char&charMask))
}
