package portmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// The server's half of the wire format.

func appendPCPResponse(b []byte, h pcpHeader, m *pcpMapping) []byte {
	b = append(b, versionPCP, h.opcode|responseBit, 0, byte(h.result))
	b = binary.BigEndian.AppendUint32(b, seconds(h.lifetime))
	b = binary.BigEndian.AppendUint32(b, h.epoch)
	b = append(b, make([]byte, 12)...)
	if m != nil {
		b = m.append(b)
	}
	return b
}

func appendNATPMPResponse(b []byte, r natpmpResponse) []byte {
	b = append(b, versionNATPMP, r.opcode|responseBit)
	b = binary.BigEndian.AppendUint16(b, uint16(r.result))
	b = binary.BigEndian.AppendUint32(b, r.epoch)
	switch {
	case r.result != 0:
	case r.opcode == natpmpAddress:
		b = append(b, r.address.AsSlice()...)
	default:
		b = binary.BigEndian.AppendUint16(b, r.internal)
		b = binary.BigEndian.AppendUint16(b, r.external)
		b = binary.BigEndian.AppendUint32(b, seconds(r.lifetime))
	}
	return b
}

// TestRequests holds what is sent against messages put together by hand from the RFCs.
func TestRequests(t *testing.T) {
	m := pcpMapping{
		nonce:    [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		protocol: ipUDP,
		internal: 0x1234,
		external: netip.MustParseAddrPort("192.0.2.1:22136"),
	}
	for _, c := range []struct {
		name      string
		got, want []byte
	}{
		{"PCP MAP", m.append(appendPCPRequest(nil, pcpMap, 2*time.Hour, netip.MustParseAddr("10.0.0.9"))), []byte{
			2, 1, 0, 0, 0, 0, 0x1c, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9,
			1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 0, 0, 0, 0x12, 0x34, 0x56, 0x78,
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1,
		}},
		{"PCP ANNOUNCE", appendPCPRequest(nil, pcpAnnounce, 0, netip.MustParseAddr("2001:db8::1")), []byte{
			2, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
		}},
		{"NAT-PMP address", appendNATPMPAddressRequest(nil), []byte{0, 0}},
		{"NAT-PMP map", appendNATPMPMapRequest(nil, natpmpMapTCP, 0x1234, 0x5678, time.Hour), []byte{
			0, 2, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x0e, 0x10,
		}},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, c.got, c.want)
		}
	}
}

func FuzzPCPResponse(f *testing.F) {
	m := &pcpMapping{nonce: [12]byte{1}, protocol: ipTCP, internal: 1, external: netip.MustParseAddrPort("[2001:db8::1]:2")}
	f.Add(appendPCPResponse(nil, pcpHeader{opcode: pcpMap, lifetime: 1<<32*time.Second - time.Second, epoch: 7}, m))
	f.Add(appendPCPResponse(nil, pcpHeader{opcode: pcpAnnounce, result: 3}, nil))
	f.Add(append(appendPCPResponse(nil, pcpHeader{opcode: pcpMap}, m), 3, 0, 0, 4, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, m, err := parsePCPResponse(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		again := appendPCPResponse(nil, h, m)
		if len(again) > len(b) {
			t.Fatalf("%x is longer than %x", again, b)
		}
		for i, c := range again { // reserved bytes are zero in ours
			if c != b[i] && c != 0 && !(i >= pcpHeaderSize+20 && i < pcpHeaderSize+pcpMapSize) {
				t.Fatalf("byte %d: %x, want %x", i, again, b)
			}
		}
		h2, m2, err := parsePCPResponse(again)
		if err != nil || h2 != h || (m == nil) != (m2 == nil) || m != nil && *m != *m2 {
			t.Errorf("%+v %+v, then %+v %+v, %v", h, m, h2, m2, err)
		}
	})
}

func FuzzNATPMPResponse(f *testing.F) {
	f.Add(appendNATPMPResponse(nil, natpmpResponse{opcode: natpmpAddress, address: netip.MustParseAddr("192.0.2.1")}))
	f.Add(appendNATPMPResponse(nil, natpmpResponse{opcode: natpmpMapUDP, internal: 1, external: 2, lifetime: time.Hour}))
	f.Add(appendNATPMPResponse(nil, natpmpResponse{opcode: natpmpMapTCP, result: 3, epoch: 1 << 31}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseNATPMPResponse(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		again := appendNATPMPResponse(nil, r)
		if len(again) > len(b) || !bytes.Equal(again, b[:len(again)]) {
			t.Errorf("%x, want the beginning of %x", again, b)
		}
	})
}

// TestEpoch follows RFC 6887 section 8.5 line by line.
func TestEpoch(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after uint32
		passed        time.Duration
		kept          bool
	}{
		{"the same moment", 100, 100, 0, true},
		{"in step", 100, 160, 60 * time.Second, true},
		{"a second back, two answers crossed", 100, 99, 0, true},
		{"two seconds back", 100, 98, 0, false},
		{"restarted", 86400, 3, time.Hour, false},
		{"restarted, and now ahead of what it said before", 100, 200, time.Hour, false},
		{"a sixteenth slow", 0, 3375, time.Hour, true},
		{"slower than that", 0, 3370, time.Hour, false},
		{"a sixteenth fast", 0, 3838, time.Hour, true},
		{"we were asleep", 0, 7200, time.Minute, false},
		{"as far as it goes", 1<<32 - 1, 0, time.Second, false},
	} {
		var e epoch
		now := time.Unix(1e9, 0)
		if !e.observe(c.before, now) {
			t.Errorf("%s: the first is not taken", c.name)
		}
		if got := e.observe(c.after, now.Add(c.passed)); got != c.kept {
			t.Errorf("%s: kept %v", c.name, got)
		}
		if !e.observe(c.after, now.Add(c.passed)) {
			t.Errorf("%s: a restart is told twice", c.name)
		}
	}
}
