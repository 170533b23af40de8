package link

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/pion/ice/v2"
	"github.com/pion/webrtc/v3"
)

func testDescription() Description {
	return Description{
		Setup:       SetupActPass,
		Fingerprint: [32]byte{1, 2, 3, 0xfe, 31: 0xff},
		Ufrag:       "ab+/CD09",
		Pwd:         "0123456789abcdefghijABCDEFGHIJ+/",
	}
}

func testCandidates() []Candidate {
	return []Candidate{
		newCandidate(CandidateHost, CandidateUDP, a4("192.0.2.1:40000"), 0),
		newCandidate(CandidateSrflx, CandidateUDP, a4("[2001:db8::1]:1"), 3),
		newCandidate(CandidateHost, CandidateTCP, a4("198.51.100.7:443"), 1),
		newCandidate(CandidatePrflx, CandidateUDP, a4("10.0.0.1:65535"), 0),
		newCandidate(CandidateRelay, CandidateUDP, a4("192.0.2.9:3478"), 0),
	}
}

// testReport has everything in it that is sent.
func testReport() NATReport {
	return NATReport{
		V4: NAT{Address: true, Asked: true, Answered: true, Mapping: MappingAddressPortDependent, Filtering: FilteringPortDependent,
			Hairpin: HairpinNo, Externals: 255, Delta: -maxDelta},
		V6:          NAT{Preserved: true, Mapping: MappingNone, Filtering: FilteringOpen, Hairpin: HairpinYes, Delta: maxDelta},
		PortMapping: PortMappingMade,
	}
}

// rawReport encodes a report that need not be valid.
func rawReport(r NATReport) []byte {
	b := []byte{kindNATReport, reportVersion}
	for _, n := range []NAT{r.V4, r.V6} {
		b = append(b, natFlagAsked, byte(n.Mapping), byte(n.Filtering), byte(n.Hairpin), byte(n.Externals), byte(uint16(n.Delta)>>8), byte(n.Delta))
	}
	return append(b, byte(r.PortMapping))
}

func TestMessageRoundTrip(t *testing.T) {
	long := testDescription()
	long.Ufrag, long.Pwd = strings.Repeat("u", maxUfrag), strings.Repeat("p", maxPwd)
	msgs := []Message{testDescription(), long, EndOfCandidates{}, NATReport{}, testReport(), Unknown{255, 1, 2}}
	for _, c := range testCandidates() {
		msgs = append(msgs, c)
	}
	for _, m := range msgs {
		b, err := m.AppendBinary([]byte("kept"))
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if !bytes.HasPrefix(b, []byte("kept")) || len(b)-4 > MaxMessageSize {
			t.Errorf("%+v: %d bytes: %q", m, len(b), b)
		}
		got, err := ParseMessage(b[4:])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, %v, want %+v", got, err, m)
		}
	}
}

// What is not valid can neither be made nor read.
func TestMessageInvalid(t *testing.T) {
	with := func(f func(*Description)) Description { d := testDescription(); f(&d); return d }
	report := func(f func(*NATReport)) NATReport { r := testReport(); f(&r); return r }
	cand := func(f func(*Candidate)) Candidate { c := testCandidates()[0]; f(&c); return c }
	for name, m := range map[string]Message{
		"no setup":         with(func(d *Description) { d.Setup = 0 }),
		"unknown setup":    with(func(d *Description) { d.Setup = 3 }),
		"short ufrag":      with(func(d *Description) { d.Ufrag = "abc" }),
		"long ufrag":       with(func(d *Description) { d.Ufrag = strings.Repeat("a", maxUfrag+1) }),
		"short pwd":        with(func(d *Description) { d.Pwd = d.Pwd[:21] }),
		"long pwd":         with(func(d *Description) { d.Pwd = strings.Repeat("a", maxPwd+1) }),
		"CRLF in ufrag":    with(func(d *Description) { d.Ufrag = "abcd\r\na=fingerprint:md5 00" }),
		"LF in pwd":        with(func(d *Description) { d.Pwd = "0123456789012345678901\n" }),
		"colon in ufrag":   with(func(d *Description) { d.Ufrag = "ab:cd" }),
		"space in pwd":     with(func(d *Description) { d.Pwd = "01234567890 12345678901" }),
		"NUL in ufrag":     with(func(d *Description) { d.Ufrag = "abcd\x00" }),
		"unicode in ufrag": with(func(d *Description) { d.Ufrag = "абвг" }),

		"mapping 5":          report(func(r *NATReport) { r.V4.Mapping = maxMapping + 1 }),
		"filtering 3":        report(func(r *NATReport) { r.V6.Filtering = maxFiltering + 1 }),
		"hairpin 3":          report(func(r *NATReport) { r.V4.Hairpin = maxHairpin + 1 }),
		"step of 65":         report(func(r *NATReport) { r.V4.Delta = maxDelta + 1 }),
		"step of -65":        report(func(r *NATReport) { r.V4.Delta = -maxDelta - 1 }),
		"port mapping 4":     report(func(r *NATReport) { r.PortMapping = maxPortMapping + 1 }),
		"unknown and needed": Unknown{kindOptional - 1},

		"candidate type 0":      cand(func(c *Candidate) { c.Type = 0 }),
		"candidate type 5":      cand(func(c *Candidate) { c.Type = 5 }),
		"candidate transport 0": cand(func(c *Candidate) { c.Transport = 0 }),
		"candidate transport 3": cand(func(c *Candidate) { c.Transport = 3 }),
		"priority 0":            cand(func(c *Candidate) { c.Priority = 0 }),
		"priority 2^31":         cand(func(c *Candidate) { c.Priority = 1 << 31 }),
		"port 0":                cand(func(c *Candidate) { c.Addr = a4("192.0.2.1:0") }),
		"no address":            cand(func(c *Candidate) { c.Addr = netip.AddrPort{} }),
		"zone":                  cand(func(c *Candidate) { c.Addr = a4("[fe80::1%eth0]:1") }),
		"v4 in v6":              cand(func(c *Candidate) { c.Addr = a4("[::ffff:192.0.2.1]:1") }),
	} {
		if b, err := m.AppendBinary(nil); !errors.Is(err, ErrProtocol) || len(b) != 0 {
			t.Errorf("%s: made %q, %v", name, b, err)
		}
		// What a peer without such scruples would send.
		var raw []byte
		switch m := m.(type) {
		case Description:
			raw = append([]byte{kindDescription, messageVersion, byte(m.Setup)}, m.Fingerprint[:]...)
			raw = append(append(raw, byte(len(m.Ufrag))), m.Ufrag...)
			raw = append(append(raw, byte(len(m.Pwd))), m.Pwd...)
		case NATReport:
			raw = rawReport(m)
		case Unknown:
			raw = m
		case Candidate:
			a := m.Addr.Addr().AsSlice()
			raw = []byte{kindCandidate, byte(m.Type), byte(m.Transport), byte(m.Priority >> 24), byte(m.Priority >> 16), byte(m.Priority >> 8), byte(m.Priority), byte(m.Addr.Port() >> 8), byte(m.Addr.Port())}
			raw = append(raw, a...)
		}
		if name == "zone" {
			continue // cannot be written
		}
		if got, err := ParseMessage(raw); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
	}
}

func TestParseMessageMalformed(t *testing.T) {
	d, err := testDescription().AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := testCandidates()[0].AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := testReport().AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, whole := range [][]byte{d, c, {kindEndOfCandidates}, r} {
		for n := range whole {
			if m, err := ParseMessage(whole[:n]); !errors.Is(err, ErrProtocol) {
				t.Errorf("%x cut to %d bytes: %+v, %v", whole, n, m, err)
			}
		}
		if m, err := ParseMessage(append(bytes.Clone(whole), 0)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%x and a byte: %+v, %v", whole, m, err)
		}
	}
	newer := bytes.Clone(d)
	newer[1]++
	for _, b := range [][]byte{newer, {0}, {4}, {127}, append([]byte{255}, make([]byte, MaxMessageSize)...)} {
		if m, err := ParseMessage(b); !errors.Is(err, ErrProtocol) {
			t.Errorf("%x: %+v, %v", b, m, err)
		}
	}
}

// Reading and writing are inverses, and what was read is safe for pion: the SDP made of
// it holds exactly what was in it, and the candidate line too.
func FuzzParseMessage(f *testing.F) {
	seeds := []Message{testDescription(), EndOfCandidates{}, testReport(), Unknown{200}}
	for _, c := range testCandidates() {
		seeds = append(seeds, c)
	}
	for _, m := range seeds {
		b, err := m.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("%x: %v", b, err)
			}
			return
		}
		again, err := m.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x reads as %+v and writes as %x, %v", b, m, again, err)
		}
		switch m := m.(type) {
		case Description:
			checkSDP(t, m)
		case Candidate:
			checkCandidateLine(t, m, 0)
			if m.Transport == CandidateUDP {
				checkCandidateLine(t, m, 3)
			}
		}
	})
}

// checkSDP parses what is given to pion, with pion's parser, and compares.
func checkSDP(t *testing.T, d Description) {
	t.Helper()
	desc := sessionDescription(webrtc.SDPTypeOffer, d)
	parsed, err := desc.Unmarshal()
	if err != nil {
		t.Fatalf("pion cannot read %q: %v", desc.SDP, err)
	}
	if len(parsed.MediaDescriptions) != 1 {
		t.Fatalf("%d media in %q", len(parsed.MediaDescriptions), desc.SDP)
	}
	media := parsed.MediaDescriptions[0]
	seen := map[string]int{}
	for _, a := range media.Attributes {
		seen[a.Key]++
	}
	for _, key := range []string{"fingerprint", "ice-ufrag", "ice-pwd", "setup"} {
		if seen[key] != 1 {
			t.Fatalf("%d times %s in %q", seen[key], key, desc.SDP)
		}
	}
	if seen["candidate"] != 0 || len(parsed.Attributes) != 1 {
		t.Fatalf("more than was put in: %q", desc.SDP)
	}
	if v, _ := media.Attribute("ice-ufrag"); v != d.Ufrag {
		t.Fatalf("ufrag %q became %q", d.Ufrag, v)
	}
	if v, _ := media.Attribute("ice-pwd"); v != d.Pwd {
		t.Fatalf("pwd %q became %q", d.Pwd, v)
	}
	if v, _ := media.Attribute("fingerprint"); !strings.HasPrefix(v, "sha-256 ") || len(v) != len("sha-256 ")+32*3-1 {
		t.Fatalf("fingerprint %q", v)
	}
}

func checkCandidateLine(t *testing.T, c Candidate, retry int) {
	t.Helper()
	line := c.marshal(retry)
	got, err := ice.UnmarshalCandidate(strings.TrimPrefix(line, "candidate:"))
	if err != nil {
		t.Fatalf("pion cannot read %q: %v", line, err)
	}
	typ := c.Type.String()
	switch {
	case retry > 0:
		typ = "prflx"
	case c.Transport == CandidateTCP:
		typ = "host"
	}
	if got.Address() != c.Addr.Addr().String() || got.Port() != int(c.Addr.Port()) || got.Type().String() != typ ||
		got.Priority() != c.Priority || got.NetworkType().String() != c.Network() || got.Component() != 1 {
		t.Fatalf("%q read as %v, priority %d", line, got, got.Priority())
	}
	if c.Transport == CandidateTCP && got.TCPType() != ice.TCPTypePassive {
		t.Fatalf("%q has TCP type %v", line, got.TCPType())
	}
}

func TestCandidateLines(t *testing.T) {
	for _, c := range testCandidates() {
		checkCandidateLine(t, c, 0)
	}
	host := testCandidates()[0]
	first, err := ice.UnmarshalCandidate(strings.TrimPrefix(host.marshal(0), "candidate:"))
	if err != nil {
		t.Fatal(err)
	}
	var all []ice.Candidate
	all = append(all, first)
	for n := 1; n < 4; n++ {
		c, err := ice.UnmarshalCandidate(strings.TrimPrefix(host.marshal(n), "candidate:"))
		if err != nil {
			t.Fatal(err)
		}
		for _, before := range all {
			if c.Equal(before) {
				t.Errorf("retry %d is the same to pion as %v", n, before)
			}
		}
		all = append(all, c)
	}
}

func TestCandidatePriorities(t *testing.T) {
	addr := a4("192.0.2.1:1")
	order := []Candidate{
		newCandidate(CandidateHost, CandidateUDP, addr, 0),
		newCandidate(CandidateHost, CandidateUDP, addr, 1),
		newCandidate(CandidatePrflx, CandidateUDP, addr, 0),
		newCandidate(CandidateSrflx, CandidateUDP, addr, 0),
		newCandidate(CandidateSrflx, CandidateUDP, addr, 100),
		newCandidate(CandidateHost, CandidateTCP, addr, 0),
		newCandidate(CandidateRelay, CandidateUDP, addr, 0),
	}
	for i, c := range order {
		if err := c.validate(); err != nil {
			t.Error(err)
		}
		if i > 0 && c.Priority >= order[i-1].Priority {
			t.Errorf("%v has priority %d, and %v before it %d", c, c.Priority, order[i-1], order[i-1].Priority)
		}
	}
	if got := order[0].Priority; got != 2130706431 { // what every ICE stack gives its first host candidate
		t.Errorf("best host candidate has priority %d", got)
	}
}

func TestRefusedAddresses(t *testing.T) {
	p := addrPolicy{broadcasts: map[netip.Addr]struct{}{netip.MustParseAddr("192.168.1.255"): {}}}
	for addr, refused := range map[string]bool{
		"0.0.0.0": true, "0.1.2.3": true, "::": true,
		"127.0.0.1": true, "127.8.8.8": true, "::1": true,
		"224.0.0.1": true, "239.255.255.250": true, "ff02::1": true, "ff05::2": true,
		"255.255.255.255": true, "240.0.0.1": true, "192.168.1.255": true,
		"169.254.169.254": true, "169.254.1.1": true, "fe80::1": true,
		"fd00:ec2::254": true, "100.100.100.200": true, "192.0.0.192": true, "168.63.129.16": true, "fd20:ce::254": true,
		"64:ff9b::a9fe:a9fe": true, "64:ff9b:1::a9fe:a9fe": true, "2002:a9fe:a9fe::1": true, "2001:0:1::1": true,
		"::ffff:169.254.169.254": true, "::169.254.169.254": true, "::ffff:0:169.254.169.254": true,
		"fd12:3456::5efe:a9fe:a9fe": true, "2001:db8::200:5efe:7f00:1": true, "100::1": true,

		"192.168.1.1": false, "10.0.0.1": false, "100.64.0.1": false, "203.0.113.7": false,
		"192.168.2.255": false, "2001:db8::1": false, "fd12:3456::1": false, "fd00:ec2::253": false,
	} {
		if why := p.refusal(netip.MustParseAddr(addr)); (why != "") != refused {
			t.Errorf("%s: %q", addr, why)
		}
	}
	p.loopback = true
	for _, addr := range []string{"127.0.0.1", "::1"} {
		if why := p.refusal(netip.MustParseAddr(addr)); why != "" {
			t.Errorf("loopback allowed, and %s refused: %s", addr, why)
		}
	}
}

func TestBroadcast(t *testing.T) {
	for _, tc := range []struct {
		addr string
		bits int
		want string
	}{
		{"192.168.1.17", 24, "192.168.1.255"},
		{"10.1.2.3", 8, "10.255.255.255"},
		{"10.1.2.3", 30, "10.1.2.3"},
		{"10.1.2.5", 31, ""},
		{"10.1.2.5", 32, ""},
		{"2001:db8::1", 64, ""},
	} {
		got, ok := broadcast(netip.MustParseAddr(tc.addr), tc.bits)
		if ok != (tc.want != "") || ok && got.String() != tc.want {
			t.Errorf("%s/%d: %v, %t, want %q", tc.addr, tc.bits, got, ok, tc.want)
		}
	}
}

func TestIdentities(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		d, _, err := newIdentity(SetupActive)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.validate(); err != nil {
			t.Error(err)
		}
		for _, s := range []string{d.Ufrag, d.Pwd, string(d.Fingerprint[:])} {
			if seen[s] {
				t.Errorf("%q twice", s)
			}
			seen[s] = true
		}
	}
}

func TestBinding(t *testing.T) {
	a, b := testDescription(), testDescription()
	b.Setup, b.Ufrag = SetupActive, "other"
	first := binding(a, b)
	if binding(a, b) != first {
		t.Error("not the same twice")
	}
	changed := b
	changed.Fingerprint[7]++
	for name, other := range map[string][32]byte{"swapped": binding(b, a), "changed": binding(a, changed)} {
		if other == first {
			t.Errorf("%s: the same", name)
		}
	}
}
