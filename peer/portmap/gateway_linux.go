package portmap

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// maxRoutes bounds how many routes are looked at.
const maxRoutes = 100_000

// defaultGateway gives the gateway of the default route of a family with the lowest
// metric; an invalid address if there is none.
func defaultGateway(six bool) (netip.Addr, error) {
	name, parse := "/proc/net/route", parseRoute4
	if six {
		name, parse = "/proc/net/ipv6_route", parseRoute6
	}
	f, err := os.Open(name)
	if err != nil {
		return netip.Addr{}, err
	}
	defer f.Close()
	return bestGateway(f, parse)
}

func bestGateway(table io.Reader, parse func(fields []string) (netip.Addr, uint32, bool)) (netip.Addr, error) {
	var (
		best   netip.Addr
		metric uint32
	)
	lines := bufio.NewScanner(table)
	for n := 0; n < maxRoutes && lines.Scan(); n++ {
		if gw, m, ok := parse(strings.Fields(lines.Text())); ok && (!best.IsValid() || m < metric) {
			best, metric = gw, m
		}
	}
	return best, lines.Err()
}

// Flags of routes, as in linux/route.h.
const (
	routeUp      = 1
	routeGateway = 2
)

// parseRoute4 reads a line of /proc/net/route: interface, destination, gateway, flags,
// two counters, metric, mask, …, with addresses in the machine's byte order.
func parseRoute4(f []string) (gw netip.Addr, metric uint32, ok bool) {
	if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
		return netip.Addr{}, 0, false
	}
	addr, err1 := strconv.ParseUint(f[2], 16, 32)
	flags, err2 := strconv.ParseUint(f[3], 16, 32)
	m, err3 := strconv.ParseUint(f[6], 10, 32)
	if err1 != nil || err2 != nil || err3 != nil || flags&(routeUp|routeGateway) != routeUp|routeGateway {
		return netip.Addr{}, 0, false
	}
	var raw [4]byte
	binary.NativeEndian.PutUint32(raw[:], uint32(addr))
	return netip.AddrFrom4(raw), uint32(m), true
}

// parseRoute6 reads a line of /proc/net/ipv6_route: destination, its length, source, its
// length, gateway, metric, two counters, flags, interface; numbers in hex.
func parseRoute6(f []string) (gw netip.Addr, metric uint32, ok bool) {
	if len(f) < 10 || f[0] != strings.Repeat("0", 32) || f[1] != "00" || f[3] != "00" {
		return netip.Addr{}, 0, false
	}
	raw, err1 := hex.DecodeString(f[4])
	m, err2 := strconv.ParseUint(f[5], 16, 32)
	flags, err3 := strconv.ParseUint(f[8], 16, 32)
	if err1 != nil || err2 != nil || err3 != nil || flags&(routeUp|routeGateway) != routeUp|routeGateway {
		return netip.Addr{}, 0, false
	}
	gw, ok = netip.AddrFromSlice(raw)
	if ok && gw.IsLinkLocalUnicast() {
		gw = gw.WithZone(f[9])
	}
	return gw, uint32(m), ok
}
