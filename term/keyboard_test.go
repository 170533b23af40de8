package term

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// typist records what a Keyboard makes of what is typed.
type typist struct {
	mu      sync.Mutex
	events  []string // "keys …", "leader", "command …", "done", neighbouring keys joined
	results map[Key]CommandResult
}

func (h *typist) add(event string) {
	const keys = "keys "
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.events); n > 0 && strings.HasPrefix(event, keys) && strings.HasPrefix(h.events[n-1], keys) {
		h.events[n-1] += event[len(keys):]
		return
	}
	h.events = append(h.events, event)
}

func (h *typist) seen() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

func (h *typist) Keys(p []byte) { h.add("keys " + string(p)) }
func (h *typist) Leader()       { h.add("leader") }
func (h *typist) Done()         { h.add("done") }

func (h *typist) Command(key Key) CommandResult {
	h.add(fmt.Sprintf("command %d", key))
	return h.results[key]
}

var testCommands = map[Key]CommandResult{
	'd': CommandDone, '?': CommandDone, KeyEscape: CommandDone,
	KeyUp: CommandAgain, KeyDown: CommandAgain, KeyLeft: CommandAgain, KeyRight: CommandAgain,
}

// shiftedMouse maps the mouse as if the terminal showed the shared screen from
// column 11, row 6 on, and only 20 by 10 cells of it.
type shiftedMouse struct{ utf8 bool }

func (m shiftedMouse) MapMouse(col, row int) (int, int, bool) {
	return col + 10, row + 5, col >= 1 && row >= 1 && col <= 20 && row <= 10
}
func (m shiftedMouse) MouseUTF8() bool { return m.utf8 }

func TestKeyboard(t *testing.T) {
	cmd := func(k Key) string { return fmt.Sprintf("command %d", k) }
	guest := KeyboardOptions{Leader: DefaultLeader, DropAnswers: true, Mouse: shiftedMouse{}}
	host := KeyboardOptions{Leader: DefaultLeader}
	for _, tt := range []struct {
		name string
		opts KeyboardOptions
		in   string
		want []string
	}{
		{"text", host, "héllo\r", []string{"keys héllo\r"}},
		{"no leader", KeyboardOptions{}, "a\x1dd", []string{"keys a\x1dd"}},
		{"detach", host, "a\x1ddb", []string{"keys a", "leader", cmd('d'), "done", "keys b"}},
		{"twice", host, "\x1d\x1dx", []string{"leader", "done", "keys \x1dx"}},
		{"unknown", host, "\x1dzy", []string{"leader", cmd('z'), "done", "keys \x1dzy"}},
		{"unknown rune", host, "\x1déy", []string{"leader", cmd('é'), "done", "keys \x1déy"}},
		{"unknown sequence", host, "\x1d\x1b[15~y", []string{"leader", "done", "keys \x1d\x1b[15~y"}},
		{"arrow", host, "\x1d\x1b[Ax", []string{"leader", cmd(KeyUp), cmd('x'), "done", "keys x"}},
		{"arrows", host, "\x1d\x1bOA\x1b[1;1B\x1b[C\x1b[Ddd", []string{"leader", cmd(KeyUp), cmd(KeyDown),
			cmd(KeyRight), cmd(KeyLeft), cmd('d'), "done", "keys d"}},
		{"leader after arrow", host, "\x1d\x1b[A\x1dd", []string{"leader", cmd(KeyUp), cmd(0x1d), "done",
			"leader", cmd('d'), "done"}},
		{"paste", host, "\x1b[200~a\x1ddb\x1b[201~\x1dd",
			[]string{"keys \x1b[200~a\x1ddb\x1b[201~", "leader", cmd('d'), "done"}},
		{"paste after leader", host, "\x1d\x1b[200~d\x1b[201~", []string{"leader", "done", "keys \x1d\x1b[200~d\x1b[201~"}},
		{"kitty", host, "\x1b[93;5ud", []string{"leader", cmd('d'), "done"}},
		{"kitty with locks", host, "\x1b[93;197ud", []string{"leader", cmd('d'), "done"}},
		{"kitty twice", host, "\x1b[93;5u\x1b[93;5u", []string{"leader", "done", "keys \x1b[93;5u"}},
		{"kitty with releases", host, "\x1b[57442;5u\x1b[93;5:1u\x1b[93;5:3u\x1b[57442;1:3u\x1b[100;1:1u\x1b[100;1:3ux",
			[]string{"keys \x1b[57442;5u", "leader", "keys \x1b[57442;1:3u", cmd('d'), "done", "keys x"}},
		{"kitty arrow", host, "\x1b[93;5u\x1b[1;1:1A\x1b[1;1:3A\x1b[100u",
			[]string{"leader", cmd(KeyUp), "keys \x1b[1;1:3A", cmd('d'), "done"}},
		{"kitty other key", host, "\x1b[93;6u\x1b[93u", []string{"keys \x1b[93;6u\x1b[93u"}},
		{"kitty shifted command", host, "\x1d\x1b[100:68;2u", []string{"leader", cmd('D'), "done", "keys \x1d\x1b[100:68;2u"}},
		{"modifyOtherKeys", host, "\x1b[27;5;93~d", []string{"leader", cmd('d'), "done"}},
		{"german keyboard", host, "\x1b[53;5ud", []string{"leader", cmd('d'), "done"}},
		{"other leader", KeyboardOptions{Leader: 1}, "\x1d\x01d", []string{"keys \x1d", "leader", cmd('d'), "done"}},
		{"other leader, kitty", KeyboardOptions{Leader: 1}, "\x1b[97;5ud", []string{"leader", cmd('d'), "done"}},
		{"mouse while a command is awaited", host, "\x1d\x1b[<0;1;1Md", []string{"leader", "keys \x1b[<0;1;1M", cmd('d'), "done"}},
		{"answer while a command is awaited", host, "\x1d\x1b]11;rgb\x07d",
			[]string{"leader", "keys \x1b]11;rgb\x07", cmd('d'), "done"}},

		{"host answers", host, "\x1b[?62;4c\x1b[5;7R\x1b]11;rgb:00/00/00\x1b\\\x1bP>|kitty\x1b\\\x1b]52;c;aGk=\x07x",
			[]string{"keys \x1b[?62;4c\x1b[5;7R\x1b]11;rgb:00/00/00\x1b\\\x1bP>|kitty\x1b\\\x1b]52;c;aGk=\x07x"}},
		{"leader inside an answer", host, "\x1b]11;\x1dd\x07", []string{"keys \x1b]11;\x1dd\x07"}},

		{"guest answers", guest, "a\x1b[?62;4c\x1b[>1;2;3c\x1b[5;7R\x1b[?5;7R\x1b[0n\x1b[?997;1n\x1b[8;24;80t" +
			"\x1b[?2026;2$y\x1b[?1u\x1b[>4;2m\x1b[?1;0;256S\x1b]11;rgb:00/00/00\x1b\\\x1bP>|kitty\x1b\\" +
			"\x1bP1$r0m\x1b\\\x1b]52;c;aGk=\x07\x1b_Gi=1;OK\x1b\\\x1b[48;24;80;0;0tb", []string{"keys ab"}},
		{"guest keys that look like answers", guest, "\x1b[1;2R\x1b[R\x1b[1;5S\x1b[13;2~\x1b[3$\x1b[I\x1b[O",
			[]string{"keys \x1b[1;2R\x1b[R\x1b[1;5S\x1b[13;2~\x1b[3$\x1b[I\x1b[O"}},
		{"alt keys", guest, "\x1b]x\x1bPy\x1b_z\x1b^a\x1bXb\x1bé", []string{"keys \x1b]x\x1bPy\x1b_z\x1b^a\x1bXb\x1bé"}},
		{"answer cut off", guest, "\x1b]11;rgb\x18a\x1b]11;r\x1b[Ab", []string{"keys a\x1b[Ab"}},
		{"mouse", guest, "\x1b[<0;3;4M\x1b[<0;3;4m\x1b[<0;21;1M\x1b[32;1;1M\x1b[M !!\x1b[M ~!",
			[]string{"keys \x1b[<0;13;9M\x1b[<0;13;9m\x1b[32;11;6M\x1b[M +&"}},
		{"UTF-8 mouse", KeyboardOptions{Mouse: shiftedMouse{utf8: true}}, "\x1b[M !!\x1b[M à!x",
			[]string{"keys \x1b[M +&x"}},
		{"mouse of the host", host, "\x1b[<0;300;4M\x1b[M !\xf0", []string{"keys \x1b[<0;300;4M\x1b[M !\xf0"}},
		{"console", host, "\x1b[[Ax", []string{"keys \x1b[[Ax"}},
		{"escape escape", host, "\x1b\x1b[A", []string{"keys \x1b\x1b[A"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for at := 0; at <= len(tt.in); at++ {
				h := &typist{results: testCommands}
				k := NewKeyboard(h, tt.opts)
				k.Feed([]byte(tt.in[:at]))
				k.Feed([]byte(tt.in[at:]))
				if !slices.Equal(h.events, tt.want) {
					t.Fatalf("split at %d:\n%q, want\n%q", at, h.events, tt.want)
				}
				if k.Patience() != 0 {
					t.Errorf("split at %d: more is awaited", at)
				}
			}
			h := &typist{results: testCommands}
			k := NewKeyboard(h, tt.opts)
			for i := range len(tt.in) {
				k.Feed([]byte{tt.in[i]})
			}
			if !slices.Equal(h.events, tt.want) {
				t.Errorf("byte by byte:\n%q, want\n%q", h.events, tt.want)
			}
		})
	}
}

func TestKeyboardFlush(t *testing.T) {
	guest := KeyboardOptions{Leader: DefaultLeader, DropAnswers: true}
	for _, tt := range []struct {
		name string
		in   string
		want []string
	}{
		{"escape", "a\x1b", []string{"keys a\x1b"}},
		{"alt and bracket", "\x1b[", []string{"keys \x1b["}},
		{"alt and O", "\x1bO", []string{"keys \x1bO"}},
		{"alt and the beginning of a string", "\x1b]", []string{"keys \x1b]"}},
		{"half a report", "\x1b[<0;1", []string{"keys \x1b[<0;1"}},
		{"escape as a command", "\x1d\x1b", []string{"leader", "command 27", "done"}},
		{"half the end of a paste", "\x1b[200~x\x1b[20", []string{"keys \x1b[200~x\x1b[20"}},
		{"half an answer", "\x1b]52;c;aaaaaa", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &typist{results: testCommands}
			k := NewKeyboard(h, guest)
			k.Feed([]byte(tt.in))
			if k.Patience() == 0 {
				t.Error("nothing is awaited")
			}
			k.Flush()
			if !slices.Equal(h.events, tt.want) {
				t.Errorf("%q, want %q", h.events, tt.want)
			}
			if k.Patience() != 0 {
				t.Error("more is awaited after Flush")
			}
			before := len(h.events)
			k.Flush()
			if len(h.events) != before {
				t.Error("a second Flush did something")
			}
		})
	}
}

// scriptedInput gives out reads at their times.
type scriptedInput struct {
	reads    chan string
	deadline chan struct{} // closed and replaced
	until    time.Time
}

func (s *scriptedInput) Read(p []byte) (int, error) {
	for {
		var expired <-chan time.Time
		if !s.until.IsZero() {
			expired = time.After(time.Until(s.until))
		}
		select {
		case text := <-s.reads:
			return copy(p, text), nil
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		case <-s.deadline:
		}
	}
}

func (s *scriptedInput) SetReadDeadline(t time.Time) error {
	s.until = t
	if t.Before(time.Now()) && !t.IsZero() {
		select {
		case s.deadline <- struct{}{}:
		default:
		}
	}
	return nil
}

// TestKeyboardRun looks at the times: Escape must not wait for long, the rest
// of a sequence may come a little later, and a slow answer is no key.
func TestKeyboardRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &typist{results: testCommands}
		k := NewKeyboard(h, KeyboardOptions{DropAnswers: true})
		in := &scriptedInput{reads: make(chan string), deadline: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- k.Run(ctx, in) }()
		in.reads <- "\x1b"
		time.Sleep(sequencePatience / 2)
		in.reads <- "[A"
		in.reads <- "\x1b"
		synctest.Wait()
		if want := []string{"keys \x1b[A"}; !slices.Equal(h.seen(), want) {
			t.Errorf("%q, want %q", h.seen(), want)
		}
		time.Sleep(sequencePatience + time.Millisecond)
		synctest.Wait()
		if want := []string{"keys \x1b[A\x1b"}; !slices.Equal(h.seen(), want) {
			t.Errorf("%q, want %q", h.seen(), want)
		}
		in.reads <- "\x1b]52;c;abc"
		time.Sleep(answerPatience / 2)
		in.reads <- "def\x07x"
		synctest.Wait()
		if want := []string{"keys \x1b[A\x1bx"}; !slices.Equal(h.seen(), want) {
			t.Errorf("%q, want %q", h.seen(), want)
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestParseLeader(t *testing.T) {
	for in, want := range map[string]Leader{
		"^]": 0x1d, "ctrl-]": 0x1d, "C-]": 0x1d, "Ctrl+]": 0x1d, "^A": 1, "ctrl-a": 1, "^\\": 0x1c,
		"^_": 0x1f, "none": 0, "NONE": 0,
	} {
		got, err := ParseLeader(in)
		if err != nil || got != want {
			t.Errorf("ParseLeader(%q) = %v, %v; want %v", in, got, err, want)
		}
		if again, err := ParseLeader(got.String()); err != nil || again != got {
			t.Errorf("ParseLeader(%q) = %v, %v; want %v", got, again, err, got)
		}
	}
	for _, in := range []string{"", "a", "^", "^m", "^[", "^i", "^j", "ctrl-", "ctrl-ab", "^1", "alt-x", "^é"} {
		if got, err := ParseLeader(in); err == nil {
			t.Errorf("ParseLeader(%q) = %v", in, got)
		}
	}
	if got := DefaultLeader.Text(); got != "Ctrl-]" {
		t.Errorf("the default leader is shown as %q", got)
	}
}

// FuzzKeyboard types anything, in pieces, with and without commands: without,
// every byte arrives as it was; with, it does not matter where the pieces end.
func FuzzKeyboard(f *testing.F) {
	f.Add([]byte("a\x1dd\x1b[93;5u\x1b[<0;3;4M\x1b[200~x\x1b[201~\x1b]11;rgb\x1b\\\x1b[M !!"), uint8(7))
	f.Add([]byte("\x1d\x1b[A\x1b[B\x1bOC\x1b_Gi=1\x1b\\\x1b\x1b[\x1b"), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, at uint8) {
		i := min(int(at), len(p))
		plain := &typist{}
		k := NewKeyboard(plain, KeyboardOptions{})
		k.Feed(p[:i])
		k.Feed(p[i:])
		k.Flush()
		if got := strings.Join(plain.events, ""); len(p) > 0 && got != "keys "+string(p) {
			t.Fatalf("%q came out as %q", p, got)
		}
		for _, o := range []KeyboardOptions{
			{Leader: DefaultLeader},
			{Leader: DefaultLeader, DropAnswers: true, Mouse: shiftedMouse{}},
			{Leader: DefaultLeader, DropAnswers: true, Mouse: shiftedMouse{utf8: true}},
		} {
			whole, split := &typist{results: testCommands}, &typist{results: testCommands}
			k := NewKeyboard(whole, o)
			k.Feed(p)
			k.Flush()
			k = NewKeyboard(split, o)
			k.Feed(p[:i])
			k.Feed(p[i:])
			k.Flush()
			if !slices.Equal(whole.events, split.events) {
				t.Fatalf("%q: whole\n%q, split at %d\n%q", p, whole.events, i, split.events)
			}
		}
	})
}

func BenchmarkKeyboard(b *testing.B) {
	paste := []byte(strings.Repeat("some pasted text, in lines\r", 150))
	k := NewKeyboard(discard{}, KeyboardOptions{Leader: DefaultLeader, DropAnswers: true})
	b.SetBytes(int64(len(paste)))
	b.ReportAllocs()
	for b.Loop() {
		k.Feed(paste)
	}
}

type discard struct{}

func (discard) Keys([]byte)               {}
func (discard) Leader()                   {}
func (discard) Done()                     {}
func (discard) Command(Key) CommandResult { return CommandUnknown }
