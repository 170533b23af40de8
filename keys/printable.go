package keys

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxPrintable is how many characters of a stranger's text are shown.
	maxPrintable = 100
	// maxPath is the same for paths and addresses.
	maxPath = 4096
	// maxMarks is how many combining marks may follow one character; text in
	// any living script needs fewer than this.
	maxMarks = 3
)

// Printable returns s made fit for a terminal and for one line of a log: only
// characters that show as themselves stay. Control and escape characters,
// direction overrides, invisible characters and invalid UTF-8 are removed,
// other white space becomes one blank, piled-up combining marks are cut, and
// what is longer than 100 characters ends in "…".
func Printable(s string) string { return printable(s, maxPrintable) }

// printablePath is Printable for the names of files and addresses, which lose
// their use when they are cut.
func printablePath(s string) string { return printable(s, maxPath) }

func printable(s string, most int) string {
	var b strings.Builder
	n, marks, blank := 0, 0, false
	for _, r := range s {
		switch {
		case r == utf8.RuneError:
			continue
		case unicode.IsSpace(r):
			blank = n > 0
			continue
		case !unicode.IsPrint(r):
			continue
		case unicode.Is(unicode.M, r):
			if marks++; marks > maxMarks || n == 0 {
				continue
			}
			b.WriteRune(r)
			continue
		}
		if blank {
			if n++; n >= most {
				b.WriteRune('…')
				return b.String()
			}
			b.WriteByte(' ')
			blank = false
		}
		if n++; n > most {
			b.WriteRune('…')
			return b.String()
		}
		b.WriteRune(r)
		marks = 0
	}
	return b.String()
}
