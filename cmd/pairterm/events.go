package main

import (
	"fmt"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/tunnel"
)

// describeEvent says an event in one line, empty for nothing worth it.
func describeEvent(e peer.Event) string {
	switch e := e.(type) {
	case peer.Knock:
		return describeKnock(e)
	case peer.Joined:
		return fmt.Sprintf("%s joined to %s, %s", e.Guest.Name(), e.Guest.Role, describePath(e.Guest.Path))
	case peer.Lost:
		return fmt.Sprintf("%s lost the connection", e.Guest.Name())
	case peer.Returned:
		return fmt.Sprintf("%s is back, %s", e.Guest.Name(), describePath(e.Guest.Path))
	case peer.Moved:
		if !anotherWay(e.Before, e.Guest.Path) {
			return ""
		}
		return fmt.Sprintf("%s is now %s", e.Guest.Name(), describePath(e.Guest.Path))
	case peer.Left:
		if e.Reason == peer.ReasonLeft && e.Text == "" {
			return fmt.Sprintf("%s left", e.Guest.Name())
		}
		if e.Text != "" {
			return fmt.Sprintf("%s is gone: %s", e.Guest.Name(), keys.Printable(e.Text))
		}
		return fmt.Sprintf("%s is gone: %s", e.Guest.Name(), e.Reason)
	case peer.Fault:
		if n, ok := asNoPath(e.Err, true); ok {
			return e.Guest.Name() + ": " + n.notice()
		}
		return fmt.Sprintf("%s was let in, and then: %v", e.Guest.Name(), e.Err)
	}
	return ""
}

// elaborate says more about an event, for those who asked for more.
func elaborate(e peer.Event) []string {
	f, ok := e.(peer.Fault)
	if !ok {
		return nil
	}
	n, ok := asNoPath(f.Err, true)
	if !ok {
		return nil
	}
	return append(n.details(), n.hints()...)
}

func describeKnock(k peer.Knock) string {
	// The comment is what a stranger says of himself: the fingerprint goes with it.
	who, print := "somebody without a key", ""
	if len(k.Offered) > 0 {
		who, print = keys.Printable(k.Offered[0].Comment), " "+keys.Fingerprint(k.Offered[0].Key)
	}
	s := fmt.Sprintf("refused %s: %s%s", who, refusalReasons[k.Code], print)
	if k.Suppressed > 0 {
		s += fmt.Sprintf(" (and %d more knocks before)", k.Suppressed)
	}
	return s
}

// refusalReasons say at the host why it refused somebody.
var refusalReasons = map[tunnel.RefusalCode]string{
	tunnel.RefusedNotAllowed: "not on the list",
	tunnel.RefusedExpired:    "expired",
	tunnel.RefusedDenied:     "denied",
	tunnel.RefusedFull:       "too many guests",
	tunnel.RefusedProof:      "could not prove the key",
	tunnel.RefusedVersion:    "speaks another version of the protocol",
	tunnel.RefusedEnding:     "the session is ending",
}

// markerLabel names an event in a recording, empty for those that are not marked.
func markerLabel(e peer.Event) string {
	switch e := e.(type) {
	case peer.Joined:
		return e.Guest.Name() + " joined"
	case peer.Left:
		return e.Guest.Name() + " left"
	}
	return ""
}

// anotherWay reports whether a person has something of the change from one path to
// another: it is relayed or no longer is, goes over another network, or has a round trip
// that feels different.
func anotherWay(before, now link.PathInfo) bool {
	return now.Network != before.Network || now.Relayed() != before.Relayed() ||
		now.Remote != before.Remote && now.RTT > 0 && before.RTT > 0 && (now.RTT-before.RTT).Abs() >= feltRTT
}

// feltRTT is by how much round trips differ that feel different.
const feltRTT = 10 * time.Millisecond

// describePath says how two machines are connected: "connected directly over
// udp4, 0.4 ms".
func describePath(p link.PathInfo) string {
	how := "directly"
	if p.Relayed() {
		how = "relayed"
	}
	s := fmt.Sprintf("connected %s over %s", how, p.Network)
	if p.RTT > 0 {
		s += ", " + describeRTT(p.RTT)
	}
	return s
}

func describeRTT(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
}
