// Package record writes what happens on a shared terminal to a file that
// asciinema and its kin can play: asciicast v2, which all of them read.
//
// A [Recorder] is a guest of sorts: it follows the terminal's log and has no
// hold on the terminal. A disk that is too slow makes it skip to the present
// screen and say so with a marker; one that is full ends the recording, not the
// session. Every event is one line, written whole, so that the file is playable
// at any time, also after a crash.
//
// What is typed is not recorded, only what is shown.
package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pairterm/pairterm/term/screen"
)

const (
	// chunkSize is the most output in one event, in bytes.
	chunkSize = 64 << 10

	// maxMarkers is how many markers may wait to be written. Beyond that they
	// are dropped, which takes a disk that does not answer.
	maxMarkers = 64
)

// ErrStopped is returned by Run when the file could not be written any more.
// What was written before is playable.
var ErrStopped = errors.New("recording stopped")

// Source is what is recorded; *term.Shared is one. See package stream for its
// methods.
type Source interface {
	Head() uint64
	Mark() (*screen.Snapshot, uint64)
	Since(dst []byte, pos uint64, max int) ([]byte, bool)
	Subscribe(notify chan<- struct{}) (cancel func())
}

// File is what is written to; *os.File is one.
type File interface {
	io.Writer
	Truncate(size int64) error
	Close() error
}

// Options describe a recording.
type Options struct {
	Title   string
	Command string            // what runs in the terminal, if it is not a shell
	Env     map[string]string // usually TERM and SHELL
}

// A Recorder writes one recording. Marker may be called from any goroutine.
type Recorder struct {
	src  Source
	opts Options
	wake chan struct{}

	mu      sync.Mutex
	markers []marker

	// Owned by Run.
	file    File
	size    int64 // of what was written whole
	start   time.Time
	latest  time.Duration // of an event, since start
	line    []byte        // what is to be written next
	buf     []byte
	partial []byte // the beginning of a character
	pos     uint64 // of the log
	cols    int
	rows    int
}

type marker struct {
	at    time.Time
	label string
}

// Create makes the file name, which must not exist yet, and returns a Recorder
// of src. The file can be read by its owner only: it holds all that was shown.
func Create(name string, src Source, o Options) (*Recorder, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return New(f, src, o), nil
}

// New returns a Recorder of src that writes to f, and closes it in the end.
func New(f File, src Source, o Options) *Recorder {
	return &Recorder{src: src, opts: o, file: f, wake: make(chan struct{}, 1)}
}

// Marker puts a mark with a label into the recording, as for somebody who
// joined. It does not wait.
func (r *Recorder) Marker(label string) {
	r.mu.Lock()
	if len(r.markers) < maxMarkers {
		r.markers = append(r.markers, marker{time.Now(), label})
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run records until ctx ends, and what the source has by then; then it returns
// nil. It returns ErrStopped, with the cause, when the file cannot be written.
// The file is closed in either case. It may be called once.
func (r *Recorder) Run(ctx context.Context) error {
	cancel := r.src.Subscribe(r.wake)
	defer cancel()
	err := r.begin()
	for err == nil {
		if err = r.follow(); err != nil {
			break
		}
		select {
		case <-r.wake:
			continue
		case <-ctx.Done():
		}
		err = r.follow()
		break
	}
	if e := r.file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return nil
}

// header is the first line of an asciicast v2 file.
type header struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`
	Height    int               `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Title     string            `json:"title,omitempty"`
	Command   string            `json:"command,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
}

// begin writes the header, and the screen as it is.
func (r *Recorder) begin() error {
	snap, pos := r.src.Mark()
	r.start = time.Now()
	r.cols, r.rows = snap.Size()
	r.pos = pos
	h := header{
		Version: 2, Width: r.cols, Height: r.rows, Timestamp: r.start.Unix(),
		Title: r.opts.Title, Command: r.opts.Command, Env: r.opts.Env,
	}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	r.line = append(append(r.line[:0], line...), '\n')
	if pos > 0 {
		r.output(r.start, screen.AppendDiff(nil, nil, snap))
	}
	return r.write()
}

// follow writes what is new.
func (r *Recorder) follow() error {
	for {
		r.writeMarkers()
		more, err := r.step()
		if err == nil {
			err = r.write()
		}
		if err != nil || !more {
			return err
		}
	}
}

// step takes the next piece of the log, or what stands for what cannot be had,
// and reports whether there may be more.
func (r *Recorder) step() (more bool, err error) {
	var ok bool
	r.buf, ok = r.src.Since(r.buf[:0], r.pos, chunkSize)
	now := time.Now()
	if ok {
		r.pos += uint64(len(r.buf))
		r.output(now, r.buf)
		return len(r.buf) > 0, nil
	}
	snap, pos := r.src.Mark()
	if _, ok := r.src.Since(nil, pos, 0); !ok || pos <= r.pos {
		return false, nil // the screen is not that far yet; there will be a notice
	}
	r.resync(now, snap, pos)
	return true, nil
}

// resync goes on from a screen: after a change of size, or after a disk that
// was too slow.
func (r *Recorder) resync(now time.Time, snap *screen.Snapshot, pos uint64) {
	r.partial = nil // the screen has it, too
	if cols, rows := snap.Size(); cols != r.cols || rows != r.rows {
		r.cols, r.rows = cols, rows
		r.event(now, 'r', []byte(fmt.Sprintf("%dx%d", cols, rows)))
	} else {
		r.event(now, 'm', []byte(fmt.Sprintf("%d bytes were not recorded in time", pos-r.pos)))
	}
	r.output(now, screen.AppendDiff(nil, nil, snap))
	r.pos = pos
}

func (r *Recorder) writeMarkers() {
	r.mu.Lock()
	markers := r.markers
	r.markers = nil
	r.mu.Unlock()
	for _, m := range markers {
		r.event(m.at, 'm', []byte(m.label))
	}
}

// output adds an event of output. A character that p ends in the middle of is
// left for the next event.
func (r *Recorder) output(now time.Time, p []byte) {
	if len(r.partial) > 0 {
		p = append(r.partial, p...)
		r.partial = nil
	}
	n := len(p) - partialRune(p)
	if n < len(p) {
		r.partial = append([]byte(nil), p[n:]...)
	}
	if n > 0 {
		r.event(now, 'o', p[:n])
	}
}

// partialRune returns the length of the beginning of a character that p ends
// with, or 0.
func partialRune(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if c := p[len(p)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// write writes the lines that are complete. Of what cannot be written whole,
// nothing stays.
func (r *Recorder) write() error {
	if len(r.line) == 0 {
		return nil
	}
	n, err := r.file.Write(r.line)
	if err == nil && n < len(r.line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		if n > 0 {
			err = errors.Join(err, r.file.Truncate(r.size))
		}
		return err
	}
	r.size += int64(n)
	r.line = r.line[:0]
	return nil
}
