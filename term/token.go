package term

import (
	"bytes"
	"unicode/utf8"
)

// token is one thing that a terminal sent: text, a control character, or a
// sequence.
type token struct {
	kind  tokenKind
	bytes []byte
	csi   csi // for tokenCSI
}

type tokenKind uint8

const (
	tokenText    tokenKind = iota // printable characters
	tokenControl                  // one C0 character, or DEL
	tokenEscape                   // ESC and a character: a key with Alt
	tokenCSI
	tokenSS3
	tokenMouse  // CSI M and three characters: a report of the old kind
	tokenString // the beginning of OSC, DCS, APC, PM or SOS, up to its third byte
)

// csi is a control sequence, taken apart.
type csi struct {
	prefix       byte   // one of < = > ?, or 0
	params       []byte // digits, colons and semicolons
	intermediate byte   // the last one, or 0
	final        byte
}

// maxKeySequence bounds the length of one sequence, in bytes. The longest that
// keyboards send have the text of a key in them; more is cut into pieces, and
// so passes as it is.
const maxKeySequence = 256

// nextToken returns the first token of p, and false when p ends in the middle
// of it. p is not empty.
func nextToken(p []byte, m Mouse) (token, bool) {
	switch c := p[0]; {
	case c == 0x1b:
		return nextSequence(p, m)
	case c < 0x20 || c == 0x7f:
		return token{kind: tokenControl, bytes: p[:1]}, true
	}
	n := bytes.IndexFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f })
	if n < 0 {
		n = len(p)
	}
	return token{kind: tokenText, bytes: p[:n]}, true
}

func nextSequence(p []byte, m Mouse) (token, bool) {
	if len(p) < 2 {
		return token{}, false
	}
	switch c := p[1]; c {
	case '[':
		return nextCSI(p, m)
	case 'O':
		if len(p) < 3 {
			return token{}, false
		}
		// A modifier may come before the final character.
		for i := 2; i < len(p) && i < 8; i++ {
			if p[i] < '0' || p[i] > '9' {
				return token{kind: tokenSS3, bytes: p[:i+1]}, true
			}
		}
		if len(p) < 8 {
			return token{}, false
		}
		return token{kind: tokenSS3, bytes: p[:8]}, true
	case ']', 'P', '_', '^', 'X':
		if len(p) < 3 {
			return token{}, false
		}
		return token{kind: tokenString, bytes: p[:3]}, true
	case 0x1b:
		// Escape typed twice, or Alt with a key that sends a sequence.
		return token{kind: tokenControl, bytes: p[:1]}, true
	default:
		n := 1
		if c >= utf8.RuneSelf {
			if !utf8.FullRune(p[1:]) {
				return token{}, false
			}
			_, n = utf8.DecodeRune(p[1:])
		}
		return token{kind: tokenEscape, bytes: p[:1+n]}, true
	}
}

func nextCSI(p []byte, m Mouse) (token, bool) {
	var s csi
	i := 2
	if i < len(p) && p[i] >= '<' && p[i] <= '?' {
		s.prefix = p[i]
		i++
	}
	start := i
	for i < len(p) && p[i] >= '0' && p[i] <= ';' {
		i++
	}
	s.params = p[start:i]
	for i < len(p) && p[i] >= 0x20 && p[i] <= 0x2f {
		s.intermediate = p[i]
		i++
	}
	if i >= maxKeySequence {
		return token{kind: tokenText, bytes: p[:maxKeySequence]}, true
	}
	if i == len(p) {
		return token{}, false
	}
	if p[i] == '[' && i == 2 { // the Linux console's F1 to F5
		if len(p) < 4 {
			return token{}, false
		}
		return token{kind: tokenEscape, bytes: p[:4]}, true
	}
	if p[i] < 0x40 || p[i] > 0x7e {
		// Not a sequence: a control character or something else broke it.
		return token{kind: tokenText, bytes: p[:i]}, true
	}
	s.final = p[i]
	if s.final == 'M' && i == 2 {
		return nextMouse(p, m != nil && m.MouseUTF8())
	}
	return token{kind: tokenCSI, bytes: p[:i+1], csi: s}, true
}

// nextMouse returns a mouse report of the old kind: CSI M, then button, column
// and row as characters. In mode 1005 those are UTF-8.
func nextMouse(p []byte, utf8Mouse bool) (token, bool) {
	n := 3
	for range 3 {
		if n >= len(p) {
			return token{}, false
		}
		size := 1
		if utf8Mouse && p[n] >= utf8.RuneSelf {
			if !utf8.FullRune(p[n:]) {
				return token{}, false
			}
			_, size = utf8.DecodeRune(p[n:])
		}
		n += size
	}
	return token{kind: tokenMouse, bytes: p[:n]}, true
}

// isAnswer reports whether a control sequence is what a terminal answers to a
// question, and nothing that a key sends.
func (s csi) isAnswer() bool {
	switch s.final {
	case 'c', // DA1, DA2, DA3
		'n', // DSR, and reports of the colour scheme
		't', // reports of the window, also of its size
		'x', // DECREPTPARM
		'y': // DECRPM
		return true
	case 'u': // kitty's keyboard flags
		return s.prefix == '?'
	case 'S', 'm': // graphics attributes, keyboard settings
		return s.prefix == '?' || s.prefix == '>'
	case 'R':
		// The cursor's position, unless it is F3 with modifiers.
		if s.prefix == '?' {
			return true
		}
		row, column, found := bytes.Cut(s.params, []byte{';'})
		if !found || bytes.IndexByte(s.params, ':') >= 0 {
			return false
		}
		c := firstParameter(column)
		return firstParameter(row) != 1 || c < 2 || c > 16
	}
	return s.intermediate == '$' || s.intermediate == '\''
}

// isMouse reports whether a control sequence is a mouse report with numbers:
// CSI < b ; x ; y M or m (modes 1006 and 1016), or CSI b ; x ; y M (1015).
func (s csi) isMouse() bool {
	if s.intermediate != 0 || bytes.Count(s.params, []byte{';'}) != 2 {
		return false
	}
	return s.prefix == '<' && (s.final == 'M' || s.final == 'm') || s.prefix == 0 && s.final == 'M'
}

// extendedKey is a key as keyboards with extended encodings send it (kitty's
// CSI u, xterm's modifyOtherKeys, and functional keys with modifiers).
type extendedKey struct {
	code      int
	modifiers int // without the locks
	release   bool
}

// Modifiers, as a terminal sends them less one.
const (
	modifierShift = 1 << iota
	modifierAlt
	modifierCtrl
	modifierSuper
	modifierHyper
	modifierMeta
	modifierCapsLock
	modifierNumLock
)

// extended returns the key that a control sequence is, if it is one of
// numbers.
func (s csi) extended() (k extendedKey, ok bool) {
	if s.prefix != 0 || s.intermediate != 0 {
		return k, false
	}
	var fields [3][]byte
	n := 0
	for rest := s.params; n < len(fields); n++ {
		field, more, found := bytes.Cut(rest, []byte{';'})
		fields[n] = field
		if rest = more; !found {
			n++
			break
		}
	}
	modifiers := fields[1]
	switch {
	case s.final == 'u' && n >= 1:
		k.code = firstParameter(fields[0])
	case s.final == '~' && n == 3 && string(fields[0]) == "27":
		k.code = firstParameter(fields[2])
	default:
		return k, false
	}
	k.modifiers, k.release = parseModifiers(modifiers)
	return k, k.code != 0
}

// parseModifiers reads the field of modifiers, and of the kind of event behind
// a colon.
func parseModifiers(field []byte) (modifiers int, release bool) {
	number, event, _ := bytes.Cut(field, []byte{':'})
	modifiers = max(firstParameter(number)-1, 0) &^ (modifierCapsLock | modifierNumLock)
	return modifiers, string(event) == "3"
}

// isModifier reports whether the key is one that only modifies others
// (kitty's functional key codes).
func (k extendedKey) isModifier() bool {
	return k.code >= 57441 && k.code <= 57454 || k.code >= 57358 && k.code <= 57360
}

// finalKeys are functional keys by the final character of their sequences.
var finalKeys = map[byte]Key{
	'A': KeyUp, 'B': KeyDown, 'C': KeyRight, 'D': KeyLeft, 'H': KeyHome, 'F': KeyEnd,
}

// tildeKeys are functional keys by the number in their sequences.
var tildeKeys = map[int]Key{
	1: KeyHome, 7: KeyHome, 4: KeyEnd, 8: KeyEnd, 5: KeyPageUp, 6: KeyPageDown,
}

// key returns which key t is, or KeyNone, and whether it was released rather
// than pressed.
func (t token) key() (key Key, release bool) {
	switch t.kind {
	case tokenControl:
		return Key(t.bytes[0]), false
	case tokenText:
		r, _ := utf8.DecodeRune(t.bytes)
		return Key(r), false
	case tokenSS3:
		return finalKeys[t.bytes[len(t.bytes)-1]], false
	case tokenCSI:
		if k, ok := t.csi.extended(); ok {
			if k.isModifier() || k.modifiers&^modifierShift != 0 {
				return KeyNone, k.release
			}
			code := Key(k.code)
			if k.modifiers&modifierShift != 0 && code >= 'a' && code <= 'z' {
				code -= 'a' - 'A'
			}
			return code, k.release
		}
		first, rest, _ := bytes.Cut(t.csi.params, []byte{';'})
		_, release = parseModifiers(rest)
		if t.csi.prefix != 0 || t.csi.intermediate != 0 {
			return KeyNone, false
		}
		if t.csi.final == '~' {
			return tildeKeys[firstParameter(first)], release
		}
		return finalKeys[t.csi.final], release
	}
	return KeyNone, false
}
