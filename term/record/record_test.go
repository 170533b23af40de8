package record_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/term/record"
	"github.com/pairterm/pairterm/term/screen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is a terminal that a test writes to.
type program struct {
	mu     sync.Mutex
	log    []byte
	floor  uint64
	keep   int // bytes that are held
	screen *screen.Screen
	notify chan<- struct{}
}

func newProgram() *program {
	return &program{keep: 1 << 20, screen: screen.New(80, 24, screen.Options{})}
}

func (p *program) print(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, s...)
	_, _ = p.screen.Write([]byte(s))
	p.tell()
}

func (p *program) resize(cols, rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, 0)
	p.floor = uint64(len(p.log))
	p.screen.Resize(cols, rows)
	p.tell()
}

func (p *program) tell() {
	if p.notify != nil {
		select {
		case p.notify <- struct{}{}:
		default:
		}
	}
}

func (p *program) Head() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint64(len(p.log))
}

func (p *program) Mark() (*screen.Snapshot, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.screen.Snapshot(), uint64(len(p.log))
}

func (p *program) Since(dst []byte, pos uint64, limit int) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pos < p.floor || int(pos) < len(p.log)-p.keep || int(pos) > len(p.log) {
		return dst, false
	}
	return append(dst, p.log[pos:min(int(pos)+limit, len(p.log))]...), true
}

func (p *program) Subscribe(notify chan<- struct{}) (cancel func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notify = notify
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.notify = nil
	}
}

// disk is a file that can be full, slow, or both.
type disk struct {
	mu    sync.Mutex
	data  bytes.Buffer
	limit int           // bytes that fit; 0: any number
	block chan struct{} // writes wait while it is open
}

func (d *disk) Write(p []byte) (int, error) {
	if d.block != nil {
		<-d.block
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limit > 0 && d.data.Len()+len(p) > d.limit {
		n, _ := d.data.Write(p[:d.limit-d.data.Len()])
		return n, syscall.ENOSPC
	}
	return d.data.Write(p)
}

func (d *disk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data.Truncate(int(size))
	return nil
}

func (d *disk) Close() error { return nil }

func (d *disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.data.String()
}

type event struct {
	at   float64
	kind string
	data string
}

// parse reads a recording as a player does.
func parse(t *testing.T, text string) (map[string]any, []event) {
	t.Helper()
	var header map[string]any
	var events []event
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if i == 0 {
			if err := json.Unmarshal([]byte(line), &header); err != nil {
				t.Fatalf("header %q: %v", line, err)
			}
			continue
		}
		var fields []any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || len(fields) != 3 {
			t.Fatalf("line %d, %q: %v", i, line, err)
		}
		e := event{fields[0].(float64), fields[1].(string), fields[2].(string)}
		if len(events) > 0 && e.at < events[len(events)-1].at {
			t.Errorf("line %d: time goes back", i)
		}
		events = append(events, e)
	}
	return header, events
}

// play returns the screen that a player shows in the end.
func play(t *testing.T, text string) *screen.Snapshot {
	t.Helper()
	header, events := parse(t, text)
	s := screen.New(int(header["width"].(float64)), int(header["height"].(float64)), screen.Options{})
	for _, e := range events {
		switch e.kind {
		case "o":
			_, _ = s.Write([]byte(e.data))
		case "r":
			var cols, rows int
			if _, err := fmt.Sscanf(e.data, "%dx%d", &cols, &rows); err != nil {
				t.Fatal(err)
			}
			s.Resize(cols, rows)
		}
	}
	return s.Snapshot()
}

func sameText(t *testing.T, got, want *screen.Snapshot) {
	t.Helper()
	_, rows := want.Size()
	if gc, gr := got.Size(); gr != rows {
		t.Fatalf("recording ends at %dx%d", gc, gr)
	}
	for y := range rows {
		if g, w := string(got.AppendRow(nil, y)), string(want.AppendRow(nil, y)); g != w {
			t.Errorf("row %d is %q, want %q", y, g, w)
		}
	}
}

// recording runs a Recorder in a bubble.
func recording(t *testing.T, p *program, d record.File, f func(r *record.Recorder)) error {
	r := record.New(d, p, record.Options{Title: "a \"title\"", Env: map[string]string{"TERM": "xterm"}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	synctest.Wait()
	f(r)
	synctest.Wait()
	cancel()
	return <-ended
}

func TestRecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newProgram(), &disk{}
		p.print("before\r\n")
		err := recording(t, p, d, func(r *record.Recorder) {
			time.Sleep(1500 * time.Millisecond)
			p.print("h\xc3")
			synctest.Wait()
			time.Sleep(time.Second)
			p.print("\xa9llo \x1b[31m\"red\"\\\x7f\r\n\xff\xfe")
			synctest.Wait()
			r.Marker("alice joined")
			synctest.Wait()
			time.Sleep(time.Second)
			p.resize(100, 30)
			synctest.Wait()
			p.print("after\xe2\x82")
		})
		if err != nil {
			t.Fatal(err)
		}
		header, events := parse(t, d.String())
		if header["version"] != 2.0 || header["width"] != 80.0 || header["height"] != 24.0 || header["title"] != `a "title"` {
			t.Errorf("header is %v", header)
		}
		want := []event{
			{0, "o", "before"}, // in it
			{1.5, "o", "h"},
			{2.5, "o", "éllo \x1b[31m\"red\"\\\x7f\r\n\ufffd\ufffd"},
			{2.5, "m", "alice joined"},
			{3.5, "r", "100x30"},
			{3.5, "o", "éllo"}, // in it
			{3.5, "o", "after"},
		}
		if len(events) != len(want) {
			t.Fatalf("%d events %v, want %d", len(events), events, len(want))
		}
		for i, e := range events {
			same := e.data == want[i].data || (i == 0 || i == 5) && strings.Contains(e.data, want[i].data)
			if e.at != want[i].at || e.kind != want[i].kind || !same {
				t.Errorf("event %d is %v, want %v", i, e, want[i])
			}
		}
		snap, _ := p.Mark()
		sameText(t, play(t, d.String()), snap)
	})
}

func TestFullDisk(t *testing.T) {
	for limit := 1; limit < 900; limit += 7 {
		synctest.Test(t, func(t *testing.T) {
			p, d := newProgram(), &disk{limit: limit}
			err := recording(t, p, d, func(*record.Recorder) {
				for i := range 20 {
					p.print(fmt.Sprintf("line %d of some output\r\n", i))
					synctest.Wait()
				}
			})
			if !errors.Is(err, record.ErrStopped) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("with %d bytes, Run returned %v", limit, err)
			}
			if text := d.String(); text != "" {
				if !strings.HasSuffix(text, "]\n") && !strings.HasSuffix(text, "}\n") {
					t.Errorf("with %d bytes, the file ends with %q", limit, text[max(0, len(text)-20):])
				}
				parse(t, text)
			}
		})
	}
}

func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newProgram(), &disk{block: make(chan struct{})}
		p.keep = 1000
		err := recording(t, p, d, func(*record.Recorder) {
			for i := range 1000 {
				p.print(fmt.Sprintf("line %d\r\n", i))
			}
			close(d.block)
		})
		if err != nil {
			t.Fatal(err)
		}
		_, events := parse(t, d.String())
		markers := 0
		for _, e := range events {
			if e.kind == "m" && strings.Contains(e.data, "were not recorded") {
				markers++
			}
		}
		if markers != 1 {
			t.Errorf("%d markers say that something is missing, want 1: %v", markers, events)
		}
		snap, _ := p.Mark()
		sameText(t, play(t, d.String()), snap)
	})
}

func TestCreate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "session.cast")
	p := newProgram()
	r, err := record.Create(name, p, record.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.print("hello")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", st.Mode(), err)
	}
	if _, err := record.Create(name, p, record.Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("an existing file: %v", err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	snap, _ := p.Mark()
	sameText(t, play(t, string(text)), snap)
}

// FuzzOutput records anything, in two pieces: the recording can be read, what
// is UTF-8 comes out as it was, and it does not matter where the pieces end.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("\xe2\x82\xe2\x82A\xf0\x9f\x98\xc0\x80"), uint8(5))
	f.Add([]byte("h\xc3\xa9\xf0\x9f\x98\x80\xff\x00\"\\\u2028"), uint8(2))
	f.Fuzz(func(t *testing.T, p []byte, at uint8) {
		text := func(pieces ...[]byte) (recorded string) {
			synctest.Test(t, func(t *testing.T) {
				prog, d := newProgram(), &disk{}
				err := recording(t, prog, d, func(*record.Recorder) {
					for _, piece := range pieces {
						prog.print(string(piece))
						synctest.Wait()
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				_, events := parse(t, d.String())
				for _, e := range events {
					recorded += e.data
				}
			})
			return recorded
		}
		i := min(int(at), len(p))
		whole, split := text(p), text(p[:i], p[i:])
		if whole != split {
			t.Fatalf("recorded %q, split at %d %q", whole, i, split)
		}
		if utf8.Valid(p) && whole != string(p) {
			t.Fatalf("recorded %q, want %q", whole, p)
		}
	})
}
