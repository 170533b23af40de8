// Package portmap asks the router in front of this machine to forward ports to it, by
// PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP IGD 1 and 2, so that peers get through a
// NAT whose mappings cannot be guessed, and through an IPv6 firewall (PCP only).
//
// Make one [Client] a process, run it beside everything else, and ask it for ports:
//
//	c := portmap.New(portmap.Config{})
//	go c.Run(ctx) // and wait for it: it takes the mappings away again
//	release := c.Map("udp4", 40000, func(external []netip.AddrPort, answered bool) { … })
//
// Map returns at once and the answer comes when there is one, so nothing waits for a
// router. A mapping is renewed at half of its lifetime, asked for anew when the router
// has restarted, moved the external address or forgotten the mapping, and when this
// machine has another router or address. [Probe] tells what the router offers.
//
// Promised: nothing is sent but to the gateway of the default route, and to the
// multicast address of SSDP; answers count only if they come from the gateway, and PCP's
// only with the nonce of the question; whatever the gateway says costs bounded memory
// and time. A description of an Internet gateway device that is not on the gateway itself
// is not fetched, and redirects are not followed, so no router makes this machine send
// requests elsewhere.
//
// Not promised: that the address is right. A router can name any unicast address, so it
// is good for one thing, to be offered to peers as a candidate. An external address that
// is not public means that there is another NAT behind this one; see [DoubleNAT].
package portmap
