package term

import (
	"fmt"

	"github.com/pairterm/pairterm/term/screen"
)

// minStatusRows is the height from which on a window that shows only a part of
// the shared screen spends a row on saying which.
const minStatusRows = 4

// A view is how a shared screen is shown in a window: as it is where the sizes
// are equal; with its edge marked in a larger window; and in a smaller one the
// part of it around the cursor, or the part that the user chose.
type view struct {
	window Size
	shared Size

	// The column and row of the shared screen in the upper left corner.
	x, y int
	// pinned keeps them where the user put them.
	pinned bool
}

// exact reports whether the shared screen can be shown as it is.
func (v *view) exact() bool { return v.window == v.shared }

// partial reports whether only a part of the shared screen is shown.
func (v *view) partial() bool {
	return v.window.Cols < v.shared.Cols || v.window.Rows < v.shared.Rows
}

// status reports whether the last row of the window says what part is shown.
func (v *view) status() bool { return v.partial() && v.window.Rows >= minStatusRows }

// statusRows returns how many rows of the window that takes.
func (v *view) statusRows() int {
	if v.status() {
		return 1
	}
	return 0
}

// part returns the size of the part that is shown.
func (v *view) part() Size {
	return v.shared.Min(Size{Cols: v.window.Cols, Rows: v.window.Rows - v.statusRows()})
}

// clamp keeps the view on the shared screen.
func (v *view) clamp() {
	part := v.part()
	v.x = min(max(v.x, 0), v.shared.Cols-part.Cols)
	v.y = min(max(v.y, 0), v.shared.Rows-part.Rows)
}

// follow moves the view so that the cursor is in it, with some columns beside
// it, unless the user has pinned it. A cursor that is not shown is none that
// the user looks at.
func (v *view) follow(c screen.CursorState) {
	if !v.pinned && c.Visible {
		part := v.part()
		margin := min(8, part.Cols/4)
		v.x = max(min(v.x, c.X-margin), c.X+margin+1-part.Cols)
		v.y = max(min(v.y, c.Y), c.Y+1-part.Rows)
	}
	v.clamp()
}

// move moves the view by so many steps, which are half of what is shown, and
// pins it.
func (v *view) move(dx, dy int) {
	part := v.part()
	v.x += dx * max(part.Cols/2, 1)
	v.y += dy * max(part.Rows/2, 1)
	v.pinned = true
	v.clamp()
}

// locate returns the cell of the shared screen at a cell of the window, both
// from 0, and whether there is one.
func (v *view) locate(x, y int) (int, int, bool) {
	part := v.part()
	return x + v.x, y + v.y, x >= 0 && y >= 0 && x < part.Cols && y < part.Rows
}

// label says what part of the shared screen is shown.
func (v *view) label() string {
	part := v.part()
	text := ""
	if part.Cols < v.shared.Cols {
		text = fmt.Sprintf("columns %d–%d of %d", v.x+1, v.x+part.Cols, v.shared.Cols)
	}
	if part.Rows < v.shared.Rows {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("rows %d–%d of %d", v.y+1, v.y+part.Rows, v.shared.Rows)
	}
	return text
}
