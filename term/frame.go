package term

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pairterm/pairterm/term/screen"
)

// A frame is what turns one screen into another, as it travels from Shared to
// Painter:
//
//	version   1 byte, frameVersion
//	columns   2 bytes, big endian, as all numbers here
//	rows      2 bytes
//	scrolled  8 bytes: how many rows have left the screen through its top, ever
//	bytes     the rest: output for a terminal of that size
//
// When the size is not that of the screen before, the bytes draw everything.
const (
	frameVersion = 1
	frameHeader  = 13
)

// errFrame means that a frame came from a program that does not follow the
// format, or from a newer one.
var errFrame = errors.New("term: malformed frame")

// appendFrame appends the frame that turns from into to.
func appendFrame(dst []byte, from, to *screen.Snapshot) []byte {
	cols, rows := to.Size()
	if from != nil {
		if c, r := from.Size(); c != cols || r != rows {
			from = nil
		}
	}
	dst = append(dst, frameVersion)
	dst = binary.BigEndian.AppendUint16(dst, uint16(cols))
	dst = binary.BigEndian.AppendUint16(dst, uint16(rows))
	dst = binary.BigEndian.AppendUint64(dst, to.ScrollbackTotal())
	return screen.AppendDiff(dst, from, to)
}

// parseFrame takes a frame apart.
func parseFrame(p []byte) (size Size, scrolled uint64, output []byte, err error) {
	if len(p) < frameHeader || p[0] != frameVersion {
		return size, 0, nil, errFrame
	}
	size.Cols = int(binary.BigEndian.Uint16(p[1:]))
	size.Rows = int(binary.BigEndian.Uint16(p[3:]))
	if size != size.Clamp() {
		return size, 0, nil, fmt.Errorf("%w: size %v", errFrame, size)
	}
	return size, binary.BigEndian.Uint64(p[5:]), p[frameHeader:], nil
}
