package term

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// reader is a program that reads its terminal when it is told to: until then
// writes block, as on a PTY whose buffers are full.
type reader struct {
	mu      sync.Mutex
	room    int // bytes that may still be written
	got     strings.Builder
	past    bool
	changed chan struct{}
	isig    bool // ISIG is set
	flushed int
}

func newReader(isig bool) *reader {
	return &reader{changed: make(chan struct{}), isig: isig}
}

func (r *reader) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *reader) reads(n int) { r.change(func() { r.room += n }) }

func (r *reader) Write(p []byte) (n int, err error) {
	for {
		r.mu.Lock()
		m := min(r.room, len(p)-n)
		r.got.Write(p[n : n+m])
		r.room -= m
		n += m
		past, changed := r.past, r.changed
		r.mu.Unlock()
		if n == len(p) {
			return n, nil
		}
		if past {
			return n, os.ErrDeadlineExceeded
		}
		<-changed
	}
}

func (r *reader) SetWriteDeadline(t time.Time) error {
	r.change(func() { r.past = !t.IsZero() })
	return nil
}

func (r *reader) signals() signalKeys {
	if !r.isig {
		return signalKeys{}
	}
	return signalKeys{keys: [3]byte{3, 0x1c, 0x1a}, literal: 0x16}
}

func (r *reader) flushInput() { r.change(func() { r.flushed++; r.room += 1000 }) }

func (r *reader) read() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

// withInputs runs f while what is typed is written to r.
func withInputs(t *testing.T, r *reader, f func(t *testing.T, h *inputs)) {
	synctest.Test(t, func(t *testing.T) {
		r.change(func() {}) // a channel of this bubble
		h := newInputs()
		h.wake = make(chan struct{}, 1)
		h.open(r)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.run(ctx)
		}()
		synctest.Wait()
		f(t, h)
		cancel()
		_ = r.SetWriteDeadline(time.Unix(1, 0))
		<-done
	})
}

func TestInputOrder(t *testing.T) {
	withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
		r := h.sink.(*reader)
		a, b := h.add(InputOptions{}), h.add(InputOptions{})
		a.Keys([]byte("a0")) // under way, and blocked
		synctest.Wait()
		a.Keys([]byte("a1"))
		b.Keys([]byte("b1"))
		h.local.Keys([]byte("local"))
		r.reads(1000)
		synctest.Wait()
		if got, want := r.read(), "a0locala1b1"; got != want && got != "a0localb1a1" {
			t.Errorf("program read %q, want %q", got, want)
		}
	})
}

// TestInputTorn pastes in pieces that end within keys, while somebody else types.
func TestInputTorn(t *testing.T) {
	withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
		r := h.sink.(*reader)
		a, b := h.add(InputOptions{}), h.add(InputOptions{})
		r.reads(10_000)
		for range 100 {
			time.Sleep(tornPatience)
			a.Keys([]byte("€\xe2\x82"))
			b.Keys([]byte("\x1b[A"))
			synctest.Wait()
			time.Sleep(time.Millisecond)
			a.Keys([]byte("\xac\x1b["))
			synctest.Wait()
			h.local.Keys([]byte("é"))
			synctest.Wait()
			a.Keys([]byte("B"))
			synctest.Wait()
		}
		got := r.read()
		if !utf8.ValidString(got) || strings.Count(got, "€€") != 100 || strings.Count(got, "\x1b[B") != 100 || strings.Count(got, "é") != 100 || strings.Count(got, "\x1b[A") != 100 {
			t.Errorf("keys are torn: %.100q", got)
		}
		// Who sends nothing but halves holds others up for no longer.
		other := newInputs()
		c := other.add(InputOptions{})
		other.local.Keys([]byte("local"))
		begin := time.Now()
		for buf := make([]byte, inputChunk); time.Since(begin) < time.Second; time.Sleep(time.Millisecond) {
			if other.torn == nil {
				other.torn, other.tornAt = c, time.Now()
			}
			c.Keys([]byte("x\x1b["))
			if _, in, _ := other.next(buf); in == other.local {
				break
			}
		}
		if took := time.Since(begin); took > tornPatience {
			t.Errorf("a key waited %v for halves of others", took)
		}
		// A key that looks like half of one holds others up for a moment only.
		a.Keys([]byte("\x1b"))
		synctest.Wait()
		b.Keys([]byte("b"))
		time.Sleep(tornPatience)
		synctest.Wait()
		if got := r.read(); !strings.HasSuffix(got, "\x1bb") {
			t.Errorf("what came last is %q", got[len(got)-10:])
		}
	})
}

func TestInputPushesBack(t *testing.T) {
	withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
		r := h.sink.(*reader)
		ready := 0
		in := h.add(InputOptions{Ready: func() { ready++ }})
		other := h.add(InputOptions{})
		text := strings.Repeat("x", 3*guestInputLimit)
		n := in.Keys([]byte(text))
		synctest.Wait()
		for {
			more := in.Keys([]byte(text[n:]))
			if more == 0 {
				break
			}
			n += more
			synctest.Wait()
		}
		if n < guestInputLimit || n > guestInputLimit+inputChunk {
			t.Errorf("%d bytes were taken, want about %d", n, guestInputLimit)
		}
		if got := other.Keys([]byte("y")); got != 1 {
			t.Error("one guest's queue held up another's")
		}
		if ready != 0 {
			t.Error("Ready was called while there was no room")
		}
		r.reads(len(text))
		synctest.Wait()
		if ready != 1 {
			t.Errorf("Ready was called %d times, want once", ready)
		}
		in.Keys([]byte(text[n:]))
		synctest.Wait()
		if got := strings.Count(r.read(), "x"); got != n+guestInputLimit && got != len(text) {
			t.Errorf("program read %d bytes, want %d", got, len(text))
		}
		if strings.Count(r.read(), "y") != 1 {
			t.Error("the other guest's key was lost or doubled")
		}
	})
}

func TestInputInterrupt(t *testing.T) {
	t.Run("as a signal", func(t *testing.T) {
		withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
			r := h.sink.(*reader)
			in, other := h.add(InputOptions{}), h.add(InputOptions{})
			in.Keys([]byte(strings.Repeat("x", 5000)))
			synctest.Wait()
			other.Keys([]byte("other"))
			if n := in.Keys([]byte("yyy\x03y\x1az")); n != 7 {
				t.Errorf("%d bytes were taken, want 7", n)
			}
			synctest.Wait()
			if got := r.read(); got != "\x03\x1azother" && got != "\x03\x1aotherz" {
				t.Errorf("program read %q, want the signals, and what was typed after them and by others", got)
			}
			if r.flushed != 1 {
				t.Errorf("the terminal's own queue was flushed %d times, want once", r.flushed)
			}
		})
	})
	t.Run("of what the driver holds", func(t *testing.T) {
		withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
			r := h.sink.(*reader)
			in := h.add(InputOptions{})
			in.Keys([]byte("\x03"))
			r.reads(100)
			synctest.Wait()
			if r.flushed != 0 {
				t.Error("the terminal's own queue was flushed with nothing in it")
			}
			in.Keys([]byte("xxx"))
			synctest.Wait()
			in.Keys([]byte("\x03"))
			synctest.Wait()
			in.Keys([]byte("\x03"))
			synctest.Wait()
			if got, want := r.read(), "\x03xxx\x03\x03"; got != want {
				t.Errorf("program read %q, want %q", got, want)
			}
			if r.flushed != 1 {
				t.Errorf("the terminal's own queue was flushed %d times, want once", r.flushed)
			}
		})
	})
	t.Run("of somebody else's paste", func(t *testing.T) {
		withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
			r := h.sink.(*reader)
			in := h.add(InputOptions{})
			in.Keys([]byte(strings.Repeat("x", 2000)))
			synctest.Wait()
			h.local.Keys([]byte("\x03"))
			synctest.Wait()
			r.reads(2000)
			synctest.Wait()
			got := r.read()
			if !strings.HasPrefix(got, "\x03") || strings.Count(got, "x") != 2000 {
				t.Errorf("program read %.20q… with %d x, want an interrupt and 2000", got, strings.Count(got, "x"))
			}
		})
	})
	t.Run("in the middle of somebody else's bracketed paste", func(t *testing.T) {
		for _, paste := range []string{
			"\x1b[200~" + strings.Repeat("rm -r x\r", 1000) + "\x1b[201~after",
			strings.Repeat("x", 1500) + "\x1b[200~" + strings.Repeat("rm -r x\r", 100) + "\x1b[201~after",
		} {
			for _, room := range []int{0, 1, 3, 6, 100, 1530, 2000} {
				for _, rest := range []int{0, 1, 6, 10, 500} { // that arrives later
					withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
						r := h.sink.(*reader)
						in := h.add(InputOptions{})
						r.reads(room)
						in.Keys([]byte(paste[:len(paste)-rest]))
						synctest.Wait()
						h.local.Keys([]byte("\x03"))
						synctest.Wait()
						in.Keys([]byte(paste[len(paste)-rest:]))
						r.reads(len(paste))
						synctest.Wait()
						before, after, _ := strings.Cut(r.read(), "\x03")
						begun := strings.Contains(before, "\x1b[200~")
						switch {
						case strings.Contains(after, "rm") && (begun || !strings.Contains(after, "\x1b[200~rm")):
							t.Errorf("with room for %d, and %d to come, after the interrupt came %.40q…", room, rest, after)
						case !strings.HasSuffix(after, "after"):
							t.Errorf("with room for %d, and %d to come, the end is lost: %.40q…", room, rest, after)
						}
					})
				}
			}
		}
	})
	t.Run("taken literally", func(t *testing.T) {
		withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
			r := h.sink.(*reader)
			in := h.add(InputOptions{})
			r.reads(1000)
			in.Keys([]byte("abc\x16\x03def\x16"))
			synctest.Wait()
			in.Keys([]byte("\x1c"))
			in.Keys([]byte("gh\x16\x16"))
			synctest.Wait()
			if r.flushed != 0 {
				t.Error("a key that is no signal flushed the terminal's queue")
			}
			in.Keys([]byte("i\x03"))
			synctest.Wait()
			if got, want := r.read(), "abc\x16\x03def\x16\x1cgh\x16\x16\x03"; got != want {
				t.Errorf("program read %q, want %q", got, want)
			}
		})
	})
	t.Run("as a character", func(t *testing.T) {
		withInputs(t, newReader(false), func(t *testing.T, h *inputs) {
			r := h.sink.(*reader)
			in := h.add(InputOptions{})
			in.Keys([]byte("xxx"))
			synctest.Wait()
			in.Keys([]byte("yyy\x03z"))
			r.reads(100)
			synctest.Wait()
			if got, want := r.read(), "xxxyyy\x03z"; got != want {
				t.Errorf("program read %q, want %q", got, want)
			}
		})
	})
	t.Run("from a guest's side", func(t *testing.T) {
		withInputs(t, newReader(false), func(t *testing.T, h *inputs) {
			r := h.sink.(*reader)
			in := h.add(InputOptions{})
			in.Keys([]byte("\x1b[200~xxx"))
			synctest.Wait()
			in.Keys([]byte("yyy"))
			in.Interrupt([]byte("\x03")) // is none any more
			r.reads(100)
			synctest.Wait()
			if got, want := r.read(), "\x1b[200~xxxyyy\x1b[201~\x03"; got != want {
				t.Errorf("program read %q, want %q", got, want)
			}
		})
	})
}

// TestInputEndsPaste has the rest of a paste not come, or be refused.
func TestInputEndsPaste(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(in *Input)
		want string
	}{
		"closed":  {func(in *Input) { in.Close(); in.Keys([]byte("no")) }, "\x1b[200~abc\x1b[201~"},
		"dropped": {func(in *Input) { in.Dropped(); in.Keys([]byte("yes")) }, "\x1b[200~abc\x1b[201~yes"},
	} {
		for _, room := range []int{0, 4, 8, 100} {
			withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
				r := h.sink.(*reader)
				in := h.add(InputOptions{})
				r.reads(room)
				in.Keys([]byte("\x1b[200~abc"))
				synctest.Wait()
				tt.end(in)
				r.reads(100)
				synctest.Wait()
				if got := r.read(); got != tt.want {
					t.Errorf("%s, with room for %d: program read %q, want %q", name, room, got, tt.want)
				}
				if in.Close(); len(h.guests) != 0 {
					t.Errorf("%s: a closed input was kept", name)
				}
			})
		}
	}
}

// TestInputCut types after a paste whose beginning an interrupt took away.
func TestInputCut(t *testing.T) {
	for name, tt := range map[string]struct {
		then func(in *Input)
		want string
	}{
		"the end":          {func(in *Input) { in.Keys([]byte("rm\r\x1b[201~ls\r")) }, "ls\r"},
		"nothing for long": {func(in *Input) { time.Sleep(cutPatience + 1); in.Keys([]byte("ls\r")) }, "ls\r"},
		"an interrupt":     {func(in *Input) { in.Keys([]byte("rm\r")); in.Keys([]byte("\x03")); in.Keys([]byte("ls\r")) }, "\x03ls\r"},
		"another role":     {func(in *Input) { in.Dropped(); in.Keys([]byte("ls\r")) }, "ls\r"},
	} {
		withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
			r := h.sink.(*reader)
			in := h.add(InputOptions{})
			r.reads(1000)
			in.Keys([]byte("\x1b[200~"))
			synctest.Wait()
			h.local.Keys([]byte("\x03"))
			synctest.Wait()
			tt.then(in)
			synctest.Wait()
			if got, want := r.read(), "\x1b[200~\x03"+tt.want; got != want {
				t.Errorf("%s: program read %q, want %q", name, got, want)
			}
		})
	}
}

// TestInputBounds types interrupts that are none, and types at a queue that is more than full.
func TestInputBounds(t *testing.T) {
	withInputs(t, newReader(false), func(t *testing.T, h *inputs) {
		in := h.add(InputOptions{})
		in.Keys([]byte("x"))
		synctest.Wait()
		for range 1000 {
			in.Interrupt([]byte(strings.Repeat("\x03", 500)))
		}
		if len(in.queue) > guestInputLimit+interruptRoom {
			t.Errorf("%d bytes wait", len(in.queue))
		}
		in.Keys([]byte("x"))
	})
	withInputs(t, newReader(true), func(t *testing.T, h *inputs) {
		for range 1000 {
			in := h.add(InputOptions{})
			in.Keys([]byte(strings.Repeat("x", guestInputLimit)))
			in.Close()
		}
		if len(h.guests) > maxClosed {
			t.Errorf("%d guests who have left wait", len(h.guests))
		}
	})
	// A write that was stopped gives back what it did not get to.
	h := newInputs()
	in := h.add(InputOptions{})
	in.queue = make([]byte, guestInputLimit+inputChunk)
	if n := in.Keys([]byte("x")); n != 0 {
		t.Errorf("%d bytes more were taken", n)
	}
}

func TestWholeKeys(t *testing.T) {
	for in, want := range map[string]string{
		"abc":              "abc",
		"abc\x1b[20":       "abc",
		"abc\x1b[A":        "abc\x1b[A",
		"abc\x1bO":         "abc",
		"abc\x1bOA":        "abc\x1bOA",
		"abc\x1b[M !":      "abc",
		"abc\x1b[M !!":     "abc\x1b[M !!",
		"abc\x1bx":         "abc\x1bx",
		"abc\x1b":          "abc",
		"abc\x1b[201~defg": "abc\x1b[201~defg",
		"abé":              "abé",
		"ab\xc3":           "ab",
		"ab\xf0\x9f\x98":   "ab",
		"\x1b[200~":        "\x1b[200~",
		"\xff\xff\xff\xff": "\xff\xff\xff\xff",
	} {
		if got := in[:wholeKeys([]byte(in))]; got != want {
			t.Errorf("of %q, %q goes first, want %q", in, got, want)
		}
	}
}
