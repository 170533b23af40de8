package portmap

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// TestTables reads routing tables as the kernel shows them.
func TestTables(t *testing.T) {
	const head4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the tables here are of a little-endian machine")
	}
	four, six := parseRoute4, parseRoute6
	for _, c := range []struct {
		name  string
		table string
		parse func([]string) (netip.Addr, uint32, bool)
		want  string // empty for none
	}{
		{"one", head4 + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", four, "192.0.2.1"},
		{"the lower metric", head4 + "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\neth0\t00000000\t0201A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", four, "192.168.1.2"},
		{"half of everything, as VPNs have it", head4 + "tun0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n", four, ""},
		{"without a gateway", head4 + "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n", four, ""},
		{"down", head4 + "eth0\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n", four, ""},
		{"unreachable", head4 + "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n", four, ""},
		{"nonsense", "x\ny z\n\x00\n" + strings.Repeat("00000000 ", 20), four, ""},
		{"six",
			"fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n" +
				"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n" +
				"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
			six, "fe80::1%eth0"},
		{"six, global, the lower metric",
			"00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db8000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n" +
				"00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db8000000000000000000000002 00000080 00000002 00000000 00000003    eth1\n",
			six, "2001:db8::2"},
		{"six, nonsense", strings.Repeat("0", 32) + " 00 x 00 zz q 0 0 3 eth0\n", six, ""},
	} {
		got, err := bestGateway(strings.NewReader(c.table), c.parse)
		want := netip.Addr{}
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		if err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, want)
		}
	}
}
