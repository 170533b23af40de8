package term

import (
	"fmt"
	"strings"
)

// A Leader is the key that comes before a command to pairterm: a control
// character. The zero Leader is none.
type Leader byte

// DefaultLeader is Ctrl-], as telnet had it.
const DefaultLeader Leader = 0x1d

// ParseLeader reads a leader as people write it: "^]", "ctrl-]", "C-a", or
// "none". Case does not matter. Keys that a shell cannot do without (Enter,
// Tab, Escape) are refused.
func ParseLeader(s string) (Leader, error) {
	lower := strings.ToLower(s)
	if lower == "none" {
		return 0, nil
	}
	for _, prefix := range []string{"ctrl-", "ctrl+", "c-", "^"} {
		rest, found := strings.CutPrefix(lower, prefix)
		if !found || len(rest) != 1 {
			continue
		}
		c := rest[0]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c < 'A' || c > '_' {
			break
		}
		switch l := Leader(c & 0x1f); l {
		case '\r', '\n', '\t', 0x1b:
			return 0, fmt.Errorf("%q cannot be the leader key: it is Enter, Tab or Escape", s)
		default:
			return l, nil
		}
	}
	return 0, fmt.Errorf("%q is no leader key; examples are \"^]\", \"ctrl-a\" and \"none\"", s)
}

// String returns the key as ParseLeader reads it, in the form "ctrl-]".
func (l Leader) String() string {
	if l == 0 || l >= 0x20 {
		return "none"
	}
	return "ctrl-" + strings.ToLower(string(rune(l|0x40)))
}

// Text returns the key as it is shown to people, in the form "Ctrl-]".
func (l Leader) Text() string {
	if l == 0 || l >= 0x20 {
		return "none"
	}
	return "Ctrl-" + string(rune(l|0x40))
}

// matches reports whether a key that an extended keyboard sent as a number and
// modifiers is the leader.
func (l Leader) matches(k extendedKey) bool {
	if l == 0 || k.modifiers != modifierCtrl {
		return false
	}
	switch code := k.code; {
	case code >= 'a' && code <= 'z':
		return Leader(code&0x1f) == l
	case code >= 'A' && code <= '_':
		return Leader(code&0x1f) == l
	case code >= '4' && code <= '7':
		// The other way to type them, and on many keyboards the only one.
		return Leader(code-'4'+0x1c) == l
	}
	return false
}

// A Key is a key that follows the leader: its character, or one of the
// constants below.
type Key rune

// Keys that have no character.
const (
	KeyNone Key = -iota
	KeyUp
	KeyDown
	KeyRight
	KeyLeft
	KeyHome
	KeyEnd
	KeyPageUp
	KeyPageDown
)

// Arrow returns the step to the right and down that an arrow key asks for; ok is false
// for all other keys.
func (k Key) Arrow() (dx, dy int, ok bool) {
	switch k {
	case KeyUp:
		return 0, -1, true
	case KeyDown:
		return 0, 1, true
	case KeyLeft:
		return -1, 0, true
	case KeyRight:
		return 1, 0, true
	}
	return 0, 0, false
}

// Keys that are known by their control character.
const (
	KeyEscape    Key = 0x1b
	KeyEnter     Key = '\r'
	KeyTab       Key = '\t'
	KeyBackspace Key = 0x7f
)
