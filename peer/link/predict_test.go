package link_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/transport/v2/vnet"

	"github.com/pairterm/pairterm/peer/link"
)

// A NAT that takes another port for each destination, but one after the other, is guessed
// right often enough to get through to one that lets in whom it has written to.
func TestPredictedPorts(t *testing.T) {
	for _, tc := range []struct {
		name        string
		guest, host *vnet.NATType
	}{
		{"guest", &symmetricNAT, &coneNAT},
		{"host", &coneNAT, &symmetricNAT},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWANOf(t, 50*time.Millisecond, tc.guest, tc.host)
				w.serveSTUN(t, "1.2.3.5", true, 3478, 3479)
				cfg := link.Config{STUN: []string{"1.2.3.5:3478", "1.2.3.5:3479"}}
				cfg.Net = w.guest
				guest := newTransport(t, cfg)
				cfg.Net = w.host
				host := newTransport(t, cfg)
				begin := time.Now()
				l1, l2 := connect(t, guest, host)
				t.Log("connected after", time.Since(begin))
				exchange(t, l1, l2)
			})
		})
	}
}
