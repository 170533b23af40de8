package stream

import (
	"encoding/binary"
	"errors"
)

// The wire format. One datagram is a header and sections; integers are
// big-endian, "uvarint" is the shortest form of encoding/binary's, at most
// maxPosition.
//
//	header
//	  1  version, 1
//	  1  flags: the flag* constants; others are 0
//	  4  timestamp: the sender's clock in µs, wrapping
//	 (4  with flagEcho: the newest timestamp that was received, plus the µs
//	     that it waited here)
//	  uvarint  sequence number of the datagram, from 1, never reused
//	 (with flagAck:
//	  uvarint  largest sequence number received
//	  8  bit i: number largest-1-i was received too)
//
//	sections: 1 byte of kind, then as below; in ascending order of kind, those
//	of the first group at most once, those of the second repeatable, at most
//	maxChunks in all
//
//	  kindInput     host → guest: how far the log of input has come
//	    uvarint  received without gap
//	    uvarint  taken by the host's program; the guest may send up to
//	             inputWindow bytes beyond
//	  kindReacted   host → guest: echo acknowledgement
//	    uvarint  input up to here was taken 50 ms ago or more
//	    uvarint  when the output had come to this position
//	  kindBase      host → guest: no frame will be based on an earlier state
//	    uvarint  position
//	  kindState     guest → host: what the guest has
//	    uvarint  position of its state
//	    uvarint  position of the newest state it holds as a base, not above it
//
//	  kindKeys      guest → host: part of the log of input (see events.go)
//	    uvarint  position
//	    2  length, at least 1, and the bytes
//	  kindLog       host → guest: part of the log
//	    uvarint  position
//	    1  1: the state at this position will be a base, 0: it will not
//	    2  length, at least 1, and the bytes
//	  kindFrame     host → guest: fragment of a frame
//	    uvarint  number of the frame, from 1
//	    uvarint  position of the state it makes
//	    1  flags: frameBased, frameDeflated; others are 0
//	   (uvarint  with frameBased: position of the state it starts from)
//	    uvarint  length of the frame, at most maxFrame
//	    2  index of the fragment; all are fragmentSize long except the last
//	    2  length, and the bytes; only the fragment of an empty frame is empty
const (
	wireVersion = 1

	flagWantAck   = 1 << 0 // the datagram is to be acknowledged
	flagAck       = 1 << 1 // acknowledgements are there
	flagEcho      = 1 << 2 // a timestamp is sent back
	flagNeedFull  = 1 << 3 // guest: send a frame from nothing
	flagWantReact = 1 << 4 // guest: send echo acknowledgements
	flagSignals   = 1 << 5 // host: Ctrl-C and the like make signals on its terminal now
	flagsKnown    = 1<<6 - 1

	kindInput   = 0x01
	kindReacted = 0x02
	kindBase    = 0x03
	kindState   = 0x04
	kindKeys    = 0x10
	kindLog     = 0x11
	kindFrame   = 0x12

	frameBased    = 1 << 0
	frameDeflated = 1 << 1
	frameFlags    = 1<<2 - 1

	maxPosition = 1<<62 - 1 // so that sums of positions and lengths do not wrap
	maxChunks   = 4         // repeatable sections in a datagram

	fragmentSize = 990     // bytes; fits beside all other sections at their longest
	maxFrame     = 8 << 20 // bytes of a frame on the wire
	maxState     = 32 << 20

	inputWindow  = 256 << 10 // bytes of input beyond what was taken
	inputReserve = 2 << 10   // bytes beyond the window for interrupts and sizes
)

var errMalformed = errors.New("stream: malformed datagram")

// header of a datagram.
type header struct {
	flags   byte
	stamp   uint32
	echo    uint32 // with flagEcho
	seq     uint64
	largest uint64 // with flagAck
	bits    uint64 // with flagAck
}

// chunk is one repeatable section.
type chunk struct {
	kind byte
	pos  uint64
	data []byte

	mark bool // kindLog

	frame uint64 // kindFrame: its number
	flags byte   // kindFrame
	base  uint64 // kindFrame with frameBased
	total int    // kindFrame
	index int    // kindFrame
}

// packet is a datagram taken apart. Its data refers to the datagram.
type packet struct {
	header

	has                  uint8 // bit (kind-1) of each section of the first group
	received, taken      uint64
	reacted, reactedHead uint64
	base                 uint64
	state, stateBase     uint64
	chunks               [maxChunks]chunk
	n                    int
}

func (p *packet) hasKind(kind byte) bool { return p.has&(1<<(kind-1)) != 0 }

// reader takes a datagram apart; after an error it yields zeroes.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.b, r.err = nil, errMalformed
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uint16() int {
	if p := r.bytes(2); p != nil {
		return int(binary.BigEndian.Uint16(p))
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if p := r.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if p := r.bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > maxPosition || n > 1 && r.b[n-1] == 0 {
		r.b, r.err = nil, errMalformed
		return 0
	}
	r.b = r.b[n:]
	return v
}

// parse takes the datagram b apart into p, whose data then refers to b. Only
// what appendPacket could have made is accepted.
func (p *packet) parse(b []byte) error {
	p.has, p.n = 0, 0
	r := reader{b: b}
	if r.byte() != wireVersion {
		return errMalformed
	}
	p.header = header{flags: r.byte(), stamp: r.uint32()}
	if p.flags&^flagsKnown != 0 {
		return errMalformed
	}
	if p.flags&flagEcho != 0 {
		p.echo = r.uint32()
	}
	p.seq = r.uvarint()
	if p.flags&flagAck != 0 {
		p.largest = r.uvarint()
		p.bits = r.uint64()
		// No number below 1 was ever sent.
		if p.largest == 0 || p.largest <= 64 && p.bits>>(p.largest-1) != 0 {
			return errMalformed
		}
	}
	if r.err != nil || p.seq == 0 {
		return errMalformed
	}
	last := byte(0)
	for len(r.b) > 0 {
		kind := r.byte()
		if kind < last || kind == last && kind < kindKeys {
			return errMalformed
		}
		last = kind
		switch kind {
		case kindInput:
			p.received, p.taken = r.uvarint(), r.uvarint()
			if p.taken > p.received {
				return errMalformed
			}
		case kindReacted:
			p.reacted, p.reactedHead = r.uvarint(), r.uvarint()
		case kindBase:
			p.base = r.uvarint()
		case kindState:
			p.state, p.stateBase = r.uvarint(), r.uvarint()
			if p.stateBase > p.state {
				return errMalformed
			}
		case kindKeys, kindLog, kindFrame:
			if p.n == maxChunks || !p.chunks[p.n].parse(kind, &r) {
				return errMalformed
			}
			p.n++
			continue
		default:
			return errMalformed
		}
		p.has |= 1 << (kind - 1)
	}
	return r.err
}

func (c *chunk) parse(kind byte, r *reader) bool {
	*c = chunk{kind: kind}
	switch kind {
	case kindKeys:
		c.pos = r.uvarint()
	case kindLog:
		c.pos = r.uvarint()
		mark := r.byte()
		if mark > 1 {
			return false
		}
		c.mark = mark == 1
	case kindFrame:
		c.frame, c.pos, c.flags = r.uvarint(), r.uvarint(), r.byte()
		if c.frame == 0 || c.flags&^frameFlags != 0 {
			return false
		}
		if c.flags&frameBased != 0 {
			c.base = r.uvarint()
		}
		total := r.uvarint()
		c.index = r.uint16()
		if total > maxFrame || c.base > c.pos {
			return false
		}
		c.total = int(total)
		c.data = r.bytes(r.uint16())
		return r.err == nil && c.index < fragments(c.total) && len(c.data) == fragmentLen(c.total, c.index)
	}
	c.data = r.bytes(r.uint16())
	return r.err == nil && len(c.data) > 0 && c.pos+uint64(len(c.data)) <= maxPosition
}

// fragments is the number of fragments of a frame.
func fragments(total int) int {
	return max(1, (total+fragmentSize-1)/fragmentSize)
}

// fragmentLen is the length of a fragment of a frame.
func fragmentLen(total, index int) int {
	return min(fragmentSize, total-index*fragmentSize)
}

func (h *header) append(b []byte) []byte {
	b = append(b, wireVersion, h.flags)
	b = binary.BigEndian.AppendUint32(b, h.stamp)
	if h.flags&flagEcho != 0 {
		b = binary.BigEndian.AppendUint32(b, h.echo)
	}
	b = binary.AppendUvarint(b, h.seq)
	if h.flags&flagAck != 0 {
		b = binary.AppendUvarint(b, h.largest)
		b = binary.BigEndian.AppendUint64(b, h.bits)
	}
	return b
}

func appendPair(b []byte, kind byte, x, y uint64) []byte {
	b = append(b, kind)
	b = binary.AppendUvarint(b, x)
	return binary.AppendUvarint(b, y)
}

func appendBase(b []byte, base uint64) []byte {
	return binary.AppendUvarint(append(b, kindBase), base)
}

// beginChunk appends a kindKeys or kindLog section without its data, which is
// to be appended by the caller, followed by endChunk.
func beginChunk(b []byte, kind byte, pos uint64, mark bool) []byte {
	b = append(b, kind)
	b = binary.AppendUvarint(b, pos)
	if kind == kindLog {
		flag := byte(0)
		if mark {
			flag = 1
		}
		b = append(b, flag)
	}
	return append(b, 0, 0)
}

// endChunk fills in the length of a chunk whose data starts at b[start].
func endChunk(b []byte, start int) {
	binary.BigEndian.PutUint16(b[start-2:], uint16(len(b)-start))
}

// chunkOverhead is at least what beginChunk appends.
const chunkOverhead = 1 + 9 + 1 + 2

func appendFragment(b []byte, c *chunk) []byte {
	b = append(b, kindFrame)
	b = binary.AppendUvarint(b, c.frame)
	b = binary.AppendUvarint(b, c.pos)
	b = append(b, c.flags)
	if c.flags&frameBased != 0 {
		b = binary.AppendUvarint(b, c.base)
	}
	b = binary.AppendUvarint(b, uint64(c.total))
	b = binary.BigEndian.AppendUint16(b, uint16(c.index))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.data)))
	return append(b, c.data...)
}
