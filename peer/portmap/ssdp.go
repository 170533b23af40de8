package portmap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// SSDP (UPnP Device Architecture 1.1, section 1.3): how a device that can be
// controlled is found.
const (
	ssdpPort = 1900 // UDP

	maxSSDPAnswer  = 2048 // bytes
	maxSSDPAnswers = 32   // of the gateway, that are looked at
	maxLocations   = 4    // descriptions of one gateway that are fetched
)

var ssdpGroup = netip.AddrFrom4([4]byte{239, 255, 255, 250})

// ssdpPauses are the pauses after each search. Devices may wait for a second before
// they answer one that was multicast.
var ssdpPauses = []time.Duration{400 * time.Millisecond, 800 * time.Millisecond, 1500 * time.Millisecond}

// ssdpTargets are what is searched for. A gateway of version 2 answers for 1, too, but
// not all do.
var ssdpTargets = []string{
	"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
	"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
}

// errNotTheGateway reports a device, or a part of one, elsewhere than on the gateway.
var errNotTheGateway = errors.New("not an address of the gateway")

// searchIGD looks for descriptions of the gateway's Internet gateway device, and calls
// found with each one's URL until that returns true. Both the multicast address and the
// gateway itself are asked; only the gateway's answers count.
func (r route) searchIGD(ctx context.Context, port uint16, found func(location *url.URL) bool) error {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.local, 0)))
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var (
		buf     = make([]byte, maxSSDPAnswer)
		seen    = make(map[string]bool)
		answers int
		last    error
	)
	for _, pause := range ssdpPauses {
		for _, to := range []netip.Addr{r.gateway, ssdpGroup} {
			for _, target := range ssdpTargets {
				// One that cannot be sent leaves the others.
				_, err := c.WriteToUDPAddrPort(searchMessage(to, port, target), netip.AddrPortFrom(to, port))
				if err != nil && last == nil {
					last = err
				}
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(pause)); err != nil {
			return err
		}
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if isTimeout(err) {
				break
			}
			if err == nil && from.Addr().Unmap() != r.gateway {
				continue
			}
			if answers++; answers > maxSSDPAnswers {
				return errNonsense
			}
			if err != nil { // Windows tells here that the gateway refused the question
				last = unheard(err)
				continue
			}
			location, err := r.parseSSDP(buf[:n])
			if err != nil {
				last = err
				continue
			}
			if seen[location.String()] || len(seen) == maxLocations {
				continue
			}
			seen[location.String()] = true
			if found(location) {
				return nil
			}
		}
	}
	if last != nil {
		return last
	}
	return errSilent
}

// searchMessage is an M-SEARCH.
func searchMessage(to netip.Addr, port uint16, target string) []byte {
	return fmt.Appendf(nil, "M-SEARCH * HTTP/1.1\r\nHOST: %s\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n",
		netip.AddrPortFrom(to, port), target)
}

// parseSSDP gives the URL of the description in an answer.
func (r route) parseSSDP(b []byte) (*url.URL, error) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: SSDP: %w", errMalformed, err)
	}
	resp.Body.Close()
	if st := resp.Header.Get("ST"); resp.StatusCode != http.StatusOK || !strings.Contains(st, "InternetGatewayDevice") {
		return nil, fmt.Errorf("%w: SSDP: status %d for %.80q", errMalformed, resp.StatusCode, st)
	}
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return nil, fmt.Errorf("%w: SSDP: %w", errMalformed, err)
	}
	return u, r.checkURL(u)
}

// checkURL accepts plain HTTP on a port of the gateway, named by its address.
func (r route) checkURL(u *url.URL) error {
	host, err := netip.ParseAddr(u.Hostname())
	port := uint64(80)
	if p := u.Port(); err == nil && p != "" {
		port, err = strconv.ParseUint(p, 10, 16)
	}
	if err != nil || u.Scheme != "http" || u.User != nil || host != r.gateway || port == 0 {
		return fmt.Errorf("%w: %.100q", errNotTheGateway, u.Redacted())
	}
	return nil
}
