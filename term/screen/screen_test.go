package screen_test

import (
	"fmt"
	"slices"

	"github.com/pairterm/pairterm/term/screen"
)

func sortedInts(v []int) []int {
	slices.Sort(v)
	return v
}

// firstDifference describes how two snapshots differ.
func firstDifference(a, b *screen.Snapshot) string {
	cols, rows := a.Size()
	if c, r := b.Size(); c != cols || r != rows {
		return "the size"
	}
	for y := range rows {
		for x := range cols {
			if ca, cb := cellLook(a, a.Cell(x, y)), cellLook(b, b.Cell(x, y)); ca != cb {
				return fmt.Sprintf("at %d,%d: %+v, and %+v", x, y, ca, cb)
			}
		}
	}
	if a.Cursor() != b.Cursor() {
		return fmt.Sprintf("cursor %+v, and %+v", a.Cursor(), b.Cursor())
	}
	return screen.Describe(a, b)
}
