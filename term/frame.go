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
//	version  1 byte, frameVersion
//	columns  2 bytes, big endian
//	rows     2 bytes, big endian
//	bytes    the rest: output for a terminal of that size
//
// When the size is not that of the screen before, the bytes draw everything.
const (
	frameVersion = 1
	frameHeader  = 5
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
	return screen.AppendDiff(dst, from, to)
}

// parseFrame takes a frame apart.
func parseFrame(p []byte) (size Size, output []byte, err error) {
	if len(p) < frameHeader || p[0] != frameVersion {
		return size, nil, errFrame
	}
	size.Cols = int(binary.BigEndian.Uint16(p[1:]))
	size.Rows = int(binary.BigEndian.Uint16(p[3:]))
	if size != size.Clamp() {
		return size, nil, fmt.Errorf("%w: size %v", errFrame, size)
	}
	return size, p[frameHeader:], nil
}
