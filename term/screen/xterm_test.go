package screen_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// xtermModules names a directory in which testdata/xterm/package.json was
// installed (npm ci or npm install --prefix DIR): the tests against xterm.js
// need it, and node. In CI: npm install --prefix DIR @xterm/headless@6.0.0
// @xterm/addon-unicode11@0.9.0.
const xtermModules = "PAIRTERM_XTERM_HEADLESS"

// An xterm is a process with xterm.js in it.
type xterm struct {
	t    *testing.T
	in   *json.Encoder
	out  *bufio.Scanner
	jobs int
}

type xtermState struct {
	checkpoint
	Rows    [][][4]string `json:"rows"`
	History []string      `json:"history"`
	Replies string        `json:"replies"`
}

func startXterm(t *testing.T) *xterm {
	dir := os.Getenv(xtermModules)
	if dir == "" {
		t.Skipf("%s is not set to a directory with @xterm/headless (npm install --prefix DIR with testdata/xterm/package.json)", xtermModules)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	script, err := filepath.Abs(filepath.Join("testdata", "xterm", "terminal.js"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, script)
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(dir, "node_modules"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x := &xterm{t: t, in: json.NewEncoder(in), out: bufio.NewScanner(out)}
	x.out.Buffer(nil, 64<<20)
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return x
}

// show writes to a fresh xterm.js.
func (x *xterm) show(cols, rows int, writes ...[]byte) xtermState {
	x.t.Helper()
	job := struct {
		Cols   int      `json:"cols"`
		Rows   int      `json:"rows"`
		Writes [][]byte `json:"writes"`
	}{cols, rows, writes}
	if err := x.in.Encode(job); err != nil {
		x.t.Fatal(err)
	}
	x.jobs++
	if !x.out.Scan() {
		x.t.Fatalf("xterm.js has ended: %v", x.out.Err())
	}
	var s xtermState
	if err := json.Unmarshal(x.out.Bytes(), &s); err != nil {
		x.t.Fatal(err)
	}
	return s
}

// difference describes how xterm.js shows something else than the snapshot.
func difference(s xtermState, n *screen.Snapshot) string {
	_, rows := n.Size()
	for y := range rows {
		for x, c := range s.Rows[y] {
			got := look{c[0], c[1], c[2], c[3]}
			want := cellLook(n, n.Cell(x, y))
			if got.text != want.text || !sameAttributes(want, got) {
				return fmt.Sprintf("at %d,%d: xterm.js shows %+v, not %+v", x, y, got, want)
			}
		}
	}
	cur := n.Cursor()
	if s.CY != cur.Y || s.CX != cur.X && !(cur.Pending && s.CX == cur.X+1) {
		return fmt.Sprintf("the cursor of xterm.js is at %d,%d, not %+v", s.CX, s.CY, cur)
	}
	if cur.Pending && s.CX != cur.X+1 {
		return "xterm.js has no wrap pending"
	}
	if *s.Alt != n.Alternate() {
		return "the other screen"
	}
	for _, m := range modeNames {
		if v, ok := s.Modes[m.xterm]; ok && modeIsSet(v) != n.Mode(m.mode) {
			return fmt.Sprintf("%s is %v in xterm.js", m.xterm, v)
		}
	}
	if v := s.Modes["mouseTrackingMode"]; v != mouseMode(n) {
		return fmt.Sprintf("mouse is %v in xterm.js, not %s", v, mouseMode(n))
	}
	return ""
}

// TestXtermReplay is TestReplay with xterm.js as the terminal that is redrawn.
func TestXtermReplay(t *testing.T) {
	x := startXterm(t)
	for _, r := range loadRecordings(t, filepath.Join("testdata", "conformance")) {
		offsets := replayOffsets(t, r)
		var states []*screen.Snapshot
		play(r, []int{len(r.raw)}, offsets, func(_ int, s *screen.Screen) {
			states = append(states, s.Snapshot())
		})
		for j, b := range states {
			// Where the model differs from xterm.js by choice, what xterm.js had
			// before does not count.
			full := screen.AppendDiff(nil, nil, b)
			s := x.show(r.Cols, r.Rows, full)
			if why := difference(s, b); why != "" {
				t.Errorf("%s: full redraw at %d: %s", r.Name, offsets[j], why)
			}
			if s.Replies != "" {
				t.Errorf("%s: xterm.js answers %q", r.Name, s.Replies)
			}
			for _, i := range []int{j / 3, j - 1, (j + 5) % len(states)} {
				if i < 0 {
					continue
				}
				start := screen.AppendDiff(nil, nil, states[i])
				diff := screen.AppendDiff(nil, states[i], b)
				s := x.show(r.Cols, r.Rows, start, diff)
				if why := difference(s, b); why != "" {
					t.Errorf("%s: from %d to %d: %s\n%q", r.Name, offsets[i], offsets[j], why, diff[:min(len(diff), 3000)])
				}
			}
		}
	}
	t.Logf("%d screens", x.jobs)
}

// TestXtermPass gives xterm.js what passes, and checks that it is asked nothing.
func TestXtermPass(t *testing.T) {
	x := startXterm(t)
	for _, r := range loadRecordings(t, filepath.Join("testdata", "conformance")) {
		m := screen.New(r.Cols, r.Rows, screen.Options{})
		passed := m.Pass(nil, r.raw)
		s := x.show(r.Cols, r.Rows, passed)
		if s.Replies != "" {
			t.Errorf("%s: xterm.js answers %q", r.Name, s.Replies)
		}
		if why := difference(s, m.Snapshot()); why != "" {
			t.Errorf("%s: %s", r.Name, why)
		}
	}
	for _, token := range tokens {
		out := strings.ReplaceAll(token, "%d", "1")
		m := screen.New(20, 6, screen.Options{})
		if s := x.show(20, 6, m.Pass(nil, []byte(out))); s.Replies != "" {
			t.Errorf("xterm.js answers %q to %q", s.Replies, out)
		}
	}
}

// TestXtermRandom redraws states that no program makes.
func TestXtermRandom(t *testing.T) {
	x := startXterm(t)
	for seed := range 400 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 2))
		data := make([]byte, 1+rnd.IntN(160))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		data[0] |= 1
		// xterm.js tells a hyperlink as an underline.
		out := bytes.ReplaceAll(script(data), []byte("\x1b]8;"), []byte("\x1b]9;"))
		m := screen.New(4+rnd.IntN(30), 2+rnd.IntN(9), screen.Options{})
		cols, rows := m.Size()
		m.Write(out[:len(out)/2])
		a := m.Snapshot()
		m.Write(out[len(out)/2:])
		b := m.Snapshot()
		if a.Mode(screen.ModeLeftRightMargin) || b.Mode(screen.ModeLeftRightMargin) {
			continue // unknown to xterm.js
		}
		if why := difference(x.show(cols, rows, screen.AppendDiff(nil, nil, a)), a); why != "" {
			t.Fatalf("full redraw: %s\n%q\n%q", why, out[:len(out)/2], screen.AppendDiff(nil, nil, a))
		}
		if why := difference(x.show(cols, rows, screen.AppendDiff(nil, nil, a), screen.AppendDiff(nil, a, b)), b); why != "" {
			t.Fatalf("diff: %s\n%q\n%q", why, out[:len(out)/2], screen.AppendDiff(nil, a, b))
		}
	}
}

// TestXtermScrollback gives xterm.js the scrollback of the model.
func TestXtermScrollback(t *testing.T) {
	x := startXterm(t)
	m := screen.New(20, 5, screen.Options{})
	for i := range 40 {
		fmt.Fprintf(m, "\x1b[4%dmline %d\x1b[0m %s\r\n", i%8, i, strings.Repeat("漢x", i%9))
	}
	snap := m.Snapshot()
	s := x.show(20, 5, []byte("before\r\nit"), screen.AppendDiff(snap.AppendScrollback(nil, 1000), nil, snap))
	if why := difference(s, snap); why != "" {
		t.Error(why)
	}
	want := x.show(20, 5, []byte("before\r\nit\r\n\n\n\n"), func() (out []byte) {
		for i := range 40 {
			out = fmt.Appendf(out, "line %d %s\r\n", i, strings.Repeat("漢x", i%9))
		}
		return out
	}())
	n := snap.ScrollbackLen()
	got, tail := s.History, want.History
	if len(got) < n || len(tail) < n {
		t.Fatalf("%d and %d rows of history for %d of scrollback", len(got), len(tail), n)
	}
	got, tail = got[len(got)-n:], tail[len(tail)-n:]
	for i := range got {
		if strings.TrimRight(got[i], " ") != strings.TrimRight(tail[i], " ") {
			t.Fatalf("row %d of the scrollback is %q, not %q", i, got[i], tail[i])
		}
	}
}
