package term

import (
	"bytes"

	"github.com/pairterm/pairterm/term/screen"
)

// How what is not the shared screen looks.
var (
	edgeStyle   = screen.Style{Attr: screen.AttrDim}
	statusStyle = screen.Style{Attr: screen.AttrDim | screen.AttrReverse}
	noticeStyle = screen.Style{Attr: screen.AttrReverse}
)

// compose returns the picture of snap in the window of v, with notice over it.
// In a window of the same size without a notice that is the screen itself,
// less a sequence that it may end in the middle of.
func compose(snap *screen.Snapshot, v view, notice string) *screen.Snapshot {
	c := screen.NewCanvas(snap, v.window.Cols, v.window.Rows)
	cursor := snap.Cursor()
	if !v.exact() {
		v.draw(c, cursor)
	}
	if notice != "" {
		y := 0
		if cursor.Visible && cursor.Y == v.y {
			y = v.window.Rows - 1 // somebody is at work on the first row
		}
		drawNotice(c, v.window.Cols, y, notice)
	}
	return c.Snapshot()
}

// drawNotice draws text at the right end of row y, cut where there is no room.
func drawNotice(c *screen.Canvas, cols, y int, text string) {
	width := screen.TextWidth(text) + 2
	if width <= cols {
		c.Text(cols-width, y, width, " "+text+" ", noticeStyle)
		return
	}
	c.Fill(0, y, cols, 1, ' ', noticeStyle)
	used := c.Text(1, y, cols-2, text, noticeStyle)
	c.Text(1+used, y, 1, "…", noticeStyle)
}

// draw draws the part of the shared screen that is shown, and around it what
// tells where it ends.
func (v *view) draw(c *screen.Canvas, cursor screen.CursorState) {
	part := v.part()
	c.Draw(0, 0, v.x, v.y, part.Cols, part.Rows)
	right := v.window.Cols > v.shared.Cols
	bottom := v.window.Rows-part.Rows > v.statusRows()
	if right {
		c.Fill(part.Cols, 0, 1, part.Rows, '│', edgeStyle)
	}
	if bottom {
		c.Fill(0, part.Rows, part.Cols, 1, '─', edgeStyle)
	}
	if right && bottom {
		c.Fill(part.Cols, part.Rows, 1, 1, '┘', edgeStyle)
	}
	if v.status() {
		y := v.window.Rows - 1
		c.Fill(0, y, v.window.Cols, 1, ' ', statusStyle)
		c.Text(1, y, v.window.Cols-2, v.label(), statusStyle)
	}
	x, y := cursor.X-v.x, cursor.Y-v.y
	inside := x >= 0 && y >= 0 && x < part.Cols && y < part.Rows
	c.Cursor(x, y, cursor.Visible && inside)
}

// scrollAway appends what moves all that a terminal's main screen shows into its
// scrollback, and the cursor to the upper left corner.
func scrollAway(dst []byte, rows int) []byte {
	dst = append(dst, "\x1b[999;1H"...)
	dst = append(dst, bytes.Repeat([]byte{'\n'}, rows)...)
	return append(dst, "\x1b[H"...)
}

// startPainting appends what brings a terminal in any state to a blank
// alternate screen of the size of window, and returns that. What is on the main
// screen stays there.
func startPainting(dst []byte, window Size) ([]byte, *screen.Snapshot) {
	dst = append(dst, "\x18\x1b[?2026l\x1b[?1049h"+
		"\x1b[m\x1b]8;;\x1b\\\x1b[\"q\x1b(B\x1b)B\x0f\x1b[?6;69l\x1b[r\x1b[?7;25h\x1b[4;20l\x1b[<99u\x1b[=0u\x1b>"+
		"\x1b[?1;5;9;66;1000;1001;1002;1003;1004;1005;1006;1015;1016;2004;2031;2048l\x1b[0 q"+
		"\x1b[H\x1b7\x1b[2J"...)
	blank := screen.New(window.Cols, window.Rows, screen.Options{ScrollbackBytes: -1})
	_, _ = blank.Write([]byte("\x1b[?1049h"))
	return dst, blank.Snapshot()
}
