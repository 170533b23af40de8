package screen

import "bytes"

// minSkip is the least number of bytes that are worth looking for what need not be
// written.
const minSkip = 32 << 10

// Skip takes a beginning of p that leaves no trace once the rest of p has been written:
// text that scrolls off the screen, and out of the scrollback. It returns how many bytes
// it took; Write takes the others. It is for a flood of plain output, which it makes
// cost a fraction of what writing all of it does.
//
// The screen is exact at each moment. The scrollback is shorter than it would have been
// until the rest has been written, and may then begin some rows earlier or later.
// ScrollbackTotal counts the rows that were skipped by their line feeds.
func (s *Screen) Skip(p []byte) int {
	if !s.scrollsAll() {
		return 0
	}
	if p = p[:textLen(p)]; len(p) < minSkip {
		return 0
	}
	cut, end := s.skippable(p)
	if cut == 0 {
		return 0
	}
	s.hist.total += uint64(bytes.Count(p[:cut], []byte{asciiLF}))
	for y := range s.height {
		s.clearRow(y)
	}
	s.cur.x, s.cur.y, s.cur.pending = 0, s.height-1, false
	_, _ = s.Write(p[cut:end])
	s.forget()
	return end
}

// scrollsAll reports whether text can do nothing but move down the main screen and
// scroll it.
func (s *Screen) scrollsAll() bool {
	left, right := s.margins()
	return s.st == stGround && s.single == 0 && !s.pass.on && !s.alt &&
		s.top == 0 && s.bottom == s.height && left == 0 && right == s.cols &&
		!s.modes.has(ModeReverseWrap) && !s.modes.has(ModeReverseWrapExtended)
}

// textLen returns how much of p, from its beginning, holds nothing but characters and
// controls that move the cursor. Bytes that may begin a C1 control end it.
func textLen(p []byte) int {
	for _, b := range [...]byte{asciiESC, asciiBEL, asciiSO, asciiSI, 0xc2} {
		if i := bytes.IndexByte(p, b); i >= 0 {
			p = p[:i]
		}
	}
	return len(p)
}

// skippable finds the two ends of lines in p that Skip needs: what follows the second
// fills the scrollback, what lies between them the screen, and what goes before the
// first takes the cursor to the bottom. It returns zeros where there is not so much.
func (s *Screen) skippable(p []byte) (cut, end int) {
	end = len(p)
	// The bytes of scrollback that are not filled yet: it exceeds its limit by less
	// than a chunk.
	room := max(s.hist.limit, 0) + scrollChunk*(rowBytes+s.cols*cellBytes)
	for room > 0 {
		start := lineStart(p[:end])
		if start == 0 {
			return 0, 0
		}
		// A row is at least so large; of anything but plain characters one line may
		// make a single short row.
		room -= rowBytes
		if line := bytes.TrimRight(p[start:end], "\r\n"); printable(line) {
			room -= len(line) * cellBytes
		}
		end = start
	}
	cut = end
	for range s.height {
		if cut = lineStart(p[:cut]); cut == 0 {
			return 0, 0
		}
	}
	// The cut lies after a carriage return, too: then the column is known.
	for cut >= 2 && p[cut-2] != asciiCR {
		cut = lineStart(p[:cut])
	}
	if bytes.Count(p[:cut], []byte{asciiLF}) < s.height {
		return 0, 0
	}
	return cut, end
}

// lineStart returns where the last line of p starts, whose end p is.
func lineStart(p []byte) int { return bytes.LastIndexByte(p[:max(len(p)-1, 0)], asciiLF) + 1 }
