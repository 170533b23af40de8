package term

import "fmt"

// Limits of a terminal's size, in cells. Sizes come from other machines, so
// they are clamped before anything is allocated for them.
const (
	minCols, minRows = 2, 1
	maxCols, maxRows = 1024, 512
)

// DefaultSize is the size of a terminal that nobody asked a size for.
var DefaultSize = Size{Cols: 80, Rows: 24}

// Size is the size of a terminal in cells.
type Size struct {
	Cols, Rows int
}

// String returns the size as people write it, as in "80x24".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Cols, s.Rows) }

// Clamp returns the nearest size that a terminal may have here.
func (s Size) Clamp() Size {
	return Size{
		Cols: min(max(s.Cols, minCols), maxCols),
		Rows: min(max(s.Rows, minRows), maxRows),
	}
}

// Min returns the size that fits into both.
func (s Size) Min(o Size) Size {
	return Size{Cols: min(s.Cols, o.Cols), Rows: min(s.Rows, o.Rows)}
}
