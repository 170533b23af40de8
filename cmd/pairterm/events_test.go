package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
)

// A path that is another one, but neither of another kind nor felt, is not worth a word.
func TestMovedNotice(t *testing.T) {
	path := func(network, remote string, typ link.CandidateType, ms int) link.PathInfo {
		return link.PathInfo{Network: network, Remote: netip.MustParseAddrPort(remote), RemoteType: typ, RTT: time.Duration(ms) * time.Millisecond}
	}
	far := path("udp4", "203.0.113.7:1", link.CandidateSrflx, 24)
	for _, tc := range []struct {
		name        string
		before, now link.PathInfo
		want        string
	}{
		{"the same", far, far, ""},
		{"as fast, in the LAN", far, path("udp4", "192.168.1.2:1", link.CandidateHost, 22), ""},
		{"felt", far, path("udp4", "192.168.1.2:1", link.CandidateHost, 1), "alice is now connected directly over udp4, 1.0 ms"},
		{"not measured", far, path("udp4", "192.168.1.2:1", link.CandidateHost, 0), ""},
		{"only measured anew", far, path("udp4", "203.0.113.7:1", link.CandidateSrflx, 1), ""},
		{"UDP", path("tcp4", "203.0.113.7:1", link.CandidateHost, 24), far, "alice is now connected directly over udp4, 24 ms"},
		{"the other family", far, path("udp6", "[2001:db8::1]:1", link.CandidateHost, 23), "alice is now connected directly over udp6, 23 ms"},
		{"direct", path("udp4", "203.0.113.9:1", link.CandidateRelay, 24), far, "alice is now connected directly over udp4, 24 ms"},
	} {
		e := peer.Moved{Guest: peer.GuestInfo{Comment: "alice", Path: tc.now}, Before: tc.before}
		if got := describeEvent(e); got != tc.want {
			t.Errorf("%s: host: %q, not %q", tc.name, got, tc.want)
		}
		j := &joining{path: tc.before}
		if got := j.newPath(tc.now); got != (tc.want != "") {
			t.Errorf("%s: guest: %v", tc.name, got)
		}
	}
	if new(joining).newPath(far) {
		t.Error("a first path is told as another one")
	}
}
