package portmap

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// helperEnv makes the test binary the helper: a process in a namespace of its own, where
// sockets that an HTTP client opens belong, too. Its value is a role.
const helperEnv = "PAIRTERM_PORTMAP_TEST"

// helper plays a role until its input ends.
//
//	client        has a Client map a UDP and a TCP port and echoes what comes to them
//	probe         prints Probe's report
//	PCP …         does with one protocol what it reads: add, check, age, remove
//	PCP6          the same over IPv6, and prints its own address first
func helper(role string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	udp, err := net.ListenUDP("udp", nil)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	tcp, err := net.ListenTCP("tcp4", nil)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			udp.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	udpPort, tcpPort := udp.LocalAddr().(*net.UDPAddr).AddrPort().Port(), tcp.Addr().(*net.TCPAddr).AddrPort().Port()
	input := bufio.NewScanner(os.Stdin)
	switch role {
	case "client":
		c := New(Config{})
		for network, port := range map[string]uint16{"udp4": udpPort, "tcp4": tcpPort} {
			defer c.Map(network, port, func(external []netip.AddrPort, answered bool) {
				fmt.Println(network, external, answered)
			})()
		}
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		input.Scan()
		cancel()
		fmt.Println("ended", <-ended)
	case "probe":
		report, err := Probe(ctx)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		for i := range report.Services { // errors are not for JSON
			report.Services[i].Err = nil
		}
		out, _ := json.Marshal(report)
		fmt.Println(string(out))
	default:
		role, six := strings.CutSuffix(role, "6")
		r, err := findRoute(six)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		name := "udp4"
		if six {
			name = "udp6"
			fmt.Println(netip.AddrPortFrom(r.local, udpPort))
		}
		for _, o := range (network{}).withDefaults().openers(r) {
			if o.protocol.String() != role {
				continue
			}
			s, err := o.open(ctx)
			fmt.Println("open", err)
			want := request{network: name, port: udpPort, nonce: [12]byte{1, 2, 3}}
			var g grant
			for err == nil && input.Scan() {
				switch strings.TrimSpace(input.Text()) {
				case "add":
					g, err = obtain(ctx, s, r, want)
					want.suggested = g.external
					fmt.Println("add", g.external, g.lifetime, err)
				case "check":
					held, cerr := s.check(ctx, want, g)
					fmt.Println("check", held, cerr)
				case "age": // until a restart can be told from a clock that is a little off
					for err == nil && age(s) < 4 {
						_, err = s.check(ctx, want, g)
						time.Sleep(50 * time.Millisecond)
					}
					fmt.Println("age", err)
				case "remove":
					err = s.remove(ctx, want, g)
					fmt.Println("remove", err)
				}
			}
		}
	}
}

// age is the epoch time of a server, in seconds; UPnP has none, and needs none.
func age(s server) uint32 {
	switch s := s.(type) {
	case *pcpServer:
		return s.clock.epoch.value
	case *natpmpServer:
		return s.clock.epoch.value
	}
	return 1 << 31
}
