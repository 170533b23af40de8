package main

import (
	"fmt"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/portmap"
	"github.com/pairterm/pairterm/peer/stream"
	"github.com/pairterm/pairterm/term"
)

// hostKeys are the commands of the person at the host. Its fields are set once, before
// the first key is read.
type hostKeys struct {
	leader term.Leader
	screen interface {
		Notice(text string)
		Status(text string)
		MoveView(dx, dy int) bool
	}
	guests   func() []peer.GuestInfo
	mappings func() []portmap.Mapping // nil if the router is not asked for any
}

// Leader implements term.CommandHandler.
func (k *hostKeys) Leader() {
	k.screen.Status(fmt.Sprintf("i who is here, and how  arrows move  %s send it", k.leader.Text()))
}

// Command implements term.CommandHandler.
func (k *hostKeys) Command(key term.Key) term.CommandResult {
	switch key {
	case 'i':
		for _, line := range describeGuests(k.guests(), time.Now()) {
			k.screen.Notice("pairterm: " + line)
		}
		if k.mappings != nil {
			if line := describeMapping(k.mappings()); line != "" {
				k.screen.Notice("pairterm: " + line)
			}
		}
		return term.CommandDone
	case '?':
		return term.CommandAgain
	}
	// Where all of the view fits, an arrow is the shell's.
	if dx, dy, ok := key.Arrow(); ok && k.screen.MoveView(dx, dy) {
		return term.CommandAgain
	}
	return term.CommandUnknown
}

// Done implements term.CommandHandler.
func (k *hostKeys) Done() { k.screen.Status("") }

// maxGuestLines is how many guests are told of: as many notices as wait to be shown.
const maxGuestLines = 7

// describeGuests tells who is there, and how they are connected, a line each.
func describeGuests(guests []peer.GuestInfo, now time.Time) []string {
	if len(guests) == 0 {
		return []string{"nobody is here"}
	}
	var lines []string
	for _, g := range guests[:min(len(guests), maxGuestLines)] {
		lines = append(lines, describeGuest(g, now))
	}
	if more := len(guests) - maxGuestLines; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return lines
}

// describeGuest tells about one guest.
func describeGuest(g peer.GuestInfo, now time.Time) string {
	does := "types"
	if g.Role == keys.RoleView {
		does = "looks on"
	}
	s := fmt.Sprintf("%s %s", g.Name(), does)
	if !g.Linked {
		if g.Path.Network == "" {
			return s + ", being connected"
		}
		return s + ", connection lost"
	}
	path := g.Path
	path.RTT = 0 // the streams know better
	s += ", " + describePath(path)
	if g.Stats.RTT > 0 {
		s += fmt.Sprintf("; round trip %s, loss %.0f %%", describeRTT(g.Stats.RTT), 100*g.Stats.Loss)
	}
	switch {
	case g.Stats.Stalled:
		s += ", nothing heard just now"
	case g.Stats.Mode == stream.ModeFrame:
		s += ", catching up"
	}
	return s + ", since " + brieflyAgo(now.Sub(g.Since))
}

// describeMapping tells what the router does for those who are to come, empty while that is
// not known. UDP over IPv4 is what matters: others find a way without it, or after it.
func describeMapping(all []portmap.Mapping) string {
	for _, m := range all {
		if m.Network == "udp4" && (m.External.IsValid() || m.Err != nil) {
			return "port mapping: " + m.String()
		}
	}
	return ""
}

// brieflyAgo is a time that has passed, in one unit.
func brieflyAgo(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}
