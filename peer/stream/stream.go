package stream

import (
	"errors"
	"time"
)

// MaxDatagram is the largest datagram that is sent, in bytes. Sealed (24 bytes
// more) it is the longest message of a data channel that still travels in one
// UDP datagram: see MaxDatagram of package link.
const MaxDatagram = 1132

var (
	// ErrProtocol ends Run when the peer broke the rules of a stream in a way
	// that no loss or reordering explains.
	ErrProtocol = errors.New("stream: protocol violation by the peer")
	// ErrState ends a Sender whose Source has a state that takes more than 8 MiB
	// to express.
	ErrState = errors.New("stream: state too large")
	// ErrSink ends a Receiver whose Sink could not apply even complete states.
	ErrSink = errors.New("stream: state cannot be applied")
)

// Conn is the link below: datagrams that may be lost, reordered, duplicated
// and delayed, with their boundaries kept. Send and Recv are each called by one
// goroutine at a time; Buffered and Close by any.
type Conn interface {
	// Send queues one datagram of at most MaxDatagram bytes. It should not
	// block, and must not keep p.
	Send(p []byte) error
	// Recv waits for a datagram and copies it into p. io.ErrShortBuffer, for
	// one that is longer than p, is passed over; any other error means that the
	// link is gone.
	Recv(p []byte) (int, error)
	// Buffered is the number of bytes that Send took and that have not left yet.
	Buffered() uint64
	// Close makes a waiting Recv return. It may be called more than once.
	Close() error
}

// Source is what a Sender synchronizes: a log of bytes with absolute positions,
// and states along it. All methods may be called from many goroutines at once
// (each guest has a Sender), must not block, and are called often.
//
// The zero S stands for "no state".
//
// Positions identify states, so two different states never share one. A change
// of state that is not made by bytes of the log (a resize) advances the
// position by at least one, and Since refuses to cross it.
type Source[S any] interface {
	// Head is the position at the end of the log.
	Head() uint64
	// Mark returns the newest state that is at hand and its position, which may
	// lag behind Head a little. Positions never decrease.
	Mark() (state S, pos uint64)
	// Since appends to dst at most max bytes of the log from pos on. It reports
	// false when pos is not held any more, is beyond Head, or is followed by
	// something that bytes cannot express. It may return fewer than max bytes.
	Since(dst []byte, pos uint64, max int) ([]byte, bool)
	// AppendDiff appends what turns from into to. When from is the zero S, it
	// must do so from any state at all.
	AppendDiff(dst []byte, from, to S) []byte
	// Subscribe asks for a non-blocking send on notify whenever Head or the
	// position of Mark advanced, until cancel is called.
	Subscribe(notify chan<- struct{}) (cancel func())
	// Held reports that the present state is half-drawn (synchronized output):
	// frames wait for it to end, for 150 ms at most.
	Held() bool
}

// Sink is what a Receiver feeds. Its methods are called by the Receiver's loop,
// one at a time; they should return within milliseconds, since keys wait
// meanwhile.
type Sink[S any] interface {
	// Log applies bytes of the log. They begin at position pos, where the
	// previous call of Log or Frame ended. p is valid during the call only.
	Log(pos uint64, p []byte)
	// Frame applies diff to the state from, which an earlier Mark or Frame
	// returned and which was the state at position base, and returns the result:
	// the state at pos. The present state may be a later one than from. With the
	// zero S, diff makes the whole state out of nothing. diff is valid during the
	// call only. After an error, a frame from nothing is asked for.
	Frame(from S, base, pos uint64, diff []byte) (S, error)
	// Mark returns the present state, to be the base of a later frame.
	Mark() S
}

// Input receives what the guest did, each event once and in order. Its methods
// are called by the Sender's loop and must not block.
type Input interface {
	// Keys offers typed bytes and returns how many of them were taken. After a
	// return of less than len(p), the rest is offered again on
	// Sender.InputReady; until then the guest is slowed down. p is valid during
	// the call only.
	Keys(p []byte) (n int)
	// Interrupt delivers keys that were typed to stop a large paste (see
	// Receiver.SendKeys): what the Sender held of the paste is dropped, and the
	// handler should drop what it holds from this guest too. All of p must be
	// taken; p is valid during the call only.
	Interrupt(p []byte)
	// Signals reports whether keys like Ctrl-C interrupt the program now, instead of
	// being read by it: only then the guest makes an Interrupt of them.
	Signals() bool
	// Resize tells the size of the guest's window in cells, both from 1 to
	// 65,535.
	Resize(cols, rows int)
}

// Config holds the optional parts of a Sender or Receiver.
type Config struct {
	// OnStall is called with true when data has gone unanswered for 2 s or the
	// link reported its end, and with false when answers come again. It is the
	// moment to prepare a second link and to Rebind to it. It runs on the loop:
	// it must return at once, and may call any method except Run.
	OnStall func(stalled bool)

	// OnEcho is called by a Receiver with a count of typed bytes, as SendKeys
	// returned them: the host's program has had time to react to these, and the
	// Sink has seen what it printed by then. For prediction. When it is nil the
	// host is not asked to tell. It runs on the loop and must return at once.
	OnEcho func(typed uint64)
}

// Mode is how a guest is being served.
type Mode uint8

const (
	// ModeFrame sends what turns one state into another.
	ModeFrame Mode = iota
	// ModeLog sends the bytes of the log.
	ModeLog
)

// String returns "frame" or "log".
func (m Mode) String() string {
	if m == ModeLog {
		return "log"
	}
	return "frame"
}

// Stats describes one end of a stream. Counters start at the creation of the
// Sender or Receiver; measurements of the path start anew with Rebind.
type Stats struct {
	Mode    Mode // how the guest is served (Sender)
	Stalled bool // data is unanswered for 2 s, or the link has ended

	RTT    time.Duration // smoothed round trip; 0 before the first sample
	RTTVar time.Duration // its mean deviation
	MinRTT time.Duration // least round trip of the last seconds
	Loss   float64       // share of recent own datagrams that did not arrive, 0..1
	Rate   float64       // bytes a second that were seen to be delivered
	Window int           // bytes that may be in flight
	Flight int           // bytes in flight

	Sent, Received           uint64 // datagrams
	SentBytes, ReceivedBytes uint64 // their payload
	Malformed                uint64 // datagrams from the peer that made no sense
	Overrun                  uint64 // datagrams dropped because the loop was busy
	Lost                     uint64 // own datagrams declared lost
	Timeouts                 uint64 // retransmission timer expiries
	Repeated                 uint64 // datagrams sent again in whole or part, copies included

	LogBytes  uint64 // bytes of the log sent (Sender) or applied (Receiver)
	Frames    uint64 // frames cut (Sender) or applied (Receiver)
	FullFrame uint64 // of these, frames from nothing

	Position uint64 // of the log, acknowledged by the guest (Sender) or reached (Receiver)
	Unacked  uint64 // bytes of the log (Sender) or typed bytes (Receiver) not acknowledged
	Dropped  uint64 // typed bytes given up for an interrupt
}
