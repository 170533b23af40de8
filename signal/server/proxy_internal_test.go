package server

import (
	"bytes"
	"testing"
)

// FuzzProxyHeader checks that whatever passes for a header has been read to its
// end and no further, and yields no address that it does not hold.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte(proxySignature + "\x20\x00\x00\x00rest"))
	f.Add([]byte(proxySignature + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x63\x00\x50GET"))
	f.Add([]byte(proxySignature + "\x21\x21\x00\x24" + string(make([]byte, 36))))
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		addr, err := readProxyHeader(r)
		if err != nil {
			if addr.IsValid() {
				t.Errorf("an address in spite of %v", err)
			}
			return
		}
		n := len(b) - r.Len()
		if n < 16 || n != 16+int(b[14])<<8+int(b[15]) {
			t.Errorf("read %d bytes", n)
		}
		if addr.IsValid() && (b[12] != proxyProxy || !bytes.Contains(b[16:n], addr.Addr().AsSlice())) {
			t.Errorf("%v is not what %x says", addr, b[:n])
		}
	})
}
