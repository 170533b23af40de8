package term

import (
	"sync"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

const (
	// backlogSize is how many bytes of output are kept for guests that are
	// about to get them, and how far the model may fall behind, in bytes.
	backlogSize = 1 << 20

	// feedAt is how far behind, in bytes, the model is before it is fed while
	// more output comes, and feedAfter how long none must have come before it is
	// fed with less. To wake it for every read would cost more than the model
	// itself does, and of much output it can skip most. Whoever asks for its state
	// brings it up to date.
	feedAt    = 768 << 10
	feedAfter = 20 * time.Millisecond

	// modelChunk is how much the model takes at once, in bytes: so long, some
	// 100 µs, may somebody who asks for its state have to wait.
	modelChunk = 16 << 10

	// maxCuts is how many changes of size the model may be behind.
	maxCuts = 8
)

// A source is the output of the shared terminal, as bytes and as a screen. It
// satisfies the Source of package stream for *screen.Snapshot.
//
// Output is appended by one goroutine and fed to the model by another, so that
// the first never waits for the model unless it is a whole backlog behind.
type source struct {
	after time.Duration // feedAfter, or less

	// Held while the model is looked at or fed; taken before mu.
	feeding sync.Mutex
	model   *screen.Screen

	mu    sync.Mutex
	eaten sync.Cond // the model has taken some of the log
	// Guarded by mu.
	log         backlog
	fed         uint64 // what the model has taken; changed while feeding is held
	skipped     uint64 // up to where there is nothing more that the model may skip
	cuts        []cut  // ahead of fed
	ended       bool
	subscribers map[*subscription]struct{}
	awaited     bool // Mark returned a state that was behind

	grown chan struct{} // holds one notice that the model should be fed
}

// cut is a change of size at a position of the log, which it takes up.
type cut struct {
	pos  uint64
	size Size
}

type subscription struct{ notify chan<- struct{} }

// newSource returns a source. If eager, the model takes output at once, as it
// has to where it answers what programs ask.
func newSource(size Size, opts screen.Options, eager bool) *source {
	s := &source{
		after:       feedAfter,
		model:       screen.New(size.Cols, size.Rows, opts),
		log:         newBacklog(backlogSize),
		subscribers: make(map[*subscription]struct{}),
		grown:       make(chan struct{}, 1),
	}
	if eager {
		s.after = 0
	}
	s.eaten.L = &s.mu
	return s
}

// Head is the position at the end of the output so far.
func (s *source) Head() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.head
}

// Mark returns the newest screen that is at hand, and its position. In a flood
// of output it may be a little behind Head.
func (s *source) Mark() (*screen.Snapshot, uint64) {
	s.feeding.Lock()
	defer s.feeding.Unlock()
	pos := s.feedLocked(feedAt)
	return s.model.Snapshot(), pos
}

// Since appends at most limit bytes of output from pos on. It reports false
// when they are not held any more, or when the size has changed since.
func (s *source) Since(dst []byte, pos uint64, limit int) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.since(dst, pos, limit)
}

// AppendDiff appends what turns the screen from into to, for a Painter. from
// may be nil: then it does so from any state.
func (s *source) AppendDiff(dst []byte, from, to *screen.Snapshot) []byte {
	return appendFrame(dst, from, to)
}

// Subscribe asks for a notice, by a send that does not block, whenever there
// is new output, and when Mark has caught up with it, until cancel is called.
func (s *source) Subscribe(notify chan<- struct{}) (cancel func()) {
	sub := &subscription{notify}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers[sub] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, sub)
	}
}

// Held reports that the program is in the middle of drawing (synchronized
// output).
func (s *source) Held() bool {
	s.feeding.Lock()
	defer s.feeding.Unlock()
	s.feedLocked(feedAt)
	return s.model.Synchronized()
}

// append adds output.
func (s *source) append(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.log.head-s.fed+uint64(len(p)) > backlogSize {
		s.eaten.Wait()
	}
	before := s.log.head - s.fed
	s.log.append(p)
	if before == 0 || before < feedAt && before+uint64(len(p)) >= feedAt {
		s.hurry()
	}
	s.announceLocked()
}

// resize changes the size of the screen from here on. Like append it may have
// to wait for the model.
func (s *source) resize(size Size) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.cuts) >= maxCuts || s.log.head-s.fed+1 > backlogSize {
		s.eaten.Wait()
	}
	s.cuts = append(s.cuts, cut{pos: s.log.head, size: size})
	s.log.cut()
	s.hurry()
	s.announceLocked()
}

// end says that there will be no more output.
func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.hurry()
	s.announceLocked()
}

// hurry wakes feed.
func (s *source) hurry() {
	select {
	case s.grown <- struct{}{}:
	default:
	}
}

func (s *source) announceLocked() {
	for sub := range s.subscribers {
		select {
		case sub.notify <- struct{}{}:
		default:
		}
	}
}

// lag returns how far the model is behind, and whether all output is there.
func (s *source) lag() (n uint64, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.head - s.fed, s.ended
}

// feed feeds the model until the end of the output.
func (s *source) feed() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for range s.grown {
		for was := uint64(0); s.after > 0; {
			n, ended := s.lag()
			if n == was || n >= feedAt || ended {
				break
			}
			was = n
			timer.Reset(s.after)
			select {
			case <-timer.C:
			case <-s.grown:
			}
		}
		for {
			n, ended := s.lag()
			if n == 0 && ended {
				return
			}
			if n == 0 {
				break
			}
			s.feeding.Lock()
			s.feedLocked(modelChunk)
			s.feeding.Unlock()
		}
	}
}

// feedLocked feeds the model with about as many bytes of what it is behind,
// and returns its position. The caller holds feeding.
func (s *source) feedLocked(limit int) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for limit > 0 && s.fed != s.log.head {
		n := int(s.log.head - s.fed)
		if len(s.cuts) > 0 {
			next := s.cuts[0]
			if next.pos == s.fed {
				s.cuts = s.cuts[1:]
				s.mu.Unlock()
				s.model.Resize(next.size.Cols, next.size.Rows)
				s.mu.Lock()
				s.ate(1)
				continue
			}
			n = int(min(uint64(n), next.pos-s.fed))
		}
		// append does not touch what has not been fed, so it can be read
		// without the lock.
		if s.fed >= s.skipped {
			a, _ := s.log.span(s.fed, n)
			s.mu.Unlock()
			n := s.model.Skip(a)
			s.mu.Lock()
			s.skipped = s.fed + uint64(len(a))
			s.ate(n)
			continue
		}
		a, b := s.log.span(s.fed, min(n, limit))
		s.mu.Unlock()
		_, _ = s.model.Write(a)
		_, _ = s.model.Write(b)
		s.mu.Lock()
		s.ate(len(a) + len(b))
		limit -= len(a) + len(b)
	}
	caughtUp := s.fed == s.log.head
	if s.awaited && caughtUp {
		s.announceLocked()
	}
	s.awaited = !caughtUp
	return s.fed
}

func (s *source) ate(n int) {
	s.fed += uint64(n)
	s.eaten.Broadcast()
}

// settle feeds all output to the model, and returns the screen. Whoever calls
// it keeps output from being added meanwhile.
func (s *source) settle() settled {
	s.feeding.Lock()
	defer s.feeding.Unlock()
	pos := s.feedLocked(2 * backlogSize)
	return settled{
		Snapshot: s.model.Snapshot(),
		pos:      pos,
		whole:    s.model.InGround() && !s.model.Synchronized(),
	}
}

// settled is the screen of all output.
type settled struct {
	*screen.Snapshot
	pos   uint64
	whole bool // no sequence and no synchronized output is under way
}
