package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pairterm/pairterm/term"
)

// verdict is how bad a finding is.
type verdict int

// The verdicts, from the best to the worst.
const (
	verdictOK      verdict = iota
	verdictNote            // worth knowing, and no trouble
	verdictWarning         // some things will not work
	verdictProblem         // nothing will
)

// String gives the verdict in a word.
func (v verdict) String() string {
	switch v {
	case verdictOK:
		return "ok"
	case verdictNote:
		return "note"
	case verdictWarning:
		return "warning"
	}
	return "problem"
}

// MarshalText implements [encoding.TextMarshaler].
func (v verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// code is what doctor exits with.
func (v verdict) code() int {
	switch v {
	case verdictWarning:
		return exitDoctorWarning
	case verdictProblem:
		return exitDoctorProblem
	}
	return exitOK
}

// finding is one thing that doctor found out. Its names in JSON are documented in the
// README, and stay.
type finding struct {
	Check   string         `json:"check"`
	Verdict verdict        `json:"verdict"`
	Text    string         `json:"text"`
	Hint    string         `json:"hint,omitempty"`
	Facts   map[string]any `json:"facts,omitempty"`
}

// examination is all that doctor found, as JSON.
type examination struct {
	Version  int       `json:"version"` // of this form
	Verdict  verdict   `json:"verdict"`
	Findings []finding `json:"findings"`
}

// add appends a finding and keeps the worst verdict.
func (e *examination) add(fs ...finding) {
	for _, f := range fs {
		e.Verdict = max(e.Verdict, f.Verdict)
		e.Findings = append(e.Findings, f)
	}
}

// summary says it all in a line.
func (e *examination) summary() string {
	count := map[verdict]int{}
	for _, f := range e.Findings {
		count[f.Verdict]++
	}
	switch p, w := count[verdictProblem], count[verdictWarning]; {
	case p > 0 && w > 0:
		return fmt.Sprintf("%s and %s", plural(p, "problem"), plural(w, "warning"))
	case p > 0:
		return plural(p, "problem")
	case w > 0:
		return plural(w, "warning") + ", no problems"
	}
	return "all is well"
}

// printJSON prints what was found for programs.
func (e *examination) printJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(e)
}

// findingPrinter prints findings for people, a row or a few for each.
type findingPrinter struct {
	w      io.Writer
	width  int // columns to wrap at; 0 for never
	colour bool
}

func newFindingPrinter(f *os.File) findingPrinter {
	p := findingPrinter{w: f}
	if !term.IsTerminal(f) {
		return p
	}
	p.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if tty, err := term.OpenTTY(f, f); err == nil {
		if size, err := tty.Size(); err == nil {
			p.width = min(size.Cols, maxFindingWidth)
		}
		tty.Close()
	}
	return p
}

const (
	// maxFindingWidth is where text is wrapped on wide terminals.
	maxFindingWidth = 110
	// findingIndent is the width of the columns before the text.
	findingIndent = 2 + 8 + 2 + 10 + 1
)

// colours of the verdicts; ok needs none.
var verdictColours = map[verdict]string{verdictOK: "32", verdictWarning: "33", verdictProblem: "31"}

func (p findingPrinter) print(f finding) {
	label := fmt.Sprintf("%-8s", f.Verdict)
	if c := verdictColours[f.Verdict]; p.colour && c != "" {
		label = "\x1b[" + c + "m" + label + "\x1b[m"
	}
	indent := strings.Repeat(" ", findingIndent)
	lines := wrap(f.Text, p.width-findingIndent)
	fmt.Fprintf(p.w, "  %s  %-10s %s\n", label, f.Check, lines[0])
	for _, line := range lines[1:] {
		fmt.Fprintf(p.w, "%s%s\n", indent, line)
	}
	if f.Hint == "" {
		return
	}
	for i, line := range wrap(f.Hint, p.width-findingIndent-3) {
		lead := "   "
		if i == 0 {
			lead = "-> "
		}
		fmt.Fprintf(p.w, "%s%s%s\n", indent, lead, line)
	}
}

// minWrap is the narrowest column that text is wrapped to.
const minWrap = 20

// wrap breaks text into lines of a width at its blanks. What is to be copied stays whole,
// however long: a URL, and a command at the end.
func wrap(text string, width int) []string {
	if width < minWrap {
		return []string{text}
	}
	text, command, ok := strings.Cut(text, ": pairterm ")
	words := strings.Split(text, " ")
	if ok {
		words[len(words)-1] += ":"
		words = append(words, "pairterm "+command)
	}
	var lines []string
	line := ""
	for _, word := range words {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
