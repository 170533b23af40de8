package stream

import (
	"bytes"
	"encoding/binary"

	"github.com/pairterm/pairterm/term/paste"
)

// The log of input is a sequence of events:
//
//	1  kind
//	2  length of what follows, at most maxEvent
//	   eventKeys       the typed bytes, at least 1
//	   eventResize     2 columns, 2 rows, both at least 1
//	   eventInterrupt  the keys of an interrupt, at least 1; bulk before it that
//	                   the program has not taken is to be dropped
//
// Events of unknown kinds are passed over.
const (
	eventKeys      = 1
	eventResize    = 2
	eventInterrupt = 3

	eventHeader = 3
	maxEvent    = 512

	// bulk is what a person does not type ahead, in bytes: only beyond it does
	// an interrupt drop what is before it.
	bulk = 2 << 10
)

func appendEvent(b []byte, kind byte, data []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

func appendResize(b []byte, cols, rows uint16) []byte {
	b = append(b, eventResize, 0, 4)
	b = binary.BigEndian.AppendUint16(b, cols)
	return binary.BigEndian.AppendUint16(b, rows)
}

// validEvent checks what follows an event's header.
func validEvent(kind byte, data []byte) bool {
	switch kind {
	case 0:
		return false
	case eventKeys, eventInterrupt:
		return len(data) > 0
	case eventResize:
		return len(data) == 4 && binary.BigEndian.Uint16(data) > 0 && binary.BigEndian.Uint16(data[2:]) > 0
	}
	return true
}

// interrupts are the keys that stop a paste: Ctrl-C and Ctrl-\, plain, in the
// kitty keyboard protocol and in xterm's modifyOtherKeys.
var interrupts = [][]byte{
	{0x03},
	{0x1c},
	[]byte("\x1b[99;5u"),
	[]byte("\x1b[92;5u"),
	[]byte("\x1b[27;5;99~"),
	[]byte("\x1b[27;5;92~"),
}

// findInterrupt returns the first interrupt in p that is outside of a bracketed
// paste, of which t has seen what is before p; n is 0 when there is none. t is
// moved on to the end of the interrupt or of p.
func findInterrupt(t *paste.Tracker, p []byte) (at, n int) {
	for i := 0; i < len(p); {
		skip := bytes.IndexAny(p[i:], "\x03\x1b\x1c")
		if t.Partial() {
			skip = 0
		}
		if skip < 0 {
			break
		}
		i += skip
		if !t.Inside() {
			for _, key := range interrupts {
				if bytes.HasPrefix(p[i:], key) {
					*t = paste.Tracker{}
					return i, len(key)
				}
			}
		}
		t.Next(p[i])
		i++
	}
	return len(p), 0
}
