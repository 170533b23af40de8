package screen

//go:generate go run gen_width.go

// runeWidth is the number of columns that a code point takes: 0 if it joins
// the character before it, 2 if it is East Asian wide or fullwidth, else 1.
func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	page := min(int(uint32(r)>>8), len(widthPages)-1)
	return int(widthBlocks[widthPages[page]][r>>2&63] >> (r & 3 * 2) & 3)
}

// RuneWidth is the number of columns that the model gives a code point: 0 if it
// joins the character before it, 1 or 2.
func RuneWidth(r rune) int { return runeWidth(r) }
