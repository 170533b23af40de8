package term

import (
	"bytes"
	"context"
	"errors"
	"os"
	"time"
	"unicode/utf8"

	"github.com/pairterm/pairterm/term/paste"
)

const (
	// sequencePatience is how long the rest of a sequence may take to come.
	// Terminals send sequences whole, so what is still incomplete then is the
	// Escape key, or a key with Alt.
	sequencePatience = 10 * time.Millisecond

	// answerPatience is how long the rest of a terminal's answer may take that
	// has shown itself as one: a clipboard can be large.
	answerPatience = time.Second
)

// A KeyboardHandler receives what a Keyboard makes of what is typed. Its
// methods are called by the Keyboard, one at a time; slices are valid during
// the call only.
type KeyboardHandler interface {
	// Keys receives what is typed to the shared shell.
	Keys(p []byte)
	// Leader says that the leader was pressed: what follows is a command.
	Leader()
	// Command receives the key that followed the leader, or followed a command
	// that returned CommandAgain.
	Command(key Key) CommandResult
	// Done says that the next key is no command any more.
	Done()
}

// CommandResult is what became of a command.
type CommandResult uint8

const (
	// CommandUnknown means that the key is no command: it goes to the shell,
	// with the leader before it if that was pressed just now.
	CommandUnknown CommandResult = iota
	// CommandDone means that the command was carried out.
	CommandDone
	// CommandAgain means that it was, and that the next key is a command too,
	// without the leader.
	CommandAgain
)

// Mouse maps the position of the mouse on the user's terminal to that on the
// shared one.
type Mouse interface {
	// MapMouse returns the cell of the shared screen that is shown at a cell of
	// the terminal, both counted from 1, and whether there is one.
	MapMouse(col, row int) (int, int, bool)
	// MouseUTF8 reports whether the terminal sends coordinates as UTF-8 (mode
	// 1005).
	MouseUTF8() bool
}

// KeyboardOptions are what a Keyboard does beside telling commands from keys.
type KeyboardOptions struct {
	// Leader is the key before a command; the zero Leader is none.
	Leader Leader
	// DropAnswers keeps answers of the terminal from the shared shell, so far
	// as they cannot be keys. It is for guests, whose terminals were not asked.
	DropAnswers bool
	// Mouse, if not nil, maps what the mouse reports.
	Mouse Mouse
}

// A Keyboard tells what is typed to the shared shell from commands to
// pairterm, and translates what has to be. It knows the leader in all the
// encodings that programs may switch a keyboard to, and it knows pastes
// (bracketed ones), in which there are no commands. Bytes are never lost: what
// is not understood goes to the shell as it is.
//
// A Keyboard is used by one goroutine at a time.
type Keyboard struct {
	opts    KeyboardOptions
	handler KeyboardHandler

	buf     []byte // the beginning of a sequence whose rest has not come
	out     []byte // for Keys, gathered during one Feed
	state   keyboardState
	resume  keyboardState // after the answer that is under way
	leader  []byte        // how the leader was sent, while a command is awaited
	again   bool          // no leader came before the command that is awaited
	pressed []int         // codes of extended keys whose press was a command
	filling bool          // an answer is under way, for which patience is longer
}

type keyboardState uint8

const (
	keyboardPlain  keyboardState = iota
	keyboardArmed                // the next key is a command
	keyboardPaste                // inside a bracketed paste
	keyboardString               // inside an answer that is a string
)

// maxPressed bounds the keys whose release is awaited.
const maxPressed = 8

var (
	pasteStart = []byte(paste.Begin)
	pasteEnd   = []byte(paste.End)
)

// NewKeyboard returns a Keyboard that calls h.
func NewKeyboard(h KeyboardHandler, o KeyboardOptions) *Keyboard {
	return &Keyboard{opts: o, handler: h}
}

// deadlineInput is what a Keyboard reads; *TTY is one.
type deadlineInput interface {
	Read(p []byte) (int, error)
	SetReadDeadline(time.Time) error
}

// Run reads the terminal until ctx ends, whose error it returns, or until
// reading fails. It uses the deadline of the terminal.
func (k *Keyboard) Run(ctx context.Context, t deadlineInput) error {
	past := time.Unix(1, 0)
	stop := context.AfterFunc(ctx, func() { _ = t.SetReadDeadline(past) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		var deadline time.Time
		if wait := k.Patience(); wait > 0 {
			deadline = time.Now().Add(wait)
		}
		if err := t.SetReadDeadline(deadline); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := t.Read(buf)
		if n > 0 {
			k.Feed(buf[:n])
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := ctx.Err(); err != nil {
				return err
			}
			k.Flush()
		case err != nil:
			return err
		}
	}
}

// Patience returns how long to wait for more before Flush is due; 0 means for
// ever.
func (k *Keyboard) Patience() time.Duration {
	switch {
	case k.filling:
		return answerPatience
	case len(k.buf) > 0:
		return sequencePatience
	}
	return 0
}

// Flush says that what has not come by now will not come.
func (k *Keyboard) Flush() {
	if k.filling {
		k.filling = false
		k.buf = k.buf[:0]
		k.state = k.resume
		return
	}
	if len(k.buf) == 0 {
		return
	}
	// What is there of a sequence was typed as keys. When a command is
	// awaited, it is one that nobody knows, or Escape.
	held := bytes.Clone(k.buf)
	k.buf = k.buf[:0]
	if k.state == keyboardArmed {
		k.command(token{kind: tokenControl, bytes: held})
	} else {
		k.out = append(k.out, held...)
	}
	k.emit()
}

// Feed takes what the terminal sent.
func (k *Keyboard) Feed(p []byte) {
	if len(k.buf) > 0 {
		k.buf = append(k.buf, p...)
		p = k.buf
	}
	rest := k.feed(p)
	k.buf = append(k.buf[:0], rest...)
	k.emit()
}

// feed handles the tokens of p, and returns what is incomplete.
func (k *Keyboard) feed(p []byte) []byte {
	for len(p) > 0 {
		switch k.state {
		case keyboardPaste:
			n, ended := throughPaste(p)
			k.out = append(k.out, p[:n]...)
			p = p[n:]
			if !ended {
				return p
			}
			k.state = keyboardPlain
			continue
		case keyboardString:
			n, ended := throughString(p)
			if !k.opts.DropAnswers {
				k.out = append(k.out, p[:n]...)
			}
			p = p[n:]
			k.filling = !ended && k.opts.DropAnswers
			if !ended {
				return p
			}
			k.state = k.resume
			continue
		}
		t, ok := nextToken(p, k.opts.Mouse)
		if !ok || k.state == keyboardArmed && t.kind == tokenText && !utf8.FullRune(t.bytes) {
			return p
		}
		p = p[k.handle(t):]
	}
	return nil
}

// handle handles one token, and returns how many of its bytes it took.
func (k *Keyboard) handle(t token) int {
	switch t.kind {
	case tokenString:
		if !isStringAnswer(t.bytes) {
			// A key with Alt; what follows is another.
			t = token{kind: tokenEscape, bytes: t.bytes[:2]}
			break
		}
		k.resume, k.state = k.state, keyboardString
		if !k.opts.DropAnswers {
			k.out = append(k.out, t.bytes[:2]...)
		}
		k.filling = k.opts.DropAnswers
		return 2
	case tokenMouse:
		k.mouseBytes(t.bytes)
		return len(t.bytes)
	case tokenCSI:
		switch {
		case bytes.Equal(t.bytes, pasteStart):
			k.disarm()
			k.out = append(k.out, t.bytes...)
			k.state = keyboardPaste
			return len(t.bytes)
		case k.opts.DropAnswers && t.csi.isAnswer():
			return len(t.bytes)
		case t.csi.isMouse():
			k.mouse(t)
			return len(t.bytes)
		case t.csi.final == 'I' || t.csi.final == 'O': // focus
			if len(t.bytes) == 3 {
				k.out = append(k.out, t.bytes...)
				return len(t.bytes)
			}
		}
	}
	if e, ok := t.csi.extended(); ok && t.kind == tokenCSI && k.skip(e, t) {
		return len(t.bytes)
	}
	if k.state == keyboardArmed {
		return k.command(t)
	}
	if k.isLeader(t) {
		k.arm(t)
	} else {
		k.out = append(k.out, t.bytes...)
	}
	return len(t.bytes)
}

// skip handles events of extended keyboards that are no press of a key: the
// release of one whose press was a command goes nowhere, other releases and
// modifiers go to the shell.
func (k *Keyboard) skip(e extendedKey, t token) bool {
	if e.release {
		for i, code := range k.pressed {
			if code == e.code {
				k.pressed = append(k.pressed[:i], k.pressed[i+1:]...)
				return true
			}
		}
	}
	if e.release || e.isModifier() {
		k.out = append(k.out, t.bytes...)
		return true
	}
	return false
}

func (k *Keyboard) isLeader(t token) bool {
	if k.opts.Leader == 0 {
		return false
	}
	if t.kind == tokenControl {
		return t.bytes[0] == byte(k.opts.Leader)
	}
	if t.kind == tokenCSI {
		e, ok := t.csi.extended()
		return ok && k.opts.Leader.matches(e)
	}
	return false
}

// arm awaits a command.
func (k *Keyboard) arm(t token) {
	k.press(t)
	k.emit()
	k.state = keyboardArmed
	k.leader = append(k.leader[:0], t.bytes...)
	k.again = false
	k.handler.Leader()
}

// press remembers that t, if it is an extended key, went to no shell.
func (k *Keyboard) press(t token) {
	if e, ok := t.csi.extended(); ok && t.kind == tokenCSI && len(k.pressed) < maxPressed {
		k.pressed = append(k.pressed, e.code)
	}
}

// command handles the key that was awaited, and returns how many bytes of t
// it was.
func (k *Keyboard) command(t token) int {
	if t.kind == tokenText && len(t.bytes) > 1 {
		_, n := utf8.DecodeRune(t.bytes)
		t.bytes = t.bytes[:n]
	}
	if !k.again && k.isLeader(t) {
		// Typed twice, it is for the shell, once.
		k.state = keyboardPlain
		k.done()
		k.out = append(k.out, t.bytes...)
		return len(t.bytes)
	}
	key, release := t.key()
	if release {
		k.out = append(k.out, t.bytes...)
		return len(t.bytes)
	}
	result := CommandUnknown
	if key != KeyNone {
		k.emit()
		result = k.handler.Command(key)
	}
	switch result {
	case CommandAgain:
		k.press(t)
		k.again = true
		return len(t.bytes)
	case CommandDone:
		k.press(t)
		k.state = keyboardPlain
		k.done()
		return len(t.bytes)
	}
	again := k.again
	k.disarm()
	if again && k.isLeader(t) {
		k.arm(t)
	} else {
		k.out = append(k.out, t.bytes...)
	}
	return len(t.bytes)
}

// disarm awaits no command any more; the leader goes to the shell.
func (k *Keyboard) disarm() {
	if k.state != keyboardArmed {
		return
	}
	k.state = keyboardPlain
	k.done()
	if !k.again {
		k.out = append(k.out, k.leader...)
	}
}

// done says that no command is awaited any more.
func (k *Keyboard) done() {
	k.emit()
	k.handler.Done()
}

// emit hands what was gathered to the shell.
func (k *Keyboard) emit() {
	if len(k.out) > 0 {
		k.handler.Keys(k.out)
		k.out = k.out[:0]
	}
}

// isStringAnswer reports whether what may be the beginning of a string, or a
// key with Alt and another key, is an answer of a terminal.
func isStringAnswer(p []byte) bool {
	c := p[2]
	switch p[1] {
	case ']', 'P': // OSC 4;…, DCS 1$r…, DCS >|…, DCS !|…
		return c >= '0' && c <= '9' || p[1] == 'P' && (c == '>' || c == '!' || c == '$')
	case '_':
		return c == 'G' // kitty graphics
	}
	return false
}

// throughString returns how much of p belongs to a string that is ended by ST
// or BEL, or cut off by CAN or SUB, and whether it ends in p. An ESC at the
// end of p is left out: it may be the beginning of ST.
func throughString(p []byte) (n int, ended bool) {
	i := bytes.IndexAny(p, "\x1b\x07\x18\x1a")
	switch {
	case i < 0:
		return len(p), false
	case p[i] != 0x1b:
		return i + 1, true
	case i+1 == len(p):
		return i, false
	case p[i+1] == '\\':
		return i + 2, true
	}
	return i, true
}

// throughPaste returns how much of p belongs to a bracketed paste, its end
// included, and whether it ends in p. What may be the beginning of the end is
// left out.
func throughPaste(p []byte) (n int, ended bool) {
	if i := bytes.Index(p, pasteEnd); i >= 0 {
		return i + len(pasteEnd), true
	}
	for n := min(len(pasteEnd)-1, len(p)); n > 0; n-- {
		if bytes.HasSuffix(p, pasteEnd[:n]) {
			return len(p) - n, false
		}
	}
	return len(p), false
}
