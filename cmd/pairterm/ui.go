package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/term"
)

// ui prints what people read: everything but requested data, on stderr. Once
// a terminal is raw nothing may be printed here any more. Its methods may be
// called concurrently.
type ui struct {
	mu       sync.Mutex
	w        io.Writer
	tty      bool            // w is a terminal: a line may be written over
	progress bool            // guarded by mu; there is an unfinished line of progress
	said     strings.Builder // guarded by mu; all lines so far
}

func newUI(w io.Writer) *ui {
	f, ok := w.(*os.File)
	return &ui{w: w, tty: ok && term.IsTerminal(f)}
}

// printf prints a line as it is.
func (u *ui) printf(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clearLocked()
	text := fmt.Sprintf(format, args...) + "\n"
	io.WriteString(u.w, text)
	if u.said.Len() < maxSaid {
		u.said.WriteString(strings.ReplaceAll(text, "\n", "\r\n"))
	}
}

// maxSaid bounds what is remembered of all that was printed, in bytes.
const maxSaid = 16 << 10

// soFar returns all that was printed, as a raw terminal wants it.
func (u *ui) soFar() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.said.String()
}

// infof and warnf print a line that says who speaks.
func (u *ui) infof(format string, args ...any) { u.say("", fmt.Sprintf(format, args...)) }
func (u *ui) warnf(format string, args ...any) { u.say("warning: ", fmt.Sprintf(format, args...)) }

// error prints err, which may have several lines, what is known beside it, and its hints.
func (u *ui) error(err error) {
	u.say("error: ", err.Error())
	if n, ok := asNoPath(err, false); ok {
		for _, line := range n.details() {
			u.say("", line)
		}
	}
	for _, h := range hints(err) {
		if strings.HasPrefix(h, toCopy) {
			u.printf("%s", h)
		} else {
			u.say("hint: ", h)
		}
	}
}

func (u *ui) say(kind, text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		u.printf("pairterm: %s%s", kind, line)
	}
}

// stage shows how far something has come, on one line that the next stage
// overwrites. Where lines cannot be overwritten it shows nothing. What is wider than the
// terminal is cut there (DECAWM): of a line that is wrapped only the end is overwritten.
func (u *ui) stage(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tty {
		fmt.Fprintf(u.w, "\r\x1b[K\x1b[?7lpairterm: %s…\x1b[?7h", text)
		u.progress = true
	}
}

func (u *ui) clearLocked() {
	if u.progress {
		io.WriteString(u.w, "\r\x1b[K")
		u.progress = false
	}
}

// done removes an unfinished line of progress.
func (u *ui) done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clearLocked()
}

// who describes an entry of an allowlist in a line.
func who(e keys.Entry) string {
	s := fmt.Sprintf("%-5s %s", e.Role, keys.Describe(e.Key, e.Comment))
	if e.CertAuthority {
		s = fmt.Sprintf("%-5s certificates of %s", e.Role, keys.Describe(e.Key, e.Comment))
		if len(e.Principals) > 0 {
			s += " for " + keys.Printable(strings.Join(e.Principals, ", "))
		}
	}
	if !e.ExpiresAt.IsZero() {
		until := ", until "
		if !time.Now().Before(e.ExpiresAt) {
			until = ", EXPIRED since "
		}
		s += until + e.ExpiresAt.Local().Format("2006-01-02 15:04")
	}
	return s
}
