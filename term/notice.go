package term

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// noticeTime is how long a notice is shown.
	noticeTime = 3 * time.Second
	// maxNotice bounds a notice, in bytes: more than fits a row is cut anyway.
	maxNotice = 512
	// maxNotices bounds those that wait to be shown. Older ones are dropped:
	// what is shown late helps nobody.
	maxNotices = 8
)

// notices are the lines of text that pairterm itself has to say: each for some
// seconds, one after the other, before a status that stays.
type notices struct {
	queue  []string
	until  time.Time // when the first in the queue was shown long enough; zero if it was not shown yet
	status string
}

// add adds a notice to be shown for a while.
func (n *notices) add(text string) {
	if text = printable(text); text == "" {
		return
	}
	n.queue = append(n.queue, text)
	if over := len(n.queue) - maxNotices; over > 0 {
		n.queue = n.queue[over:]
		n.until = time.Time{}
	}
}

// setStatus sets the line that is shown while there is no notice.
func (n *notices) setStatus(text string) { n.status = printable(text) }

// text returns what is to be shown now, and for how long yet; 0 means for
// ever. A notice that has not been shown before counts as shown from now on.
func (n *notices) text(now time.Time) (string, time.Duration) {
	for len(n.queue) > 0 {
		if n.until.IsZero() {
			n.until = now.Add(n.share())
		}
		if left := n.until.Sub(now); left > 0 {
			return n.queue[0], left
		}
		n.queue = n.queue[1:]
		n.until = time.Time{}
	}
	return n.status, 0
}

// pending reports whether there is something to be shown.
func (n *notices) pending() bool { return len(n.queue) > 0 || n.status != "" }

// share is how long the first notice is shown: shorter while others wait.
func (n *notices) share() time.Duration {
	return max(noticeTime/time.Duration(len(n.queue)), time.Second)
}

// printable returns text as one line that can do nothing to a terminal: names
// and titles in it may come from others.
func printable(text string) string {
	if len(text) > maxNotice {
		n := maxNotice
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			// Controls, and characters that change the direction of others.
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.TrimSpace(text)
}
