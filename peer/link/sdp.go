package link

import (
	"fmt"
	"strings"

	"github.com/pion/webrtc/v3"
)

// sessionDescription writes the SDP that pion gets to read: fixed text, and the fields
// of a valid description, whose characters cannot break out of their lines. No SDP of
// a peer ever comes near it. The candidates follow one by one.
func sessionDescription(typ webrtc.SDPType, d Description) webrtc.SessionDescription {
	setup := "active"
	if d.Setup == SetupActPass {
		setup = "actpass"
	}
	var hash strings.Builder
	for i, b := range d.Fingerprint {
		if i > 0 {
			hash.WriteByte(':')
		}
		fmt.Fprintf(&hash, "%02X", b)
	}
	lines := []string{
		"v=0",
		"o=- 1 1 IN IP4 0.0.0.0",
		"s=-",
		"t=0 0",
		"a=group:BUNDLE 0",
		"m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
		"c=IN IP4 0.0.0.0",
		"a=mid:0",
		"a=sendrecv",
		"a=setup:" + setup,
		"a=ice-ufrag:" + d.Ufrag,
		"a=ice-pwd:" + d.Pwd,
		"a=fingerprint:sha-256 " + hash.String(),
		"a=sctp-port:5000",
		fmt.Sprintf("a=max-message-size:%d", MaxMessage),
	}
	return webrtc.SessionDescription{Type: typ, SDP: strings.Join(lines, "\r\n") + "\r\n"}
}
