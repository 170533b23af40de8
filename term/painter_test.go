package term

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

// fakeTerminal is a guest's terminal: a model of one.
type fakeTerminal struct {
	mu      sync.Mutex
	screen  *screen.Screen
	resized chan struct{}
}

func newFakeTerminal(size Size) *fakeTerminal {
	return &fakeTerminal{
		screen:  screen.New(size.Cols, size.Rows, screen.Options{}),
		resized: make(chan struct{}, 1),
	}
}

func (f *fakeTerminal) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.screen.Write(p)
}

func (f *fakeTerminal) snapshot() *screen.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.screen.Snapshot()
}

func (f *fakeTerminal) SetWriteDeadline(time.Time) error { return nil }
func (f *fakeTerminal) Size() (Size, error)              { return modelSize(f.screen), nil }
func (f *fakeTerminal) Resized() <-chan struct{}         { return f.resized }

// text returns the rows of the screen, without those that are empty at its
// end.
func text(snap *screen.Snapshot) string {
	var b []byte
	_, rows := snap.Size()
	for y := range rows {
		b = append(snap.AppendRow(b, y), '\n')
	}
	return strings.TrimRight(string(b), "\n")
}

// pairing is a shared screen, a Painter that follows it, and the terminal that
// it paints on, in a time of their own.
type pairing struct {
	t     *testing.T
	host  *source
	tty   *fakeTerminal
	p     *Painter
	now   time.Time
	pos   uint64             // what the guest has
	marks []*screen.Snapshot // states that the guest had
}

func newPairing(t *testing.T, shared, window Size) *pairing {
	tty := newFakeTerminal(window)
	return &pairing{
		t:    t,
		host: newSource(shared, screen.Options{}, false),
		tty:  tty,
		p:    newPainter(tty),
		now:  time.Unix(1, 0),
	}
}

// print puts out output on the shared terminal.
func (g *pairing) print(s string) {
	for len(s) > 0 {
		n := min(len(s), 1000)
		g.host.append([]byte(s[:n]))
		g.host.settle()
		s = s[n:]
	}
}

func (g *pairing) resizeHost(size Size) {
	g.host.resize(size)
	g.host.settle()
}

func (g *pairing) resizeGuest(size Size) {
	g.tty.screen.Resize(size.Cols, size.Rows)
	g.p.resize()
}

// log brings the guest up to date with bytes, as far as it can.
func (g *pairing) log(limit int) bool {
	p, ok := g.host.Since(nil, g.pos, limit)
	if !ok || g.marks == nil {
		return false
	}
	g.p.Log(g.pos, p)
	g.pos += uint64(len(p))
	g.marks = append(g.marks, g.p.Mark())
	return true
}

// frame brings it up to date with a frame from a state that it had, or from
// nothing.
func (g *pairing) frame(from *screen.Snapshot) {
	g.t.Helper()
	to, pos := g.host.Mark()
	got, err := g.p.Frame(from, 0, pos, g.host.AppendDiff(nil, from, to))
	if err != nil {
		g.t.Fatal(err)
	}
	if !got.Equal(to) {
		g.t.Fatal("the guest's model differs from the host's screen")
	}
	g.pos = pos
	g.marks = append(g.marks, got)
}

// show lets the Painter write until it has nothing left to write.
func (g *pairing) show() {
	g.t.Helper()
	var buf []byte
	var wait time.Duration
	for range 1000 {
		buf, wait = g.p.next(buf[:0], g.now)
		_, _ = g.tty.Write(buf)
		if len(buf) > 0 {
			continue
		}
		if wait == 0 || wait > time.Second/2 {
			return
		}
		g.now = g.now.Add(wait)
	}
	g.t.Fatal("the painter never comes to an end")
}

// neededModes are those that a guest's terminal must share with the host's.
var neededModes = []screen.Mode{
	screen.ModeCursorKeys, screen.ModeKeypad, screen.ModeMouseX10, screen.ModeMouseNormal,
	screen.ModeMouseButton, screen.ModeMouseAny, screen.ModeMouseSGR, screen.ModeMouseURXVT,
	screen.ModeMouseUTF8, screen.ModeFocus, screen.ModeBracketedPaste, screen.ModeReverseVideo,
}

// compare compares what the guest's terminal shows with the host's screen.
func (g *pairing) compare() error {
	want, _ := g.host.Mark()
	got := g.tty.snapshot()
	for _, m := range neededModes {
		if got.Mode(m) != want.Mode(m) {
			return fmt.Errorf("mode %d is %v on the terminal, %v on the host's", m, got.Mode(m), want.Mode(m))
		}
	}
	v := g.p.view
	part := v.part()
	for y := range part.Rows {
		for x := range part.Cols {
			sx, sy, _ := v.locate(x, y)
			gc, wc := got.Cell(x, y), want.Cell(sx, sy)
			same := string(got.AppendText(nil, gc)) == string(want.AppendText(nil, wc)) &&
				gc.Attr == wc.Attr && gc.Fg == wc.Fg && gc.Bg == wc.Bg
			if !same && !g.cut(want, x, y) {
				return fmt.Errorf("cell %d,%d shows %q (%+v), the host's %d,%d %q (%+v)",
					x, y, got.AppendText(nil, gc), gc, sx, sy, want.AppendText(nil, wc), wc)
			}
		}
	}
	gc, wc := got.Cursor(), want.Cursor()
	x, y := wc.X-v.x, wc.Y-v.y
	inside := x >= 0 && y >= 0 && x < part.Cols && y < part.Rows
	if gc.Visible != (wc.Visible && inside) {
		return fmt.Errorf("the cursor's visibility is %v", gc.Visible)
	}
	if gc.Visible && (gc.X != x || gc.Y != y) {
		return fmt.Errorf("the cursor is at %d,%d, want %d,%d", gc.X, gc.Y, x, y)
	}
	if !v.exact() && !g.p.view.pinned && wc.Visible && !inside {
		return fmt.Errorf("the cursor is not in view")
	}
	return nil
}

// cut reports whether a cell of the view is half of a wide character whose
// other half is not in it.
func (g *pairing) cut(want *screen.Snapshot, x, y int) bool {
	v := g.p.view
	sx, sy, _ := v.locate(x, y)
	switch want.Cell(sx, sy).Width() {
	case 2:
		return x == v.part().Cols-1
	case 0:
		return x == 0
	}
	return false
}

func (g *pairing) mustShow(what string) {
	g.t.Helper()
	g.show()
	if err := g.compare(); err != nil {
		g.t.Fatalf("%s: %v\nterminal\n%s\nhost\n%s", what, err, text(g.tty.snapshot()), text(g.host.settle().Snapshot))
	}
}

const someProgram = "\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002;1006h\x1b[?1004h\x1b]0;a title\x07" +
	"\x1b[2J\x1b[1;1H\x1b[7m one \x1b[m\x1b[5;3Hfive 日本 \x1b[31mred\x1b[m\x1b[24;80Hx\x1b[12;40H"

func TestPainterSizes(t *testing.T) {
	shared := DefaultSize
	for _, window := range []Size{shared, {100, 30}, {80, 30}, {100, 24}, {40, 10}, {40, 24}, {80, 10}, {100, 10}, {40, 30}, {5, 2}, {2, 1}, {10, 4}} {
		t.Run(window.String(), func(t *testing.T) {
			g := newPairing(t, shared, window)
			g.print("$ ls\r\nfile\r\n$ ")
			g.frame(nil)
			g.mustShow("at the beginning")
			g.print("vim\r\n" + someProgram)
			g.log(1 << 20)
			g.mustShow("after output")
			g.frame(g.marks[0])
			g.mustShow("after a frame from an old state")
			g.resizeGuest(Size{window.Cols + 3, window.Rows + 2})
			g.mustShow("after the window changed")
			g.resizeHost(window)
			if g.log(1 << 20) {
				t.Fatal("bytes were told across a change of size")
			}
			g.frame(g.marks[len(g.marks)-1])
			g.mustShow("after the host's size changed")
			g.resizeGuest(window)
			g.mustShow("with equal sizes again")
			g.print("\x1b[?1049l\x1b[?1l\x1b>\x1b[?2004l\x1b[?1002l\x1b[?1004l$ ")
			g.log(1 << 20)
			g.mustShow("after the program")
		})
	}
}

func TestPainterEdge(t *testing.T) {
	g := newPairing(t, Size{10, 3}, Size{14, 6})
	g.print("\x1b[41mhost's 日本\x1b[m")
	g.frame(nil)
	g.mustShow("larger window")
	want := "host's 日 │\n本        │\n          │\n──────────┘"
	if got := text(g.tty.snapshot()); got != want {
		t.Errorf("terminal shows\n%s\nwant\n%s", got, want)
	}
}

func TestPainterViewport(t *testing.T) {
	g := newPairing(t, Size{40, 20}, Size{20, 9})
	for y := range 20 {
		g.print(fmt.Sprintf("\x1b[%d;1H", y+1) + strings.Repeat(fmt.Sprintf("%02d--", y), 10))
	}
	g.print("\x1b[1;1H")
	g.frame(nil)
	g.mustShow("at home")
	last := func() string {
		rows := strings.Split(text(g.tty.snapshot()), "\n")
		return rows[len(rows)-1]
	}
	if got, want := last(), " columns 1–20 of 40"; got != want {
		t.Errorf("the last row says %q, want %q", got, want)
	}
	g.print("\x1b[20;40H")
	g.log(1000)
	g.mustShow("in the corner")
	if x, y, ok := g.p.MapMouse(3, 4); x != 23 || y != 16 || !ok {
		t.Errorf("the mouse at 3,4 is at %d,%d, %v; want 23,16", x, y, ok)
	}
	if _, _, ok := g.p.MapMouse(3, 9); ok {
		t.Error("the mouse on the last row is on the shared screen")
	}
	if !g.p.MoveView(-1, -2) {
		t.Error("the view cannot be moved")
	}
	g.print("\x1b[20;39H")
	g.log(1000)
	g.mustShow("moved away")
	if got := g.p.view; got.x != 10 || got.y != 4 {
		t.Errorf("the view is at %d,%d, want 10,4", got.x, got.y)
	}
	g.p.FollowCursor()
	g.mustShow("following again")
	if got := g.p.view; got.x != 20 || got.y != 12 {
		t.Errorf("the view is at %d,%d, want 20,12", got.x, got.y)
	}
	// Output elsewhere with the cursor hidden does not make the view jump.
	g.print("\x1b[?25l\x1b[1;1Hx")
	g.log(1000)
	g.show()
	if got := g.p.view; got.x != 20 || got.y != 12 {
		t.Errorf("the view went to %d,%d for a hidden cursor", got.x, got.y)
	}
}

func TestPainterNotice(t *testing.T) {
	for _, window := range []Size{{40, 8}, {50, 10}, {20, 6}} {
		g := newPairing(t, Size{40, 8}, window)
		g.print("one\r\ntwo\r\nthree")
		g.frame(nil)
		g.mustShow("before")
		g.p.Notice("alice\x1b[2J joined\u202e\n")
		g.show()
		first, _, _ := strings.Cut(text(g.tty.snapshot()), "\n")
		if want := " alice[2J joined"; !strings.HasSuffix(first, want) {
			t.Errorf("%v: the first row is %q, want %q at its end", window, first, want)
		}
		g.print("\r\nfour")
		g.log(1000)
		g.show()
		if !strings.Contains(text(g.tty.snapshot()), "alice") {
			t.Errorf("%v: output took the notice away", window)
		}
		g.print("\x1b[A\x1b[2K\r\x1b[Athree\x1b[K\r\n\x1b[2K\x1b[A\x1b[5C")
		g.log(1000)
		g.now = g.now.Add(noticeTime)
		g.mustShow("after the notice")
		g.frame(g.marks[0])
		g.mustShow("at the end")
		if window == (Size{40, 8}) && g.p.live == false {
			t.Error("output is not passed on after the notice")
		}
	}
}

func TestPainterBell(t *testing.T) {
	for _, window := range []Size{{40, 8}, {50, 10}} {
		g := newPairing(t, Size{40, 8}, window)
		g.print("\aone")
		g.frame(nil)
		g.mustShow("before")
		g.print("\a")
		g.log(1000)
		g.mustShow("with a bell")
		if got := g.tty.snapshot().Bells(); got != 1 {
			t.Errorf("%v: the terminal rang %d times, want once", window, got)
		}
	}
}

func TestNoticeWidth(t *testing.T) {
	snap := screen.New(10, 2, screen.Options{}).Snapshot()
	for notice, want := range map[string]string{
		"abc": "      abc", "abcdefgh": " abcdefgh", "abcdefghi": " abcdefgh…", "日本日本": " 日本日本", "日本日本日": " 日本日本…",
	} {
		got := compose(snap, view{window: Size{10, 2}, shared: Size{10, 2}}, notice)
		if row := string(got.AppendRow(nil, 1)); row != want {
			t.Errorf("%q is shown as %q, want %q", notice, row, want)
		}
	}
}

// TestPainterSlowTerminal has a terminal that takes nothing for a while.
func TestPainterSlowTerminal(t *testing.T) {
	g := newPairing(t, DefaultSize, DefaultSize)
	g.print("start\r\n")
	g.frame(nil)
	g.mustShow("before")
	for i := range 20000 {
		g.print(fmt.Sprintf("line %d of a flood of output\r\n", i))
		if !g.log(1 << 20) {
			t.Fatal("bytes are gone")
		}
		g.marks = g.marks[:1]
		if n := cap(g.p.unwritten); n > 4*maxUnwritten {
			t.Fatalf("%d bytes wait for the terminal", n)
		}
	}
	g.mustShow("after")
}

// TestPainterQueries looks whether a guest's terminal is asked anything.
func TestPainterQueries(t *testing.T) {
	asked := 0
	for _, window := range []Size{DefaultSize, {90, 30}, {70, 20}} {
		tty := &fakeTerminal{resized: make(chan struct{}, 1)}
		tty.screen = screen.New(window.Cols, window.Rows, screen.Options{Reply: func([]byte) { asked++ }})
		g := newPairing(t, DefaultSize, window)
		g.tty, g.p = tty, newPainter(tty)
		g.print("\x1b[6n")
		g.frame(nil)
		g.show()
		for _, query := range []string{"\x1b[c", "\x1b[>c", "\x1b[=c", "\x1b[5n", "\x1b[6n", "\x1b[?6n", "\x1b[>q",
			"\x1b[?u", "\x1b[?2026$p", "\x1b[18t", "\x1bP$qm\x1b\\", "\x1bP+q544e\x1b\\", "\x1b]10;?\x07", "\x1b]4;1;?\x1b\\", "\x05", "\x1bZ"} {
			for i := range len(query) {
				g.print(query[i : i+1])
				g.log(1)
				if i == len(query)/2 {
					g.frame(g.marks[len(g.marks)-1])
				}
				g.show()
			}
			g.print("x")
			g.log(1)
			g.mustShow(fmt.Sprintf("after %q", query))
		}
	}
	if asked > 0 {
		t.Errorf("a guest's terminal was asked %d times", asked)
	}
}

func TestPainterLeave(t *testing.T) {
	for _, tt := range []struct {
		name   string
		window Size
		output string
		want   string
	}{
		{"shell", Size{40, 8}, "$ one\r\n$ two", "$ one\n$ two\n<"},
		{"cursor above text", Size{40, 8}, "one\r\ntwo\r\nthree\x1b[1;1H", "one\ntwo\nthree\n<"},
		{"full", Size{40, 8}, "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8", "2\n3\n4\n5\n6\n7\n8\n<"},
		{"full-screen program", Size{40, 8}, "$ one\x1b[?1049h\x1b[2Jvim", "$ one\n<"},
		{"larger window", Size{50, 10}, "$ one", "mine\n<"},
		{"margins", Size{40, 8}, "\x1b[2;4r\x1b[?6hone", "\none\n<"},
		{"in the middle of a sequence", Size{40, 8}, "$ one\x1b]0;tit", "$ one\n<"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newPairing(t, Size{40, 8}, tt.window)
			_, _ = g.tty.Write([]byte("mine\r\n"))
			g.print(tt.output)
			g.frame(nil)
			g.show()
			g.p.Notice("leaving")
			g.show()
			if err := g.p.leave(); err != nil {
				t.Fatal(err)
			}
			_, _ = g.tty.Write([]byte("<"))
			if got := text(g.tty.snapshot()); got != tt.want {
				t.Errorf("terminal shows\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// recordings returns the output of real programs that comes with the screen
// model.
func recordings(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("screen/testdata/conformance/*.raw")
	if err != nil || len(files) == 0 {
		t.Skip("no recordings")
	}
	all := make(map[string]string)
	for _, f := range files {
		p, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".raw")] = string(p)
	}
	return all
}

// TestPainterRecordings plays real programs to guests with all kinds of
// windows, by bytes and by frames, with changes of size at any moment.
func TestPainterRecordings(t *testing.T) {
	for name, output := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(4) {
				rng := rand.New(rand.NewPCG(seed, 7))
				play(t, rng, output[:min(len(output), 60000)])
			}
		})
	}
}

// play plays output to a guest, in random pieces, and compares now and then.
func play(t *testing.T, rng *rand.Rand, output string) {
	size := func() Size {
		if rng.IntN(2) == 0 {
			return DefaultSize
		}
		return Size{2 + rng.IntN(120), 1 + rng.IntN(50)}
	}
	g := newPairing(t, DefaultSize, size())
	for n := 0; len(output) > 0 && n < 60; n++ {
		piece := 1 + rng.IntN(1+rng.IntN(len(output)))
		g.print(output[:piece])
		output = output[piece:]
		for range rng.IntN(3) {
			switch rng.IntN(12) {
			case 0:
				g.resizeHost(size())
			case 1:
				g.resizeGuest(size())
			case 2:
				g.p.Notice("a notice")
			case 3:
				g.p.MoveView(rng.IntN(3)-1, rng.IntN(3)-1)
			case 4:
				g.p.FollowCursor()
			case 5:
				g.p.Repaint()
			case 6:
				g.show()
			case 7, 8:
				if g.marks != nil {
					g.frame(g.marks[rng.IntN(len(g.marks))])
				}
			default:
				g.log(rng.IntN(5000))
			}
		}
		if rng.IntN(3) == 0 {
			g.show()
		}
		if rng.IntN(10) == 0 {
			g.settle("in between")
		}
	}
	g.settle("at the end")
}

// settle brings the guest up to date and compares.
func (g *pairing) settle(when string) {
	g.t.Helper()
	for g.pos != g.host.Head() || g.marks == nil {
		if !g.log(1 << 20) {
			var from *screen.Snapshot
			if n := len(g.marks); n > 0 {
				from = g.marks[n-1]
			}
			g.frame(from)
		}
	}
	if len(g.marks) > 20 {
		g.marks = g.marks[len(g.marks)-20:]
	}
	for g.p.notices.pending() {
		g.now = g.now.Add(noticeTime)
		g.show()
	}
	g.mustShow(when)
}

func FuzzPainter(f *testing.F) {
	f.Add([]byte("hello\r\n"+someProgram+"\x1b[?2026hxx\x1b[5;5r\x1b[?6h日本\x1b[?1049l"), uint64(1))
	f.Add([]byte("\x1b[3;40H日本\x1b[2@\x1b(0lqqk\x1b(B\x1b[4hins\x1b[?7l\x1b[99C\x1b[1;44mbg\x1b[K\x1b]8;;x\x07l"), uint64(2))
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) {
		if len(p) > 0 {
			play(t, rand.New(rand.NewPCG(seed, 8)), string(p))
		}
	})
}

// FuzzFrame gives a Painter frames that no host made.
func FuzzFrame(f *testing.F) {
	s := screen.New(20, 5, screen.Options{})
	_, _ = s.Write([]byte("hello"))
	f.Add(appendFrame(nil, nil, s.Snapshot()))
	f.Add([]byte{frameVersion, 0, 10, 0, 10, 0, 0, 0, 0, 0, 0, 0, 7, 'x'})
	f.Fuzz(func(t *testing.T, p []byte) {
		size, _, output, err := parseFrame(p)
		if err != nil {
			return
		}
		if size != size.Clamp() || len(output) != len(p)-frameHeader {
			t.Fatalf("frame of size %v with %d bytes", size, len(output))
		}
		tty := newFakeTerminal(DefaultSize)
		painter := newPainter(tty)
		state, err := painter.Frame(nil, 0, 1, p)
		if err != nil {
			t.Fatal(err)
		}
		if cols, rows := state.Size(); (Size{cols, rows}) != size {
			t.Fatalf("state is %dx%d, want %v", cols, rows, size)
		}
		if _, err := painter.Frame(state, 1, 2, p); err != nil {
			t.Fatal(err)
		}
		_, _ = painter.next(nil, time.Unix(1, 0))
	})
}
