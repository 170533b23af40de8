package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// This file is what replicas say to each other.
//
// Subjects, where NAME is the cluster's and ID a replica's, random, in
// hexadecimal digits:
//
//	NAME.beat               all replicas listen: Beat
//	NAME.room.HASH          who has the room listens: Query, Claim, Join.
//	                        HASH is a keyed hash of the room, see keys.subject
//	NAME.replica.ID         that replica listens: all others, and Beat
//	NAME.replica.ID.TOKEN   likewise, for NATS alone: it says there (status 503) that
//	                        nobody listened to a message sent with this reply subject.
//	                        TOKEN is the id of the message's pipe or query, or the
//	                        replica that it went to
//
// Each NATS message is sealed (seal.go) and holds one of the messages below, a
// type byte, then the body. Integers are big-endian; whatever decodes, encodes
// to the same bytes again. The sender is part of the seal. None is longer than
// maxMessage, and none is kept: what is not taken at once is lost, and so is
// the pipe that it was part of.
//
// A replica registers a room thus: it asks who has it (Query, Held), listens
// itself, and claims it (Claim), with a stamp greater than that of who had it. Who
// listens and hears of a greater claim than its own, by stamp and then by replica,
// gives the room up; who hears of a smaller one repeats its own. So whoever
// meets whom when, the greatest remains. Claims are repeated after NATS was away,
// and now and then.
//
// A guest's replica opens a pipe thus:
//
//	Join    →              to who has the room
//	        ← Accept       there is a place; or Refuse
//	Open    →              the guest has been let in
//	        ← Open         the host has been told; or Close, and another Join may follow
//	Data, Taken, Close ⇄   until one of them closes
const (
	typeBeat   = 0x01
	typeQuery  = 0x02
	typeHeld   = 0x03
	typeClaim  = 0x04
	typeJoin   = 0x05
	typeAccept = 0x06
	typeRefuse = 0x07
	typeOpen   = 0x08
	typeData   = 0x09
	typeTaken  = 0x0a
	typeClose  = 0x0b
)

// Sizes, in bytes.
const (
	idLen      = 16
	dataHeader = 1 + idLen + 8
	maxMessage = dataHeader + signal.MaxPayload
)

// errMalformed is wrapped by every error of decode.
var errMalformed = errors.New("malformed message")

// id names a pipe, a query or a replica. All are random.
type id [idLen]byte

// message is one of *beat, *query, *held, *claim, *join, *accept, *refuse,
// *open, *data, *taken and *closed.
type message interface {
	append(b []byte) []byte
}

// beat says that its sender lives. Sent every beatEvery to all, and to a replica
// that was not known or is in doubt.
//
//	type   [1]byte  0x01
//	flags  [1]byte  bit 0: its hosts are about to leave; others 0
type beat struct {
	leaving bool
}

// query asks who has a room.
//
//	type  [1]byte   0x02
//	id    [16]byte
type query struct {
	id id
}

// held answers a query.
//
//	type   [1]byte   0x03
//	id     [16]byte  of the query
//	stamp  [8]byte   of the claim
type held struct {
	id    id
	stamp uint64
}

// claim takes a room.
//
//	type      [1]byte   0x04
//	stamp     [8]byte   milliseconds since 1970, or one more than the one before
//	instance  [16]byte  see [signal.RegisterMsg]
type claim struct {
	stamp    uint64
	instance [16]byte
}

// join asks for a place for a guest.
//
//	type    [1]byte   0x05
//	pipe    [16]byte
//	origin  [16]byte  [server.Origin]
type join struct {
	pipe   id
	origin server.Origin
}

// accept is the answer that there is one. It is given back after a while if no
// open follows.
//
//	type  [1]byte   0x06
//	pipe  [16]byte
type accept struct {
	pipe id
}

// refuse is the answer that there is none.
//
//	type  [1]byte   0x07
//	pipe  [16]byte
//	code  [1]byte   a [signal.Code]
//	wait  [4]byte   milliseconds
type refuse struct {
	pipe id
	code signal.Code
	wait time.Duration // whole milliseconds
}

// open says that the guest has been let in, and back, that the host has been told.
//
//	type  [1]byte   0x08
//	pipe  [16]byte
type open struct {
	pipe id
}

// data carries bytes of a pipe. At most [server.ClusterWindow] of them may be
// on their way.
//
//	type    [1]byte   0x09
//	pipe    [16]byte
//	offset  [8]byte   how many bytes came before, in this direction
//	bytes   [1..16379]byte
type data struct {
	pipe   id
	offset uint64
	bytes  []byte
}

// taken makes room for more data.
//
//	type   [1]byte   0x0a
//	pipe   [16]byte
//	total  [8]byte   how many bytes were taken so far, in the other direction
type taken struct {
	pipe  id
	total uint64
}

// closed ends a pipe, or gives back the place that was asked for it.
//
//	type    [1]byte   0x0b
//	pipe    [16]byte
//	reason  [1]byte   a [signal.Reason]
//	total   [8]byte   how many bytes came before, in this direction
type closed struct {
	pipe   id
	reason signal.Reason
	total  uint64
}

const beatLeaving = 1 << 0

func (m *beat) append(b []byte) []byte {
	var flags byte
	if m.leaving {
		flags |= beatLeaving
	}
	return append(b, typeBeat, flags)
}

func (m *query) append(b []byte) []byte { return appendID(b, typeQuery, m.id) }

func (m *held) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(appendID(b, typeHeld, m.id), m.stamp)
}

func (m *claim) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, typeClaim), m.stamp)
	return append(b, m.instance[:]...)
}

func (m *join) append(b []byte) []byte { return append(appendID(b, typeJoin, m.pipe), m.origin[:]...) }

func (m *accept) append(b []byte) []byte { return appendID(b, typeAccept, m.pipe) }

func (m *refuse) append(b []byte) []byte {
	b = append(appendID(b, typeRefuse, m.pipe), byte(m.code))
	ms := max(0, min(m.wait.Milliseconds(), int64(^uint32(0))))
	return binary.BigEndian.AppendUint32(b, uint32(ms))
}

func (m *open) append(b []byte) []byte { return appendID(b, typeOpen, m.pipe) }

func (m *data) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendID(b, typeData, m.pipe), m.offset)
	return append(b, m.bytes...)
}

func (m *taken) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(appendID(b, typeTaken, m.pipe), m.total)
}

func (m *closed) append(b []byte) []byte {
	b = append(appendID(b, typeClose, m.pipe), byte(m.reason))
	return binary.BigEndian.AppendUint64(b, m.total)
}

func appendID(b []byte, typ byte, i id) []byte { return append(append(b, typ), i[:]...) }

// lengths are of the bodies of all types but data.
var lengths = map[byte]int{
	typeBeat:   1,
	typeQuery:  idLen,
	typeHeld:   idLen + 8,
	typeClaim:  8 + 16,
	typeJoin:   idLen + len(server.Origin{}),
	typeAccept: idLen,
	typeRefuse: idLen + 1 + 4,
	typeOpen:   idLen,
	typeTaken:  idLen + 8,
	typeClose:  idLen + 1 + 8,
}

// decode decodes a message, which shares b.
func decode(b []byte) (message, error) {
	if len(b) == 0 || len(b) > maxMessage {
		return nil, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	typ, body := b[0], b[1:]
	if n, ok := lengths[typ]; ok && n != len(body) || typ == typeData && len(b) <= dataHeader {
		return nil, fmt.Errorf("%w: type %#x with a length of %d bytes", errMalformed, typ, len(b))
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(body[at:]) }
	switch typ {
	case typeBeat:
		if body[0]&^beatLeaving != 0 {
			return nil, fmt.Errorf("%w: beat with unknown flags %#x", errMalformed, body[0])
		}
		return &beat{leaving: body[0]&beatLeaving != 0}, nil
	case typeQuery:
		return &query{id: id(body)}, nil
	case typeHeld:
		return &held{id: id(body[:idLen]), stamp: number(idLen)}, nil
	case typeClaim:
		return &claim{stamp: number(0), instance: [16]byte(body[8:])}, nil
	case typeJoin:
		return &join{pipe: id(body[:idLen]), origin: server.Origin(body[idLen:])}, nil
	case typeAccept:
		return &accept{pipe: id(body)}, nil
	case typeRefuse:
		wait := time.Duration(binary.BigEndian.Uint32(body[idLen+1:])) * time.Millisecond
		return &refuse{pipe: id(body[:idLen]), code: signal.Code(body[idLen]), wait: wait}, nil
	case typeOpen:
		return &open{pipe: id(body)}, nil
	case typeData:
		return &data{pipe: id(body[:idLen]), offset: number(idLen), bytes: body[idLen+8:]}, nil
	case typeTaken:
		return &taken{pipe: id(body[:idLen]), total: number(idLen)}, nil
	case typeClose:
		return &closed{pipe: id(body[:idLen]), reason: signal.Reason(body[idLen]), total: number(idLen + 1)}, nil
	}
	return nil, fmt.Errorf("%w: unknown type %#x", errMalformed, typ)
}
