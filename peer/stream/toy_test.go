package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// toy is a state: the end of a log, and a checksum of all of it. It is
// immutable.
type toy struct {
	pos  uint64
	sum  uint64
	size uint64 // a counter of resizes
	tail []byte // at most toyTail
}

// toyTail is about what a large screen of text takes.
const toyTail = 4000

func (s *toy) equal(t *toy) bool {
	return s.pos == t.pos && s.sum == t.sum && s.size == t.size && string(s.tail) == string(t.tail)
}

// toyModel follows a log.
type toyModel struct {
	toy
	snap *toy
}

func (m *toyModel) write(p []byte) {
	m.snap = nil
	for _, c := range p {
		m.sum = m.sum*0x100000001b3 ^ uint64(c)
	}
	m.pos += uint64(len(p))
	m.tail = append(m.tail, p...)
	if n := len(m.tail); n > 8*toyTail {
		m.tail = append([]byte(nil), m.tail[n-toyTail:]...)
	}
}

func (m *toyModel) resize() {
	m.snap = nil
	m.pos++
	m.size++
}

func (m *toyModel) snapshot() *toy {
	if m.snap == nil {
		s := m.toy
		s.tail = append([]byte(nil), s.tail[max(0, len(s.tail)-toyTail):]...)
		m.snap = &s
	}
	return m.snap
}

func appendToyDiff(dst []byte, from, to *toy) []byte {
	var zero toy
	if from == nil {
		from = &zero
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
		if to.pos-from.pos < toyTail && to.size == from.size {
			// Only what is new.
			dst = binary.BigEndian.AppendUint64(dst, to.sum)
			return append(dst, to.tail[len(to.tail)-int(to.pos-from.pos):]...)
		}
		dst[len(dst)-1] = 2
	}
	dst = binary.BigEndian.AppendUint64(dst, to.sum)
	dst = binary.BigEndian.AppendUint64(dst, to.size)
	return append(dst, to.tail...)
}

func applyToyDiff(from *toy, pos uint64, diff []byte) (*toy, error) {
	if len(diff) < 9 {
		return nil, errors.New("short")
	}
	kind, sum, rest := diff[0], binary.BigEndian.Uint64(diff[1:]), diff[9:]
	if (kind == 0) != (from == nil) {
		return nil, errors.New("wrong base")
	}
	if kind == 1 {
		m := toyModel{toy: *from}
		m.tail = append([]byte(nil), from.tail...)
		m.write(rest)
		if m.sum != sum || m.pos != pos {
			return nil, fmt.Errorf("diff to %d gives %d, or another sum", pos, m.pos)
		}
		return m.snapshot(), nil
	}
	if len(rest) < 8 {
		return nil, errors.New("short")
	}
	return &toy{pos: pos, sum: sum, size: binary.BigEndian.Uint64(rest), tail: append([]byte(nil), rest[8:]...)}, nil
}

// toySource is a Source with a bounded log.
type toySource struct {
	mu      sync.Mutex
	log     []byte // up to head
	head    uint64
	cuts    []uint64 // positions of resizes
	model   toyModel
	pending []func() // for the model, when it lags
	lag     time.Duration
	held    bool
	subs    map[chan<- struct{}]bool
	history map[uint64]uint64 // sums by position, when kept
}

const toyLog = 1 << 20

func newToySource() *toySource { return &toySource{subs: make(map[chan<- struct{}]bool)} }

func (s *toySource) notifyLocked() {
	for c := range s.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (s *toySource) feedLocked(f func()) {
	if s.lag == 0 {
		f()
		return
	}
	s.pending = append(s.pending, f)
	time.AfterFunc(s.lag, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pending[0]()
		s.pending = s.pending[1:]
		s.notifyLocked()
	})
}

func (s *toySource) write(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history != nil {
		sum := s.history[s.head]
		for i, c := range p {
			sum = sum*0x100000001b3 ^ uint64(c)
			s.history[s.head+uint64(i)+1] = sum
		}
	}
	s.log = append(s.log, p...)
	s.head += uint64(len(p))
	if n := len(s.log); n > 2*toyLog {
		s.log = append(s.log[:0], s.log[n-toyLog:]...)
	}
	p = append([]byte(nil), p...)
	s.feedLocked(func() { s.model.write(p) })
	s.notifyLocked()
}

func (s *toySource) resize() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history != nil {
		s.history[s.head+1] = s.history[s.head]
	}
	s.cuts = append(s.cuts, s.head)
	s.log = append(s.log, 0)
	s.head++
	s.feedLocked(s.model.resize)
	s.notifyLocked()
}

func (s *toySource) hold(held bool) {
	s.mu.Lock()
	s.held = held
	s.notifyLocked()
	s.mu.Unlock()
}

func (s *toySource) Head() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

func (s *toySource) Mark() (*toy, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.model.snapshot()
	return t, t.pos
}

func (s *toySource) Since(dst []byte, pos uint64, max int) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pos > s.head || pos < s.head-uint64(len(s.log)) {
		return dst, false
	}
	for i := len(s.cuts) - 1; i >= 0 && s.cuts[i] >= pos; i-- {
		return dst, false
	}
	p := s.log[uint64(len(s.log))-(s.head-pos):]
	return append(dst, p[:min(len(p), max)]...), true
}

func (s *toySource) AppendDiff(dst []byte, from, to *toy) []byte { return appendToyDiff(dst, from, to) }

func (s *toySource) Subscribe(notify chan<- struct{}) func() {
	s.mu.Lock()
	s.subs[notify] = true
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		delete(s.subs, notify)
		s.mu.Unlock()
	}
}

func (s *toySource) Held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// toySink is a Sink that checks all it is told against the source.
type toySink struct {
	src   *toySource
	check func(format string, args ...any)
	grew  func(pos uint64) // called after each change

	mu    sync.Mutex
	has   bool
	model toyModel
	logs  int
}

func (k *toySink) verify() {
	if k.src != nil && k.src.history != nil {
		k.src.mu.Lock()
		want := k.src.history[k.model.pos]
		k.src.mu.Unlock()
		if want != k.model.sum {
			k.check("state at %d is wrong", k.model.pos)
		}
	}
	if k.grew != nil {
		k.grew(k.model.pos)
	}
}

func (k *toySink) Log(pos uint64, p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.has || pos != k.model.pos || len(p) == 0 {
		k.check("log at %d, state at %d (%v)", pos, k.model.pos, k.has)
	}
	k.model.write(p)
	k.logs++
	k.verify()
}

func (k *toySink) Frame(from *toy, base, pos uint64, diff []byte) (*toy, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if from != nil && from.pos != base {
		k.check("base at %d is the state at %d", base, from.pos)
	}
	s, err := applyToyDiff(from, pos, diff)
	if err != nil {
		k.check("frame to %d: %v", pos, err)
		return nil, err
	}
	if k.has && pos < k.model.pos {
		k.check("frame to %d, state at %d", pos, k.model.pos)
	}
	k.has = true
	k.model = toyModel{toy: *s, snap: s}
	k.model.tail = append([]byte(nil), s.tail...)
	k.verify()
	return s, nil
}

func (k *toySink) Mark() *toy {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.model.snapshot()
}

func (k *toySink) state() toy {
	k.mu.Lock()
	defer k.mu.Unlock()
	return *k.model.snapshot()
}

// toyInput is an Input that records.
type toyInput struct {
	mu         sync.Mutex
	keys       []byte
	sizes      [][2]int
	interrupts int
	raw        bool // Signals reports false
	room       int  // how many bytes Keys takes; negative: all
	got        func(p []byte)
}

func (in *toyInput) Keys(p []byte) int {
	in.mu.Lock()
	n := len(p)
	if in.room >= 0 {
		n = min(n, in.room)
		in.room -= n
	}
	in.keys = append(in.keys, p[:n]...)
	got := in.got
	in.mu.Unlock()
	if got != nil && n > 0 {
		got(p[:n])
	}
	return n
}

func (in *toyInput) Interrupt(p []byte) {
	in.mu.Lock()
	in.keys = append(in.keys, p...)
	in.interrupts++
	got := in.got
	in.mu.Unlock()
	if got != nil {
		got(p)
	}
}

func (in *toyInput) Signals() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.raw
}

func (in *toyInput) Resize(cols, rows int) {
	in.mu.Lock()
	in.sizes = append(in.sizes, [2]int{cols, rows})
	in.mu.Unlock()
}

func (in *toyInput) setRaw() {
	in.mu.Lock()
	in.raw = true
	in.mu.Unlock()
}

// react sets what is done with keys that were taken.
func (in *toyInput) react(got func(p []byte)) {
	in.mu.Lock()
	in.got = got
	in.mu.Unlock()
}

func (in *toyInput) setRoom(n int) {
	in.mu.Lock()
	in.room = n
	in.mu.Unlock()
}

// size is the last size that was told.
func (in *toyInput) size() (size [2]int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if n := len(in.sizes); n > 0 {
		size = in.sizes[n-1]
	}
	return size
}

func (in *toyInput) typed() string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return string(in.keys)
}
