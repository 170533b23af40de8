package stream

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// appendPacket is the inverse of parse.
func appendPacket(b []byte, p *packet) []byte {
	b = p.append(b)
	if p.hasKind(kindInput) {
		b = appendPair(b, kindInput, p.received, p.taken)
	}
	if p.hasKind(kindReacted) {
		b = appendPair(b, kindReacted, p.reacted, p.reactedHead)
	}
	if p.hasKind(kindBase) {
		b = appendBase(b, p.base)
	}
	if p.hasKind(kindState) {
		b = appendPair(b, kindState, p.state, p.stateBase)
	}
	for i := range p.n {
		c := &p.chunks[i]
		if c.kind == kindFrame {
			b = appendFragment(b, c)
			continue
		}
		b = beginChunk(b, c.kind, c.pos, c.mark)
		start := len(b)
		b = append(b, c.data...)
		endChunk(b, start)
	}
	return b
}

// samplePackets covers every field of the format.
func samplePackets() []*packet {
	kind := func(ks ...byte) (has uint8) {
		for _, k := range ks {
			has |= 1 << (k - 1)
		}
		return has
	}
	return []*packet{
		{header: header{stamp: 7, seq: 1}},
		{header: header{flags: flagWantAck | flagEcho | flagNeedFull | flagWantReact, stamp: 1 << 31, echo: 9, seq: 1 << 40}},
		{header: header{flags: flagAck, seq: 300, largest: 64, bits: 1<<63 - 1}},
		{header: header{flags: flagAck, seq: 300, largest: 1}},
		{
			header: header{flags: flagsKnown, seq: maxPosition, largest: maxPosition, bits: 1<<64 - 1},
			has:    kind(kindInput, kindReacted, kindBase, kindState), received: maxPosition, taken: maxPosition,
			reacted: maxPosition, reactedHead: maxPosition, base: maxPosition, state: maxPosition, stateBase: maxPosition,
			n: 1,
			chunks: [maxChunks]chunk{{
				kind: kindFrame, frame: maxPosition, pos: maxPosition, base: maxPosition, flags: frameFlags,
				total: maxFrame, index: fragments(maxFrame) - 2, data: make([]byte, fragmentSize),
			}},
		},
		{
			header: header{seq: 5}, n: 4,
			chunks: [maxChunks]chunk{
				{kind: kindKeys, pos: 0, data: []byte("a")},
				{kind: kindLog, pos: 1000, mark: true, data: []byte("output")},
				{kind: kindFrame, frame: 1, pos: 3},
				{kind: kindFrame, frame: 2, pos: 4, flags: frameBased | frameDeflated, base: 3, total: fragmentSize + 3, index: 1, data: []byte("abc")},
			},
		},
	}
}

func TestPacketRoundTrip(t *testing.T) {
	for i, want := range samplePackets() {
		b := appendPacket(nil, want)
		if len(b) > MaxDatagram {
			t.Errorf("sample %d: %d bytes, more than MaxDatagram", i, len(b))
		}
		var got packet
		if err := got.parse(b); err != nil {
			t.Errorf("sample %d: %v", i, err)
			continue
		}
		if again := appendPacket(nil, &got); !bytes.Equal(b, again) {
			t.Errorf("sample %d:\n got %x\nwant %x", i, again, b)
		}
		// Cut off anywhere it is either refused or a shorter datagram.
		for n := range b {
			if got.parse(b[:n]) == nil && !bytes.Equal(appendPacket(nil, &got), b[:n]) {
				t.Errorf("sample %d cut to %d bytes is accepted as something else", i, n)
			}
		}
	}
}

func TestPacketRefused(t *testing.T) {
	head := func(flags byte) []byte {
		h := header{flags: flags, seq: 1, largest: 1}
		return h.append(nil)
	}
	tests := map[string][]byte{
		"empty":                   {},
		"other version":           append([]byte{2}, head(0)[1:]...),
		"unknown flag":            head(1 << 6),
		"sequence number 0":       {wireVersion, 0, 0, 0, 0, 0, 0},
		"long form of a number":   {wireVersion, 0, 0, 0, 0, 0, 0x81, 0},
		"number too large":        binary.AppendUvarint([]byte{wireVersion, 0, 0, 0, 0, 0}, maxPosition+1),
		"acknowledges number 0":   append(head(flagAck)[:8], 1, 0, 0, 0, 0, 0, 0, 0),
		"unknown section":         append(head(0), 0x20),
		"section 0":               append(head(0), 0),
		"taken beyond received":   appendPair(head(0), kindInput, 1, 2),
		"base beyond state":       appendPair(head(0), kindState, 1, 2),
		"twice":                   appendBase(appendBase(head(0), 1), 1),
		"wrong order":             appendPair(appendBase(head(0), 1), kindInput, 1, 1),
		"empty keys":              beginChunk(head(0), kindKeys, 1, false),
		"mark neither 0 nor 1":    append(head(0), kindLog, 1, 2, 0, 1, 'x'),
		"log beyond the end":      append(binary.AppendUvarint(append(head(0), kindLog), maxPosition), 0, 0, 1, 'x'),
		"frame number 0":          appendFragment(head(0), &chunk{pos: 1, total: 1, data: []byte("x")}),
		"unknown frame flag":      appendFragment(head(0), &chunk{frame: 1, pos: 1, flags: 4, total: 1, data: []byte("x")}),
		"frame too long":          appendFragment(head(0), &chunk{frame: 1, pos: 1, total: maxFrame + 1, data: make([]byte, fragmentSize)}),
		"fragment beyond the end": appendFragment(head(0), &chunk{frame: 1, pos: 1, total: 1, index: 1, data: []byte("x")}),
		"fragment too short":      appendFragment(head(0), &chunk{frame: 1, pos: 1, total: 2, data: []byte("x")}),
		"based on the future":     appendFragment(head(0), &chunk{frame: 1, pos: 1, flags: frameBased, base: 2, total: 1, data: []byte("x")}),
		"too many chunks": func() []byte {
			b := head(0)
			for range maxChunks + 1 {
				b = beginChunk(b, kindKeys, 1, false)
				b = append(b, 'x')
				endChunk(b, len(b)-1)
			}
			return b
		}(),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			if new(packet).parse(b) == nil {
				t.Errorf("%x is accepted", b)
			}
		})
	}
}

func FuzzPacket(f *testing.F) {
	for _, p := range samplePackets() {
		f.Add(appendPacket(nil, p))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p packet
		if p.parse(b) != nil {
			return
		}
		if again := appendPacket(nil, &p); !bytes.Equal(b, again) {
			t.Errorf("%x is accepted and encoded as %x", b, again)
		}
	})
}

func BenchmarkPacket(b *testing.B) {
	p := samplePackets()[4]
	buf := appendPacket(nil, p)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			buf = appendPacket(buf[:0], p)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		var q packet
		for b.Loop() {
			if err := q.parse(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
